"""The source's half of a migration, run by the agent of the edge where the service is.

States, in order: ``opened`` (line and container at the target), ``ahead`` (memory and files sent
while the service runs), ``frozen``, ``dumped``, ``sent``, ``answered``. Until the target has
answered the source keeps the service, frozen but whole: any failure lets it go on here.
"""

import contextlib
import mmap
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import container, files, images, netlink, pages
from .channel import Buffer, ChannelClosedError, Line, RemoteFailureError
from .container import Holder
from .criu import INSIDE, Criu, CriuError, explain
from .pages import PAGE, Copy, Span

CRIU_FIRST_PID = 10000
REST_BETWEEN_ROUNDS_S = 0.25
MADV_POPULATE_READ = 22
REST_PER_ROUND = 3.0
"""Looking for changes may take a quarter of the time, not more: the service runs meanwhile."""
Report = Callable[[dict[str, Any]], None]


class Move:
    """One migration of one service away from this edge.

    Parameters
    ----------
    name : str
        The service.
    address : str
        The target's data address.
    command : list of str
        How the target's half is called there.
    route : str
        The device that leads from here to the target.
    report : callable
        Told at once when the service is frozen, so that others can redirect the user's packets.
    """

    def __init__(
        self, name: str, address: str, command: list[str], route: str, report: Report
    ) -> None:
        self.holder = Holder.load(name)
        self.state = "new"
        self.phases: list[dict[str, Any]] = []
        self._route = route
        self._report = report
        self._address = address
        self._command = command
        self._line: Line | None = None
        self._criu: Criu | None = None
        self._copies: dict[int, Copy] = {}
        self._rounds = 0
        self._stop = threading.Event()
        self._lock = threading.RLock()
        self._watch = files.Watch(self.holder.spec.upper, Path(f"/proc/{self.holder.init}/root"))

    # -- while the service runs

    def open(self) -> None:
        """Call the target, have it prepare an empty container, start CRIU here."""
        spec = self.holder.spec
        with self._phase("open", frozen=False):
            self._line = Line(self._address, self._command)
            self._line.channel.ask({"message": "prepare", "spec": asdict(spec)})
            for folder in ("img", "sent"):
                shutil.rmtree(spec.scratch / folder, ignore_errors=True)
                (spec.scratch / folder).mkdir()
            self._criu = Criu(self.holder.init, cgroup=None, first_pid=CRIU_FIRST_PID)
        self.state = "opened"

    def ahead(self) -> dict[str, Any]:
        """Send what the target does not have yet; return how much that was and how long it took."""
        with self._lock, self._phase("ahead", frozen=False) as phase:
            if self._stop.is_set():
                return {"bytes": 0, "seconds": 0.0, "round": self._rounds}
            before = self._channel().sent_bytes
            self._send_files()
            for inside, outside in self._tasks():
                copy = self._copy(inside)
                for start, data in pages.read_task(outside):
                    self._send_spans(inside, copy.update(start, data), start, data)
            self._channel().ask({"message": "sync", "seal": True})
            self._rounds += 1
            sent = self._channel().sent_bytes - before
            phase["detail"] = f"round {self._rounds}"
        self.state = "ahead"
        return {
            "bytes": sent,
            "seconds": phase["end_s"] - phase["start_s"],
            "round": self._rounds,
        }

    def keep_ahead(self, small_enough: int, rounds: int) -> dict[str, Any]:
        """Send rounds until one is small, does not shrink any more, or there were enough."""
        last = None
        while not self._stop.is_set():
            this = self.ahead()
            done = this["bytes"] <= small_enough or self._rounds >= rounds
            if done or (last and this["bytes"] > 0.9 * last["bytes"]):
                return this
            last = this
        return last or {"bytes": 0, "seconds": 0.0, "round": self._rounds}

    def stay_fresh(self) -> None:
        """Go on sending rounds, with a rest in between, until the move is finished or dropped."""
        rest_s = REST_BETWEEN_ROUNDS_S
        while not self._stop.wait(rest_s):
            try:
                rest_s = max(REST_BETWEEN_ROUNDS_S, REST_PER_ROUND * self.ahead()["seconds"])
            except (ChannelClosedError, RemoteFailureError):
                return

    # -- while it stands still

    def finish(self) -> dict[str, Any]:
        """Freeze, dump, send the rest, have it restored; return the record of the move.

        The record's ``outcome`` is ``moved``, ``rolled back`` (the service goes on here) or
        ``unknown`` (the line broke after the target was told to restore: whoever can ask the
        target must decide, by `settle`; until then the service stays frozen here).
        """
        self._stop.set()
        with self._lock:
            told = False
            try:
                self._freeze()
                self._dump()
                listing, payload = self._send_memory()
                told = True
                answer = self._restore(listing, payload)
            except ChannelClosedError as error:
                if told:
                    return self._record("unknown", str(error))
                self.settle(moved=False)
                return self._record("rolled back", str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, the service goes on here
                self.settle(moved=False)
                return self._record("rolled back", str(error), getattr(error, "log", ""))
            record = self._record("moved", "", held=answer["held_packets"])
            record["restored_s"] = answer["restored_s"]
            record["confirmed"] = self.settle(moved=True)
            return record

    def settle(self, *, moved: bool) -> bool:
        """End the move: the service lives at the target, or goes on here.

        Returns whether the target has heard of it.
        """
        self._stop.set()
        with self._lock:
            if moved:
                return self._leave()
            self._stay()
            return True

    def _leave(self) -> bool:
        spec, heard = self.holder.spec, False
        self.holder.kill()
        with contextlib.suppress(ChannelClosedError, RemoteFailureError):
            self._channel().ask({"message": "confirm"})
            heard = True
        self._hang_up()
        container.destroy(spec.name)
        netlink.replace_route(spec.address, self._route)
        return heard

    def _stay(self) -> None:
        spec = self.holder.spec
        if self.state in FROZEN_STATES:
            netlink.unsilence(spec.device)
            netlink.replace_route(spec.address, spec.device)
            self.holder.thaw()
        self._hang_up()
        for folder in ("img", "sent"):
            shutil.rmtree(spec.scratch / folder, ignore_errors=True)
        self.state = "dropped"

    # -- steps

    def _freeze(self) -> None:
        spec = self.holder.spec
        with self._phase("freeze", frozen=True):
            self.holder.freeze()
            self.state = "frozen"
            netlink.silence(spec.device)
            netlink.replace_route(spec.address, self._route)
        self._report({"event": "frozen", "service": spec.name})

    def _dump(self) -> None:
        if self._criu is None:
            raise RuntimeError("the move was not opened")
        folder = self.holder.spec.scratch / "img"
        with self._phase("dump", frozen=True) as phase:
            try:
                self._criu.dump(
                    self.holder.service, f"{INSIDE}/scratch/img", cgroup=f"{INSIDE}/cgroup"
                )
            except CriuError as error:
                log = folder / "dump.log"
                text = log.read_text(errors="replace") if log.exists() else error.log
                raise CriuError(*explain("checkpoint", error, text)) from error
            phase["bytes"] = sum(p.stat().st_size for p in folder.iterdir())
        self.state = "dumped"

    def _send_memory(self) -> tuple[dict[str, Any], list[bytes]]:
        """Send changed pages and files; return what describes the small images, and these."""
        folder = self.holder.spec.scratch / "img"
        listing: dict[str, Any] = {"images": [], "tasks": {}}
        payload = []
        paged = set()
        with self._phase("pages", frozen=True) as phase:
            before = self._channel().sent_bytes
            for path in sorted(folder.glob("pagemap-*.img")):
                if not path.stem.removeprefix("pagemap-").isdigit():
                    continue
                task = int(path.stem.removeprefix("pagemap-"))
                pages_id, ranges = images.read_pagemap(path.read_bytes())
                self._send_frozen(task, folder / f"pages-{pages_id}.img", ranges)
                paged.add(f"pages-{pages_id}.img")
                listing["tasks"][path.name] = task
            phase["bytes"] = self._channel().sent_bytes - before
        with self._phase("files", frozen=True) as phase:
            before = self._channel().sent_bytes
            self._send_files()
            phase["bytes"] = self._channel().sent_bytes - before
        for path in sorted(folder.glob("*.img")):
            if path.name not in paged and not path.is_symlink():
                payload.append(path.read_bytes())
                listing["images"].append((path.name, len(payload[-1])))
        return listing, payload

    def _restore(self, listing: dict[str, Any], payload: list[bytes]) -> dict[str, Any]:
        sent_s = time.time()
        head = {"message": "restore", "service": self.holder.service, **listing}
        before = self._channel().sent_bytes
        self.state = "sent"
        answer: dict[str, Any] = self._channel().ask(head, payload)
        size = self._channel().sent_bytes - before
        self.state = "answered"
        steps = [
            ("images", sent_s, answer["received_s"], size),
            ("compose", answer["received_s"], answer["composed_s"], 0),
            ("restore", answer["composed_s"], answer["restored_s"], 0),
            ("release", answer["restored_s"], answer["released_s"], 0),
        ]
        for name, start_s, end_s, amount in steps:
            where = "source" if name == "images" else "target"
            self._note(name, start_s, end_s, amount, where=where, frozen=True)
        return answer

    def _send_frozen(self, task: int, path: Path, ranges: list[images.Range]) -> None:
        """Send the pages of a dumped task that differ from what the target has."""
        copy = self._copy(task)
        if path.stat().st_size == 0:
            return
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped,
            memoryview(mapped) as view,
        ):
            with contextlib.suppress(OSError, ValueError):  # before kernel 5.14
                mapped.madvise(MADV_POPULATE_READ)
            at = 0
            for r in ranges:
                if r.flags & images.PRESENT:
                    for offset in range(0, r.pages * PAGE, pages.CHUNK):
                        size = min(pages.CHUNK, r.pages * PAGE - offset)
                        with view[at + offset : at + offset + size] as piece:
                            start = r.start + offset
                            self._send_spans(task, copy.update(start, piece), start, piece)
                    at += r.pages * PAGE

    def _send_spans(self, task: int, spans: list[Span], start: int, data: Buffer) -> None:
        if spans:
            view = memoryview(data)
            parts = [view[a - start : b - start] for a, b in spans]
            try:
                self._channel().send({"message": "pages", "task": task, "spans": spans}, parts)
            finally:
                for part in (*parts, view):
                    part.release()

    def _send_files(self) -> None:
        change = self._watch.look()
        if change:
            head = {"message": "files", "removed": list(change.removed)}
            self._channel().send(head, [self._watch.pack(change)])

    # -- helpers

    def _tasks(self) -> Iterator[tuple[int, int]]:
        """Each process of the service: its pid in the container and on this edge."""
        for outside in self.holder.processes():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                status = Path(f"/proc/{outside}/status").read_text()
                line = next(x for x in status.splitlines() if x.startswith("NSpid"))
                yield int(line.split()[-1]), outside

    def _copy(self, task: int) -> Copy:
        if task not in self._copies:
            self._copies[task] = Copy(self.holder.spec.scratch / "sent" / str(task))
        return self._copies[task]

    def _channel(self) -> Any:
        if self._line is None:
            raise RuntimeError("the move was not opened")
        return self._line.channel

    def _hang_up(self) -> None:
        if self._criu:
            self._criu.close()
            self._criu = None
        if self._line:
            self._line.close()
            self._line = None

    @contextlib.contextmanager
    def _phase(self, name: str, *, frozen: bool) -> Iterator[dict[str, Any]]:
        start_s, before = time.time(), self._line.channel.sent_bytes if self._line else 0
        phase = self._note(name, start_s, start_s, 0, where="source", frozen=frozen)
        try:
            yield phase
        finally:
            phase["end_s"] = time.time()
            if not phase["bytes"] and self._line:
                phase["bytes"] = self._line.channel.sent_bytes - before

    def _note(
        self, name: str, start_s: float, end_s: float, size: int, *, where: str, frozen: bool
    ) -> dict[str, Any]:
        phase = {
            "phase": name,
            "where": where,
            "start_s": start_s,
            "end_s": end_s,
            "bytes": size,
            "frozen": frozen,
            "detail": "",
        }
        self.phases.append(phase)
        return phase

    def _record(self, outcome: str, reason: str, log: str = "", **more: Any) -> dict[str, Any]:
        frozen = [p["end_s"] for p in self.phases if p["phase"] == "freeze"]
        return {
            "outcome": outcome,
            "reason": reason,
            "log": log,
            "state": self.state,
            "rounds": self._rounds,
            "frozen_s": frozen[0] if frozen else 0.0,
            "phases": self.phases,
            "criu": _statistics(self.holder.spec.scratch / "img" / "stats-dump"),
            **more,
        }


FROZEN_STATES = {"frozen", "dumped", "sent", "answered"}


def _statistics(path: Path) -> dict[str, float]:
    """CRIU's own account of a dump, in seconds."""
    import pycriu  # noqa: PLC0415 - slow to import, and not needed while a service stands still

    if not path.exists():
        return {}
    with path.open("rb") as file:
        (entry,) = pycriu.images.load(file)["entries"]
    return {
        name.replace("_time", "_s"): value / 1e6
        for name, value in entry["dump"].items()
        if name.endswith("_time")
    }
