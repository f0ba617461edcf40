"""The source's half of a migration, run by the agent of the edge where the service is.

Its states, what may follow each, and who decides when something fails are a table of its own:
`edge.states`. Until the target has said that it keeps the service, the source keeps it, frozen but
whole. How a move ends is `edge.ending`; a deputy ends it if this process dies.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import files, layers, netlink, preflight, sysv, urgency, visits
from .channel import ChannelClosedError, Line, RemoteFailureError
from .container import Holder
from .criu import Criu, statistics
from .deputy import Deputy
from .ending import FOLDERS, Ending, only_move
from .outbox import Outbox
from .outgoing import Outgoing
from .states import TRUST_S, Progress, State
from .timeline import Timeline
from .ways import Ways, choose

CRIU_FIRST_PID = 10000
REST_BETWEEN_ROUNDS_S = 0.25
REST_PER_ROUND = 3.0
"""Looking for changes may take a quarter of the time, not more: the service runs meanwhile."""
LONGEST_CATCH_UP_S = 1.0
LITTLE_BYTES, STILL_SHRINKING = 32 * 1024, 0.8
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
    ways : Ways
        How written pages are found, dumped and restored: the fastest that is allowed and works.

    Raises
    ------
    BeingMovedError
        If another move of this service is under way.
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
        self.holder = Holder.load(name)
        self._ending = Ending(self.holder.spec, address, tuple(command), route)
        self._progress = Progress(tell=self._tell)
        self._deputy: Deputy | None = None
        self._alone = False
        self._hung_up_s = 0.0
        self._notes: list[str] = []
        self._ways = ways
        self._timeline = Timeline(lambda: self._line.channel.sent_bytes if self._line else 0)
        self._route = route
        self._report = report
        self._line: Line | None = None
        self._criu: Criu | None = None
        self._memory: Outgoing | None = None
        self._fill = False
        self._answered_s = 0.0
        self._rounds = 0
        self._sysv = False
        self._stop = threading.Event()
        self._lock = threading.RLock()
        self._watch = files.Watch(self.holder.spec.upper, Path(f"/proc/{self.holder.init}/root"))
        self._stack = contextlib.ExitStack()
        self._only = self._stack.enter_context(only_move(name))

    # -- while the service runs

    def open(self) -> None:
        """Call the target, have it prepare an empty container, start CRIU here, begin to watch.

        Raises
        ------
        NotTrackedError
            If the tracker that was asked for cannot watch this service.
        NotMovableError
            If no technique can carry it.
        CannotWaitError
            If memory cannot come later here, and that was asked for.
        """
        spec = self.holder.spec
        self._sysv = self._require_movable()
        with self._timeline.phase("open", frozen=False) as phase:
            self._deputy = Deputy(self._ending, self._only)
            self._line = Line(self._ending.address, list(self._ending.command))
            try:
                phase["detail"] = layers.bring(self._channel(), spec.layers)
                head = {"message": "prepare", "spec": asdict(spec), "ahead": self._ways.ahead}
                answer = self._channel().ask(head)
            except ChannelClosedError as error:
                raise ChannelClosedError(f"{error} {self._line.last_words()}".strip()) from error
            for folder in FOLDERS:
                shutil.rmtree(spec.scratch / folder, ignore_errors=True)
            for folder in ("img", "sent"):
                (spec.scratch / folder).mkdir()
            self._criu = Criu(
                self.holder.init, cgroup=None, first_pid=CRIU_FIRST_PID, ipc=not self._sysv
            )
            outbox = Outbox(self._channel(), answer["codecs"])
            parts = (self.holder, outbox, self._timeline)
            chosen = choose(self._ways, self._criu, answer["fill"], parts)
            self._memory, self._fill = chosen.memory, chosen.fill
            self._memory.offer(answer.get("payload", b""))
            self._notes += chosen.notes
        self._progress.to(State.OPENED)

    def _require_movable(self, *, leases: bool = True) -> bool:
        """Refuse what no technique can carry; tell whether there are System V objects."""
        processes = self.holder.processes()
        first = preflight.require_movable(self.holder.service, processes, leases=leases)
        return sysv.used(first)

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
            self._outgoing().go_round()
            self._rounds += 1
            sent = self._channel().sent_bytes - before
            phase["detail"] = f"round {self._rounds}: {self._outgoing().account()}"
        self._progress.to(State.AHEAD)
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
            except (OSError, RemoteFailureError):
                return  # `finish` will meet it, too

    # -- while it stands still

    def finish(self) -> dict[str, Any]:
        """Freeze, dump, send the rest, have it restored; return the record of the move.

        The record's ``outcome`` is ``moved``, ``rolled back`` (the service goes on here) or
        ``unknown``: the line broke, and the target cannot be asked from here. Whoever can ask it
        decides, by `settle`; until then the service stays frozen here.
        """
        self._stop.set()
        with self._lock:
            try:
                self._outgoing().get_ready()
                self._hurry()
                self._catch_up()
                self._freeze()
                self._outgoing().send_frozen(self._started_criu(), self._send_files)
                with self._timeline.phase("gather", frozen=True):
                    listing, payload = self._outgoing().gather()
                    listing["fill"] = self._fill
                self._answered_s = self._restore(listing, payload)
                self._have_kept()
            except Exception as error:  # noqa: BLE001 - whatever it is, the service goes on
                return self._after(error)
            return self._leave()

    def settle(self, *, moved: bool) -> None:
        """End a move whose outcome was unknown: the target was asked; no harm if it is over."""
        with self._lock:
            if moved:
                self._ending.leave(self._progress)
            else:
                self._ending.stay(self._progress)
            self._hang_up()

    def drop(self, *, alone: bool = False) -> None:
        """Give the move up; if that is too late, wait until it is over.

        ``alone``: there is no controller any more, so nobody else can ask the target.
        """
        self._stop.set()
        self._alone = self._alone or alone
        with self._lock:
            self._ending.settle_alone(self._progress, self._hung_up_s or time.monotonic())
            self._hang_up()

    def _after(self, error: Exception) -> dict[str, Any]:
        """Something failed: find out where the service is, or leave that to the controller."""
        urgency.calm_down()
        log = getattr(error, "log", "")
        refused = isinstance(error, RemoteFailureError) and self._progress.state is State.SENT
        if refused or not self._progress.told:
            return self._stay(str(error), log)
        self._notes.append(f"the target was asked over a new line: {error}")
        self._hang_up()
        moved = self._ending.ask_until(self._progress, self._hung_up_s + TRUST_S)
        if moved is None and self._alone:
            self._ending.settle_alone(self._progress, self._hung_up_s)
            moved = self._progress.state is State.MOVED
        if moved is None:
            record = self._record("unknown", str(error), log)
            if self._progress.state is not State.UNDECIDED:
                self._progress.to(State.UNDECIDED)  # the controller may have the target keep it
            return record
        return self._leave() if moved else self._stay(str(error), log)

    def _have_kept(self) -> None:
        """Wait until all memory is at the target, then have it keep the service for good."""
        rest_bytes = self._outgoing().send_rest()
        urgency.calm_down()
        self._channel().send({"message": "whole"})
        answer = self._outgoing().answer()
        for start_s, end_s, detail in answer["fills"]:
            where = {"where": "target", "frozen": False, "detail": detail}
            self._timeline.note("fill", start_s, end_s, rest_bytes, **where)
        self._progress.to(State.UNDECIDED)
        self._channel().send({"message": "confirm"})
        self._outgoing().answer()

    def _leave(self) -> dict[str, Any]:
        record = self._record("moved", "")
        self._ending.leave(self._progress)
        self._hang_up()
        return {**record, "state": str(self._progress.state)}

    def _stay(self, reason: str, log: str) -> dict[str, Any]:
        record = self._record("rolled back", reason, log)
        self._ending.stay(self._progress)
        self._hang_up()
        return {**record, "state": str(self._progress.state)}

    # -- steps

    def _hurry(self) -> None:
        """From here on both halves, and what lies between them, are served first."""
        self._channel().send({"message": "hurry"})
        urgency.hurry()
        if self._line:
            urgency.put_first(self._line.process.pid)
        self._started_criu().put_first()
        self._outgoing().hurry()

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
        leases = preflight.hold_leases(self.holder.processes())
        with self._timeline.phase("freeze", frozen=True):
            self._progress.to(State.FROZEN)
            self.holder.freeze()
            if self._require_movable(leases=leases) and not self._sysv:
                raise preflight.NotMovableError(
                    "the service made its first System V object while it was being moved; a new "
                    "move takes it along"
                )
            netlink.silence(spec.device)
            netlink.replace_route(spec.address, self._route)
        self._report({"event": "frozen", "service": spec.name})

    def _restore(self, listing: dict[str, Any], payload: list[bytes]) -> float:
        """Have the target restore; return when the service lived there, by its time of day."""
        sent_s = time.time()
        head = {"message": "restore", "service": self.holder.service, **listing}
        before = self._channel().sent_bytes
        frame = self._outgoing().outbox.packed(head, payload)
        detail = self._outgoing().account()
        self._progress.to(State.SENT)
        self._channel().send(*frame)
        size = self._channel().sent_bytes - before
        answer = self._outgoing().answer()
        self._progress.to(State.ANSWERED)
        steps = [
            ("images", sent_s, answer["received_s"], size),
            ("compose", answer["received_s"], answer["composed_s"], 0),
            ("restore", answer["composed_s"], answer["restored_s"], 0),
            ("release", answer["restored_s"], answer["released_s"], 0),
        ]
        for name, start_s, end_s, amount in steps:
            where = "source" if name == "images" else "target"
            said = detail if name == "images" else ""
            self._timeline.note(name, start_s, end_s, amount, where=where, frozen=True, detail=said)
        return float(answer["restored_s"])

    def _send_files(self) -> None:
        change = self._watch.look()
        if change:
            head = {"message": "files", "removed": list(change.removed)}
            self._outgoing().outbox.send(head, [self._watch.pack(change)])

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

    def _tell(self, state: State) -> None:
        if self._deputy:
            self._deputy.tell(state)

    def _hang_up(self) -> None:
        if self._line:
            self._line.close()
            self._line = None
        self._hung_up_s = self._hung_up_s or time.monotonic()
        if self._memory:
            self._memory.close()
        if self._memory and self._progress.state is State.MOVED:
            visits.keep(self.holder.spec, self._memory.let_go())
        if self._criu:
            self._criu.close()
            self._criu = None
        if self._progress.over:
            if self._deputy:
                self._deputy.dismiss()
                self._deputy = None
            self._stack.close()

    def _record(self, outcome: str, reason: str, log: str = "") -> dict[str, Any]:
        restored = self._answered_s and outcome != "rolled back"
        return {
            "outcome": outcome,
            "reason": reason,
            "log": log,
            "state": str(self._progress.state),
            "rounds": self._rounds,
            "frozen_s": self._timeline.end_of("freeze"),
            "phases": self._timeline.phases,
            "tracker": self._memory.tracker if self._memory else "",
            "bytes_spared": self._memory.spared_bytes if self._memory else 0,
            "notes": self._notes + (self._memory.notes() if self._memory else []),
            "criu": statistics(self.holder.spec.scratch / "img" / "stats-dump"),
            **({"restored_s": self._answered_s} if restored else {}),
        }
