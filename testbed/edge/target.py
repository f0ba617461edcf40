"""The target's half of a migration: called by the source over SSH, gone when the line is.

It prepares an empty container, takes in memory and files that are sent ahead, and at the end
restores the processes from pages that are here already. What it made is removed when the line
ends before the service answered.
"""

import contextlib
import fcntl
import importlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from . import container, files, netlink
from .channel import Channel, ChannelClosedError, patience
from .container import Holder
from .criu import INSIDE, Criu
from .feed import Feed
from .fill import Fill, Run
from .hold import Hold
from .incoming import Memory
from .pages import Span
from .spec import Spec
from .squeeze import expand

CRIU_FIRST_PID = 20000
LATE_PACKETS_S = 0.05
LONGEST_FILL_S = 60.0
LONGEST_SILENCE_S = 5.0
"""After it a source that owes memory is given up."""


class Target:
    """State of one migration at its target; every public method answers one message."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._holder: Holder | None = None
        self._hold: Hold | None = None
        self._criu: Criu | None = None
        self._fill: Fill | None = None
        self._guard: Guard | None = None
        self._filling = False
        self._feed: Feed | None = None
        self._beside: threading.Thread | None = None
        self._placed = threading.Event()
        self._memory: dict[int, Memory] = {}
        self._stack = contextlib.ExitStack()
        self.answered = False
        self._confirmed = False

    def prepare(self, head: dict[str, Any], _: bytes) -> dict[str, Any]:
        """Make the empty container, start CRIU in it, let packets for the service wait."""
        spec = Spec.from_json(head["spec"])
        lock = self._stack.enter_context(held(spec.name))
        if spec.cgroup.exists() and (spec.cgroup / "cgroup.procs").read_text().strip():
            raise RuntimeError(f"service {spec.name!r} runs at the target already")
        self._holder = container.create(spec)
        for folder in ("base", "img"):
            (spec.scratch / folder).mkdir()
        self._criu = Criu(self._holder.init, cgroup=spec.cgroup, first_pid=CRIU_FIRST_PID)
        self._hold = Hold(spec.address, f"hold-{spec.number}")
        self._hold.begin()
        self._fill = Fill(spec.scratch / "img" / "lazy-pages.socket")
        self._fill.tally.spoil = partial(end, spec.cgroup)
        if self._criu.features()["lazy_pages"]:
            importlib.import_module("pycriu.images.mm_pb2")  # now, not while the service is frozen
            self._guard = Guard(spec.cgroup, lock)
            return {"fill": ""}
        return {"fill": "this kernel has no userfaultfd with the events that CRIU needs"}

    def pages(self, head: dict[str, Any], data: bytes) -> None:
        """Take pages of one task."""
        memory = self._of(head["task"])
        whole = expand(data, head["whole"]) if "whole" in head else data
        view, at = memoryview(whole), 0
        for start, end in head["spans"]:
            memory.take(start, view[at : at + end - start])
            at += end - start

    def forked(self, head: dict[str, Any], _: bytes) -> None:
        """Let a task that was not known yet begin with the memory of the one it was forked from."""
        self._of(head["task"]).take_over(self._of(head["parent"]))

    def _of(self, task: int) -> Memory:
        if task not in self._memory:
            base = self._ready().spec.scratch / "base"
            self._memory[task] = Memory(base, task, len(self._memory) + 1)
        return self._memory[task]

    def files(self, head: dict[str, Any], data: bytes) -> None:
        """Bring the container's files up to date."""
        root = Path(f"/proc/{self._ready().init}/root")
        files.unpack(data, head["removed"], root)

    def sync(self, head: dict[str, Any], _: bytes) -> dict[str, Any]:
        """Answer when everything before has been taken in."""
        if head.get("seal"):
            for memory in self._memory.values():
                memory.seal()
        return {}

    def restore(self, head: dict[str, Any], data: bytes) -> dict[str, Any]:
        """Bring the service to life from the images and let the waiting packets in."""
        holder, spec = self._ready(), self._ready().spec
        if self._criu is None or self._hold is None:
            raise RuntimeError("asked to restore before anything was prepared")
        received_s = time.time()
        folder = spec.scratch / "img"
        self._place(head, data, folder)
        self._placed.set()
        composed_s = time.time()
        self._criu.restore(f"{INSIDE}/scratch/img", lazy=self._filling)
        if self._fill and self._fill.tally.problems:
            raise RuntimeError(self._fill.tally.problems[0])
        restored_s = time.time()
        held = self._hold.release(spec.device)
        self.answered = True
        holder.service = head["service"]
        return {
            "received_s": received_s,
            "composed_s": composed_s,
            "restored_s": restored_s,
            "released_s": time.time(),
            "held_packets": held,
        }

    def _place(self, head: dict[str, Any], data: bytes, folder: Path) -> None:
        """Write the images that CRIU restores from."""
        view, at, small = memoryview(data), 0, dict[str, bytes]()
        for name, size in head["images"]:
            small[name] = bytes(view[at : at + size])
            at += size
        runs: dict[int, list[Run]] = {}
        absent: dict[int, list[Span]] = {}
        for name, task in head["tasks"].items():
            pagemap = small.pop(name)
            if head["fill"]:
                mm = small[f"mm-{task}.img"]
                stale = None if head["stale"] is None else head["stale"].get(str(task), [])
                runs[task], absent[task] = self._of(task).lay_out(pagemap, mm, folder, stale)
            else:
                self._memory[task].seal()
                self._memory[task].compose(pagemap, folder)
        for name, content in small.items():
            (folder / name).write_bytes(content)
        if not head["fill"]:
            (folder / "parent").symlink_to("../base")
        elif head["stale"] is not None:
            self._begin_to_feed(runs, absent)
        elif self._fill:
            self._fill.begin(runs, {int(task): spans for task, spans in head["hot"].items()})
            self._filling = True

    def _begin_to_feed(self, runs: dict[int, list[Run]], absent: dict[int, list[Span]]) -> None:
        """Let memory be filled in that comes only while it is."""

        def ask(task: int, page: int) -> None:
            self._channel.send({"message": "want", "task": task, "page": page})

        if self._fill:
            self._feed = Feed(ask)
            self._fill.begin_with(self._feed.fillers(runs, absent, self._fill))
            self._filling = True

    def came(self, head: dict[str, Any], _: bytes) -> dict[str, Any]:
        """Pages that were to come later are here, in the version that the service stopped with."""
        if self._feed is None:
            raise RuntimeError("nothing was to come later")
        task = head["task"]
        self._feed.came(task, self._of(task).runs(map(tuple, head["spans"])))
        return {"message": "taken"}

    def beside(self, action: Callable[[], None]) -> None:
        """Restore while further messages are answered, once it is known what is to come."""

        def act() -> None:
            with contextlib.suppress(ChannelClosedError):
                action()
            self._placed.set()

        self._beside = threading.Thread(target=act)
        self._beside.start()
        self._placed.wait()

    @property
    def patience_s(self) -> float:
        """How long to wait for the next message; 0 for as long as the line lives."""
        return LONGEST_SILENCE_S if self._feed and self._feed.owed else 0

    def confirm(self, _: dict[str, Any], __: bytes) -> dict[str, Any]:
        """Everything that could wait until the service answered."""
        holder = self._ready()
        holder.save()
        self._confirmed = True
        time.sleep(LATE_PACKETS_S)  # packets that were on the way into the hold
        late = self._hold.release(holder.spec.device) if self._hold else 0
        fills = self._filled()
        self._let_go()
        for folder in ("base", "img"):
            shutil.rmtree(holder.spec.scratch / folder, ignore_errors=True)
        return {"late_packets": late, "fills": fills}

    def _filled(self) -> list[tuple[float, float, str]]:
        """Wait until all memory is there; return when that was, and how it went.

        Raises
        ------
        RuntimeError
            If some of it will never be there: the service is ended rather than left wrong.
        """
        if not self._filling or self._fill is None:
            self._dismiss_guard()
            return []
        tally = self._fill.end(LONGEST_FILL_S)
        if tally.problems:
            self._ready().kill()
            raise RuntimeError(f"the service was ended: {'; '.join(tally.problems)}")
        self._filling = False
        self._dismiss_guard()
        detail = f"{tally.pages} pages, {tally.faults} of them asked for"
        return [(tally.restored_s, tally.filled_s, detail)]

    def clean_up(self) -> None:
        """The line ended: a restored service nobody confirmed waits, frozen; all else goes."""
        if self._holder is None:
            return
        self._give_up_what_lacks_memory(self._holder)
        if self.answered and not self._confirmed:
            self._holder.freeze()
            self._holder.save()
        if self.answered:
            self._filled()
        self._dismiss_guard()
        self._let_go()
        if not self.answered:
            container.destroy(self._holder.spec.name)
        self._stack.close()

    def _give_up_what_lacks_memory(self, holder: Holder) -> None:
        """End a service whose missing memory can never come: only the source has it whole."""
        while self._beside and self._beside.is_alive():
            if self._feed and self._feed.owed:
                holder.kill()  # else a restore may wait for memory for ever
            self._beside.join(0.05)
        if self._feed and self._feed.owed:
            holder.kill()
            self.answered = False

    def _dismiss_guard(self) -> None:
        if self._guard:
            self._guard.dismiss()
            self._guard = None

    def _ready(self) -> Holder:
        if self._holder is None:
            raise RuntimeError("nothing was prepared here yet")
        return self._holder

    def _let_go(self) -> None:
        if self._hold:
            self._hold.close()
            self._hold = None
        if self._fill:
            self._fill.close()
            self._fill = None
        if self._criu:
            self._criu.close()
            self._criu = None


class Guard:
    """Ends a restored service if whoever fills its memory dies before all of it is there.

    Nobody could tell missing pages from pages of zeros. It keeps the lock of `held` until then, so
    that nobody takes the service for a whole one.
    """

    SCRIPT = 'read done || echo 1 > "$0/cgroup.kill"'

    def __init__(self, cgroup: Path, lock: int) -> None:
        self._process = subprocess.Popen(
            ["sh", "-c", self.SCRIPT, str(cgroup)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[lock],
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """All memory is there, or the service is gone anyway."""
        self._process.communicate(b"done\n")


@contextlib.contextmanager
def held(name: str) -> Iterator[int]:
    """Be the only one on this edge that makes or decides about a service's container here."""
    container.STATE.mkdir(parents=True, exist_ok=True)
    with (container.STATE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def adopt(name: str) -> bool:
    """Let a restored service that waits frozen go on; False where there is none."""
    try:
        holder = Holder.load(name)
    except KeyError:
        return False
    if not holder.service or not holder.processes():
        return False
    netlink.replace_route(holder.spec.address, holder.spec.device)
    holder.thaw()
    return True


def end(cgroup: Path) -> None:
    """End all processes of a cgroup; no error where it has gone."""
    with contextlib.suppress(FileNotFoundError):
        (cgroup / "cgroup.kill").write_text("1")


Handler = Callable[[dict[str, Any], bytes], dict[str, Any] | None]


def serve(channel: Channel) -> None:
    """Answer the source's messages until it hangs up."""
    target = Target(channel)
    handlers: dict[str, Handler] = {
        "prepare": target.prepare,
        "pages": target.pages,
        "forked": target.forked,
        "files": target.files,
        "sync": target.sync,
        "restore": target.restore,
        "confirm": target.confirm,
        "came": target.came,
    }
    failed = ""

    def reply(head: dict[str, Any], data: bytes) -> None:
        nonlocal failed
        try:
            answer = {"error": failed} if failed else handlers[head["message"]](head, data)
        except Exception as error:  # noqa: BLE001 - whatever it is, the source must hear of it
            failed = f"{type(error).__name__}: {error}"
            answer = {"error": failed, "log": getattr(error, "log", "")}
        if head["message"] not in {"pages", "forked", "files"}:
            channel.send(answer or {})

    try:
        while True:
            # While CRIU restores, the source has nothing to say.
            with patience(target.patience_s, lambda: target.answered):
                head, data = channel.receive()
            if head["message"] == "restore" and head["stale"] is not None:
                target.beside(partial(reply, head, data))  # CRIU may need pages that still come
            else:
                reply(head, data)
    except ChannelClosedError:
        pass
    finally:
        target.clean_up()


def main() -> None:
    """Speak on standard input and output, and let nothing else speak there."""
    reader = os.fdopen(os.dup(0), "rb", buffering=1 << 20)
    writer = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    os.dup2(2, 1)
    serve(Channel(reader, writer))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
