"""The source's half of a migration, run by the agent of the edge where the service is.

States, in order: ``opened`` (line and container at the target), ``ahead`` (memory and files sent
while the service runs), ``frozen``, ``dumped``, ``sent``, ``answered``. Until the target has
answered the source keeps the service, frozen but whole: any failure lets it go on here.
"""

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import claim, container, files, netlink, preflight
from .channel import ChannelClosedError, Line, RemoteFailureError
from .container import Holder
from .criu import Criu, statistics
from .later import begin_later
from .outgoing import ByContent, Outgoing
from .timeline import Timeline
from .tracker import NotTrackedError
from .watched import Watched

CRIU_FIRST_PID = 10000
REST_BETWEEN_ROUNDS_S = 0.25
TRACKERS = ("auto", "write-protect", "content")
REST_PER_ROUND = 3.0
"""Looking for changes may take a quarter of the time, not more: the service runs meanwhile."""
NOT_WANTED = "the technique asks for it"
LONGEST_CATCH_UP_S = 1.0
LITTLE_BYTES, STILL_SHRINKING = 32 * 1024, 0.8
FOLDERS = ("img", "sent", claim.FOLDER)
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Ways:
    """How a service may be moved (`testbed.migration.technique.Technique`)."""

    tracker: str = "auto"
    claim: bool = True
    fill: bool = True
    later: bool = False
    ahead: bool = False


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
    ways : Ways
        How written pages are found, dumped and restored: the fastest that is allowed and works.
    """

    def __init__(
        self,
        name: str,
        address: str,
        command: list[str],
        route: str,
        report: Report,
        *,
        ways: Ways,
    ) -> None:
        if ways.tracker not in TRACKERS:
            known = ", ".join(TRACKERS)
            raise ValueError(f"there is no tracker {ways.tracker!r}; there are: {known}")
        self.holder = Holder.load(name)
        self.state = "new"
        self._notes: list[str] = []
        self._ways = ways
        self._timeline = Timeline(lambda: self._line.channel.sent_bytes if self._line else 0)
        self._route = route
        self._report = report
        self._address = address
        self._command = command
        self._line: Line | None = None
        self._criu: Criu | None = None
        self._memory: Outgoing | None = None
        self._fill = False
        self._answered_s = 0.0
        self._sent_all = False
        self._rounds = 0
        self._stop = threading.Event()
        self._lock = threading.RLock()
        self._watch = files.Watch(self.holder.spec.upper, Path(f"/proc/{self.holder.init}/root"))

    # -- while the service runs

    def open(self) -> None:
        """Call the target, have it prepare an empty container, start CRIU here, begin to watch.

        Raises
        ------
        NotTrackedError
            If the tracker that was asked for cannot watch this service.
        CannotWaitError
            If memory cannot come later here, and that was asked for.
        """
        spec = self.holder.spec
        with self._timeline.phase("open", frozen=False):
            self._line = Line(self._address, self._command)
            answer = self._line.channel.ask({"message": "prepare", "spec": asdict(spec)})
            for folder in FOLDERS:
                shutil.rmtree(spec.scratch / folder, ignore_errors=True)
            for folder in ("img", "sent"):
                (spec.scratch / folder).mkdir()
            self._criu = Criu(self.holder.init, cgroup=None, first_pid=CRIU_FIRST_PID)
            self._memory = self._choose(answer)
        self.state = "opened"

    def _choose(self, answer: dict[str, Any]) -> Outgoing:
        """Choose how written pages are found, dumped and restored; the record says why."""
        parts = (self.holder, self._channel(), self._timeline)
        if self._ways.later:
            self._fill = True
            root = Path(f"/proc/{self.holder.init}/root")
            why_not = claim.pretend(self._started_criu(), root) if self._ways.claim else NOT_WANTED
            fill = answer["fill"] if self._ways.fill else NOT_WANTED
            return begin_later(*parts, ahead=self._ways.ahead, cannot=(why_not, fill))
        if self._ways.tracker == "content":
            return ByContent(*parts)
        try:
            preflight.require(self.holder.processes())
            why_not = NOT_WANTED
            if self._ways.claim:
                root = Path(f"/proc/{self.holder.init}/root")
                why_not = claim.pretend(self._started_criu(), root)
            watched = Watched(*parts, claimed=not why_not)
            watched.begin()
        except NotTrackedError as error:
            if self._ways.tracker != "auto":
                nearest = "the nearest that works here is the tracker 'content'"
                raise NotTrackedError(f"{error}; {nearest}") from error
            self._notes.append(f"all content is compared: {error}")
            return ByContent(*parts)
        if why_not:
            self._notes.append(f"CRIU writes pages that nobody needs: {why_not}")
        why_at_once = answer["fill"] if self._ways.fill else NOT_WANTED
        if why_at_once:
            self._notes.append(f"memory is restored before the service goes on: {why_at_once}")
        self._fill = not why_at_once
        return watched

    def ahead(self) -> dict[str, Any]:
        """Send what the target does not have yet; return how much that was and how long it took."""
        with self._lock:
            if self._stop.is_set():
                return {"bytes": 0, "seconds": 0.0, "round": self._rounds}
            return self._round()

    def _round(self) -> dict[str, Any]:
        with self._timeline.phase("ahead", frozen=False) as phase:
            before = self._channel().sent_bytes
            self._send_files()
            self._outgoing().send_round()
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
        ``unknown`` (the line broke after the target was told to restore, or before it said that
        all memory is there: whoever can ask the target must decide, by `settle`; until then the
        service stays frozen here).
        """
        self._stop.set()
        with self._lock:
            told = False
            try:
                self._catch_up()
                self._outgoing().get_ready()
                self._freeze()
                self._outgoing().send_frozen(self._started_criu(), self._send_files)
                self.state = "dumped"
                listing, payload = self._gather()
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
            self._answered_s = float(answer["restored_s"])
            # The frozen copy here is kept until all memory is known to be there.
            if not self._confirm():
                return self._record("unknown", self._notes[-1], restored_s=self._answered_s)
            record = self._record("moved", "", restored_s=self._answered_s)
            self._leave()
            return record

    def settle(self, *, moved: bool) -> None:
        """End the move: the service lives at the target, or goes on here."""
        self._stop.set()
        with self._lock:
            if moved:
                self._leave()
            else:
                self._stay()

    def _confirm(self) -> bool:
        """Have the target keep the service; False where it cannot be told or is not whole."""
        try:
            rest_bytes = self._outgoing().send_rest()
        except (OSError, RemoteFailureError) as error:
            self._notes.append(f"not all memory came to the target: {error}")
            if self._line:
                self._line.hang_up()  # the target is to know at once
            return False
        self._sent_all = True
        try:
            self._channel().send({"message": "confirm"})
            answer = self._outgoing().answer()
            for start_s, end_s, detail in answer["fills"]:
                where = {"where": "target", "frozen": False, "detail": detail}
                self._timeline.note("fill", start_s, end_s, rest_bytes, **where)
        except (ChannelClosedError, RemoteFailureError) as error:
            self._notes.append(str(error))
            return False
        return True

    def _leave(self) -> None:
        spec = self.holder.spec
        self.holder.kill()
        self._hang_up()
        container.destroy(spec.name)
        netlink.replace_route(spec.address, self._route)

    def _stay(self) -> None:
        spec = self.holder.spec
        if self.state in FROZEN_STATES:
            netlink.unsilence(spec.device)
            netlink.replace_route(spec.address, spec.device)
            self.holder.thaw()
        self._hang_up()
        for folder in FOLDERS:
            shutil.rmtree(spec.scratch / folder, ignore_errors=True)
        self.state = "dropped"

    # -- steps

    def _catch_up(self) -> None:
        """Send what was written since the last round, again as long as it becomes less."""
        last, until_s = float("inf"), time.monotonic() + LONGEST_CATCH_UP_S
        while self._rounds and self._outgoing().quick and time.monotonic() < until_s:
            sent = self._round()["bytes"]
            if sent < LITTLE_BYTES or sent > STILL_SHRINKING * last:
                break
            last = sent

    def _freeze(self) -> None:
        spec = self.holder.spec
        with self._timeline.phase("freeze", frozen=True):
            self.holder.freeze()
            self.state = "frozen"
            netlink.silence(spec.device)
            netlink.replace_route(spec.address, self._route)
        self._report({"event": "frozen", "service": spec.name})

    def _gather(self) -> tuple[dict[str, Any], list[bytes]]:
        """What describes the small images, and these."""
        memory = self._outgoing()
        hot = memory.hot()
        listing: dict[str, Any] = {"images": [], "tasks": {}, "fill": self._fill, "hot": hot}
        listing["stale"] = memory.stale()
        payload = []
        paged = set()
        for task, path, pages_id, _ in memory.pagemaps():
            paged.add(f"pages-{pages_id}.img")
            listing["tasks"][path.name] = task
        for path in sorted(memory.images.glob("*.img")):
            if path.name not in paged and not path.is_symlink():
                payload.append(path.read_bytes())
                listing["images"].append((path.name, len(payload[-1])))
        return listing, payload

    def _restore(self, listing: dict[str, Any], payload: list[bytes]) -> dict[str, Any]:
        sent_s = time.time()
        head = {"message": "restore", "service": self.holder.service, **listing}
        before = self._channel().sent_bytes
        self.state = "sent"
        self._channel().send(head, payload)
        size = self._channel().sent_bytes - before
        answer = self._outgoing().answer()
        self.state = "answered"
        steps = [
            ("images", sent_s, answer["received_s"], size),
            ("compose", answer["received_s"], answer["composed_s"], 0),
            ("restore", answer["composed_s"], answer["restored_s"], 0),
            ("release", answer["restored_s"], answer["released_s"], 0),
        ]
        for name, start_s, end_s, amount in steps:
            where = "source" if name == "images" else "target"
            self._timeline.note(name, start_s, end_s, amount, where=where, frozen=True)
        return answer

    def _send_files(self) -> None:
        change = self._watch.look()
        if change:
            head = {"message": "files", "removed": list(change.removed)}
            self._channel().send(head, [self._watch.pack(change)])

    # -- helpers

    def _outgoing(self) -> Outgoing:
        if self._memory is None:
            raise RuntimeError("the move was not opened")
        return self._memory

    def _started_criu(self) -> Criu:
        if self._criu is None:
            raise RuntimeError("the move was not opened")
        return self._criu

    def _channel(self) -> Any:
        if self._line is None:
            raise RuntimeError("the move was not opened")
        return self._line.channel

    def _hang_up(self) -> None:
        if self._memory:
            self._memory.close()
        if self._criu:
            self._criu.close()
            self._criu = None
        if self._line:
            self._line.close()
            self._line = None

    def _record(self, outcome: str, reason: str, log: str = "", **more: Any) -> dict[str, Any]:
        return {
            "outcome": outcome,
            "reason": reason,
            "log": log,
            "state": self.state,
            "rounds": self._rounds,
            "frozen_s": self._timeline.end_of("freeze"),
            "phases": self._timeline.phases,
            "tracker": self._memory.tracker if self._memory else "",
            "notes": self._notes + (self._memory.notes() if self._memory else []),
            "lost": self._ways.later and not self._sent_all,
            "criu": statistics(self.holder.spec.scratch / "img" / "stats-dump"),
            **more,
        }


FROZEN_STATES = {"frozen", "dumped", "sent", "answered"}
