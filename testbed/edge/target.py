"""The target's half of a migration: called by the source over SSH, gone when the line is.

It prepares an empty container, takes in memory and files that are sent ahead, and at the end
restores the processes from pages that are here already. Until the source has said ``confirm`` the
restored service lives on trust: when the line ends it is stopped and waits, and the source, or
the controller on its behalf, asks for it again (``resume``). Everything else that was made here is
removed when the line ends, by a guard if this process dies.
"""

import contextlib
import importlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from . import codec, container, files, layers, urgency
from .arriving import Arriving
from .channel import Channel, ChannelClosedError
from .container import Holder
from .conversation import Conversation, Handler
from .criu import INSIDE, Criu
from .guard import Guard, held
from .hold import Hold
from .spec import Spec
from .states import SOON_S
from .visits import Visit

CRIU_FIRST_PID = 20000
LATE_PACKETS_S = 0.05
LONGEST_FILL_S = 60.0
TURN_S = 0.05
LAYERS_LOCK, LONGEST_LAYERS_S = ".layers", 600.0
"""No service has such a name. Whoever brings layers over a slow link rightly takes long."""


class Target:
    """State of one migration at its target; every public method answers one message."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._holder: Holder | None = None
        self._hold: Hold | None = None
        self._criu: Criu | None = None
        self._memory: Arriving | None = None
        self._guard: Guard | None = None
        self._beside: threading.Thread | None = None
        self._placed = threading.Event()
        self._line_ended = threading.Event()
        self._given_up = False
        self._stack = contextlib.ExitStack()
        self._fetching = contextlib.ExitStack()
        self._begun = ""
        self._memory_is_whole = False
        self.answered = False
        self._confirmed = False

    def lacking(self, head: dict[str, Any], _: bytes) -> dict[str, Any]:
        """Name the image's layers that are to be sent; whoever else wants such waits meanwhile."""
        if layers.missing(head["layers"]):
            self._fetching.enter_context(held(LAYERS_LOCK, longest_s=LONGEST_LAYERS_S))
        return {"lacking": layers.missing(head["layers"])}

    def layer(self, head: dict[str, Any], data: bytes) -> None:
        """Take a piece of a layer."""
        layers.take(head["digest"], head["offset"], data)

    def prepare(self, head: dict[str, Any], _: bytes) -> dict[str, Any]:
        """Make the empty container, start CRIU in it, let packets for the service wait."""
        self._fetching.close()
        spec = Spec.from_json(head["spec"])
        lock = self._stack.enter_context(held(spec.name))
        if _lives(spec.name):
            raise RuntimeError(f"service {spec.name!r} runs at the target already")
        self._begun = spec.name
        self._guard = Guard(spec.name, spec.cgroup, lock)
        self._holder = container.create(spec)  # in place of what an interrupted move left here
        visit = Visit(spec) if head["ahead"] else None
        self._memory = Arriving(spec.scratch, partial(kill_all, spec.cgroup), self._want, visit)
        self._criu = Criu(self._holder.init, cgroup=spec.cgroup, first_pid=CRIU_FIRST_PID)
        self._hold = Hold(spec.address, f"hold-{spec.number}")
        self._hold.begin()
        if self._criu.features()["lazy_pages"]:
            importlib.import_module("pycriu.images.mm_pb2")  # now, not while the service is frozen
            why_not = ""
        else:
            why_not = "this kernel has no userfaultfd with the events that CRIU needs"
        told = visit.digests if visit else b""
        return {"fill": why_not, "codecs": codec.available(), "payload": told}

    def pages(self, head: dict[str, Any], data: bytes) -> None:
        """Take pages of one task."""
        self._arriving().take(head, data)

    def forked(self, head: dict[str, Any], _: bytes) -> None:
        """Let a task that was not known yet begin with the memory of the one it was forked from."""
        self._arriving().fork(head)

    def files(self, head: dict[str, Any], data: bytes) -> None:
        """Bring the container's files up to date."""
        root = Path(f"/proc/{self._ready().init}/root")
        files.unpack(data, head["removed"], root)

    def sync(self, head: dict[str, Any], _: bytes) -> dict[str, Any]:
        """Answer when everything before has been taken in."""
        return {"gone": self._arriving().seal()} if head.get("seal") else {}

    def hurry(self, _: dict[str, Any], __: bytes) -> None:
        """Be served first: the service is about to stand still."""
        urgency.hurry()
        if (carrier := urgency.carrier()) > 0:
            urgency.put_first(carrier)
        if self._criu:
            self._criu.put_first()

    def restore(self, head: dict[str, Any], data: bytes) -> dict[str, Any]:
        """Bring the service to life from the images and let the waiting packets in."""
        try:
            return self._restore(head, data)
        except BaseException:
            self._ready().kill()  # before the source hears of it and goes on
            raise

    def _restore(self, head: dict[str, Any], data: bytes) -> dict[str, Any]:
        holder, spec, memory = self._ready(), self._ready().spec, self._arriving()
        if self._criu is None or self._hold is None:
            raise RuntimeError("asked to restore before anything was prepared")
        received_s = time.time()
        memory.place(head, data)
        self._placed.set()
        composed_s = time.time()
        self._criu.restore(f"{INSIDE}/scratch/img", lazy=memory.is_filling)
        if memory.problems:
            raise RuntimeError(memory.problems[0])
        restored_s = time.time()
        if not self._source_is_there(restored_s - received_s):
            raise ChannelClosedError("the source went away while its service was being restored")
        waited = self._hold.release(spec.device)
        self.answered = True
        released_s = time.time()
        holder.service, holder.waiting = head["service"], True
        holder.save()
        if memory.is_filling:
            threading.Thread(target=self._await_fill, args=[memory], daemon=True).start()
        else:
            self._is_whole()
        return {
            "received_s": received_s,
            "composed_s": composed_s,
            "restored_s": restored_s,
            "released_s": released_s,
            "held_packets": waited,
        }

    def _source_is_there(self, took_s: float) -> bool:
        """Whether the source lives after a restore that took so long."""
        if self._beside:  # it is listened to meanwhile
            return not self._line_ended.is_set()
        return took_s <= SOON_S or self._channel.is_there()

    def came(self, head: dict[str, Any], _: bytes) -> dict[str, Any]:
        """Pages that were to come later are here."""
        self._arriving().came(head)
        return {"message": "taken"}

    def beside(self, action: Callable[[], None]) -> None:
        """Restore while further messages are answered, once it is known what is to come."""

        def act() -> None:
            try:
                with contextlib.suppress(ChannelClosedError):
                    action()
            finally:
                self._placed.set()

        self._beside = threading.Thread(target=act)
        self._beside.start()
        self._placed.wait()

    def whole(self, _: dict[str, Any], __: bytes) -> dict[str, Any]:
        """Answer when everything is here; do what could wait until the service answered."""
        urgency.calm_down()
        time.sleep(LATE_PACKETS_S)  # packets that were on the way into the hold
        late = self._hold.release(self._ready().spec.device) if self._hold else 0
        fills = self._filled()
        self._tidy()
        return {"late_packets": late, "fills": fills}

    def confirm(self, _: dict[str, Any], __: bytes) -> dict[str, Any]:
        """Keep the service, from now on for good: the point of no return."""
        if not self._memory_is_whole:
            raise RuntimeError("told to keep a service whose memory is not all here")
        if self._guard:
            self._guard.say("done")
        self._ready().adopt()
        self._confirmed = True
        return {}

    def resume(self, head: dict[str, Any], _: bytes) -> dict[str, Any]:
        """Take up a move whose line broke; tell whether the service is here, whole.

        If it is not, nothing of it will ever be.
        """
        name = head["service"]
        lock = self._stack.enter_context(held(name))
        holder = container.restored(name)
        if holder is None:
            container.destroy(name)
            return {"here": False}
        self._holder, self.answered, self._confirmed = holder, True, not holder.waiting
        if holder.waiting:
            self._guard = Guard(name, holder.spec.cgroup, lock)
        self._is_whole()
        self._tidy()
        return {"here": True}

    def _is_whole(self) -> None:
        if self._given_up:
            return
        self._memory_is_whole = True
        if self._guard:
            self._guard.say("whole")

    def _await_fill(self, memory: Arriving) -> None:
        """Have the guard know at once that the service is whole, asked or not."""
        if not memory.filled(None).problems and not memory.owed:
            self._is_whole()

    def _tidy(self) -> None:
        self._let_go()
        for folder in ("base", "img"):
            shutil.rmtree(self._ready().spec.scratch / folder, ignore_errors=True)

    def _filled(self) -> list[tuple[float, float, str]]:
        """Wait until all memory is there; return when that was, and how it went.

        Raises
        ------
        RuntimeError
            If some of it will never be there: the service is ended rather than left wrong.
        """
        if self._memory is None or not self._memory.is_filling:
            return []
        tally = self._memory.filled(LONGEST_FILL_S)
        if tally.problems:
            self._ready().kill()
            raise RuntimeError(f"the service was ended: {'; '.join(tally.problems)}")
        self._is_whole()
        detail = f"{tally.pages} pages, {tally.faults} of them asked for"
        return [(tally.restored_s, tally.filled_s, detail)]

    def clean_up(self) -> None:
        """The line ended: a restored service nobody confirmed waits, frozen; all else goes."""
        urgency.calm_down()
        self._line_ended.set()
        self._fetching.close()
        if self._memory and self._memory.owed:
            self._give_up()
        elif self._beside:
            self._beside.join()
        if self._holder and not self._confirmed:
            if self.answered:
                self._holder.freeze()
                with contextlib.suppress(RuntimeError, TimeoutError):
                    self._filled()
            self._tidy()
        self._let_go()
        if self._begun and (self._given_up or not self._memory_is_whole):
            container.destroy(self._begun)
        if self._guard:
            self._guard.dismiss()
        self._stack.close()

    def fail(self) -> None:
        """What is restored beside this is ended, before the source hears of a failure and goes on.

        A restore that fails by itself has done so already.
        """
        ours = self._beside is threading.current_thread()
        if self._beside and not ours and not self._confirmed:
            self._give_up()

    def _give_up(self) -> None:
        """End a service whose memory can never be whole here: only the source has it."""
        holder, self._given_up = self._ready(), True
        while self._beside and self._beside.is_alive():
            holder.kill()  # else a restore may wait for memory for ever
            self._beside.join(TURN_S)
        holder.kill()
        self.answered = False

    def _want(self, task: int, page: int) -> None:
        self._channel.send({"message": "want", "task": task, "page": page})

    def _ready(self) -> Holder:
        if self._holder is None:
            raise RuntimeError("nothing was prepared here yet")
        return self._holder

    def _arriving(self) -> Arriving:
        if self._memory is None:
            raise RuntimeError("nothing was prepared here yet")
        return self._memory

    def _let_go(self) -> None:
        if self._hold:
            self._hold.close()
            self._hold = None
        if self._memory:
            self._memory.close()
            self._memory = None
        if self._criu:
            self._criu.close()
            self._criu = None


def kill_all(cgroup: Path) -> None:
    """End every process of a restored service; no error where its container has gone."""
    with contextlib.suppress(FileNotFoundError):
        (cgroup / "cgroup.kill").write_text("1")


def _lives(name: str) -> bool:
    """Whether a service lives here for good, not left over from an interrupted move."""
    holder = container.restored(name)
    return holder is not None and not holder.waiting


def serve(channel: Channel) -> None:
    """Answer the source's messages until it hangs up."""
    target = Target(channel)
    handlers: dict[str, Handler] = {
        "lacking": target.lacking,
        "layer": target.layer,
        "prepare": target.prepare,
        "pages": target.pages,
        "forked": target.forked,
        "files": target.files,
        "sync": target.sync,
        "hurry": target.hurry,
        "restore": target.restore,
        "came": target.came,
        "whole": target.whole,
        "confirm": target.confirm,
        "resume": target.resume,
    }
    try:
        Conversation(channel, handlers, fail=target.fail, beside=target.beside).go_on()
    except ChannelClosedError:
        pass
    finally:
        target.clean_up()


def main() -> None:
    """Speak on standard input and output, and let nothing else speak there."""
    reader = os.fdopen(os.dup(0), "rb", buffering=0)
    writer = os.fdopen(os.dup(1), "wb", buffering=0)
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    os.dup2(2, 1)
    channel = Channel(reader, writer)
    channel.keep_alive()
    serve(channel)
    channel.close()


if __name__ == "__main__":
    main()
