"""One migration from the controller's side: who is told what, and what is written down."""

import contextlib
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from testbed.errors import HostUnreachableError, MigrationError, RemoteCommandError
from testbed.hosts.lab import Lab
from testbed.hosts.plan import device
from testbed.hosts.remote import agent_command
from testbed.migration import preflight
from testbed.migration.technique import Technique
from testbed.records import NAN, PhaseRecord

if TYPE_CHECKING:
    from concurrent.futures import Future

FINISH_TIMEOUT_S = 900.0
"""The edges end a move by themselves; this is for a source that neither answers nor hangs up."""
LATER_TIMEOUT_S = 3600.0
"""The same where memory follows its service, perhaps over a slow link."""
AHEAD_TIMEOUT_S = 600.0
PREFLIGHT_TIMEOUT_S = 60.0
REACH_TIMEOUT_S = 5.0
AMONG_THEMSELVES_S = 40.0
"""In this time the edges have settled a move whose leader is gone (`testbed.edge.states`)."""
TURN_S = 0.2


@dataclass(frozen=True)
class Stop:
    """When sending ahead has done enough: bytes of one round, or number of rounds."""

    small_enough_bytes: int = 256 * 1024
    rounds: int = 8


@dataclass(frozen=True)
class Outcome:
    """What a migration did; epoch times in seconds, ``nan`` for what did not happen.

    outcome : ``moved`` or ``rolled back``.
    freeze_s : CRIU's own frozen time. event_window_s : from frozen at the source to restored.
    bytes_spared : memory that was at the target from an earlier visit, and was not sent.
    tracker : how written pages were found. notes : what was done otherwise than planned, and why.
    """

    migration: str
    outcome: str
    reason: str
    log: str
    requested_s: float
    prepared_s: float
    frozen_s: float
    answered_s: float
    ended_s: float
    freeze_s: float
    event_window_s: float
    rounds: int
    bytes_ahead: int
    bytes_frozen: int
    bytes_after: int = 0
    bytes_spared: int = 0
    tracker: str = ""
    notes: tuple[str, ...] = ()
    phases: tuple[PhaseRecord, ...] = ()


@dataclass
class Movement:
    """A migration on its way. Made by `Mover.open`; ended by `finish` or `drop`."""

    migration: str
    service: str
    source: str
    target: str
    technique: Technique
    requested_s: float
    _mover: "Mover"
    prepared_s: float = NAN

    def send_ahead(self, stop: Stop) -> None:
        """Send memory and files while the service runs; afterwards they are kept fresh.

        Raises
        ------
        RemoteCommandError, HostUnreachableError
            If an edge fails; the service runs on at the source.
        """
        if self.technique.sends_ahead:
            self._mover.source_of(self).call(
                "move_ahead",
                timeout_s=AHEAD_TIMEOUT_S,
                move=self.migration,
                small_enough=stop.small_enough_bytes,
                rounds=stop.rounds,
            )
        self.prepared_s = time.time()

    def finish(self, on_frozen: Callable[[], None] = lambda: None) -> Outcome:
        """Move the service now; ``on_frozen`` is called as soon as it stands still.

        Raises
        ------
        MigrationError
            If nobody can tell where the service is.
        """
        return self._mover.finish(self, on_frozen)

    def drop(self) -> None:
        """Give up before the freeze; the service never notices."""
        self._mover.source_of(self).call("move_drop", move=self.migration)


class Mover:
    """Moves services between the hosts of a lab.

    Parameters
    ----------
    lab : Lab
        Up and connected.
    offsets_s : mapping of str to float
        How far each host's clock is ahead of the controller's, seconds.
    """

    def __init__(self, lab: Lab, offsets_s: Mapping[str, float] | None = None) -> None:
        self._lab = lab
        self._offsets_s = dict(offsets_s or {})
        self._numbers = itertools.count(1)
        self._on_frozen: dict[str, Callable[[], None]] = {}
        self._facts: dict[str, dict[str, Any]] = {}
        lab.listen(self._hear)

    def open(self, service: str, source: str, target: str, technique: Technique) -> Movement:
        """Have the target prepared and every connection opened.

        Raises
        ------
        MigrationError
            If source and target are one host, or there is no link between them.
        PreflightError
            If the service could not be restored there (`testbed.migration.preflight`).
        RemoteCommandError, HostUnreachableError
            If an edge fails; the service runs on at the source.
        """
        if source == target:
            raise MigrationError(f"{service}: source and target are both {source}")
        if target not in self._lab.plan.hosts[source].peers:
            raise MigrationError(
                f"{service}: there is no link from {source} to {target}; add one to the "
                "scenario's links",
                running_at=source,
            )
        migration = f"m{next(self._numbers):02d}-{service}-{source}-{target}"
        self._require_fit(service, source, target)
        movement = Movement(migration, service, source, target, technique, time.time(), self)
        self._lab[source].call(
            "move_open",
            move=migration,
            name=service,
            address=self._lab.plan.hosts[target].data_address,
            command=agent_command("target"),
            route=device(target),
            ways={
                "tracker": technique.tracker,
                "claim": technique.claim,
                "fill": technique.fill,
                "later": technique.later,
                "ahead": technique.sends_ahead,
            },
        )
        movement.prepared_s = time.time()
        return movement

    def _require_fit(self, service: str, source: str, target: str) -> None:
        """Ask both edges at once, each of them only once for what it is, and judge."""
        unknown = [host for host in (source, target) if host not in self._facts]
        asked = {host: self._lab[host].start("facts") for host in unknown}
        container = self._lab[source].start("service_facts", name=service)
        room = self._lab[target].start("room")
        try:
            for host, facts in asked.items():
                self._facts[host] = facts.result(PREFLIGHT_TIMEOUT_S)
            move = preflight.Move(
                service=service,
                source=source,
                target=target,
                source_facts=self._facts[source],
                target_facts=self._facts[target],
                container=container.result(PREFLIGHT_TIMEOUT_S),
                room=room.result(PREFLIGHT_TIMEOUT_S),
            )
        except TimeoutError as error:
            raise HostUnreachableError(
                f"{source} or {target} did not say within {PREFLIGHT_TIMEOUT_S:.0f} s what it is"
            ) from error
        preflight.require(move)

    def source_of(self, movement: Movement) -> Any:
        """The session to the edge that a movement leaves."""
        return self._lab[movement.source]

    def finish(self, movement: Movement, on_frozen: Callable[[], None]) -> Outcome:
        """Freeze, move, restore (`Movement.finish`)."""
        self._on_frozen[movement.migration] = on_frozen
        try:
            running: Future[dict[str, Any]] = self.source_of(movement).start(
                "move_finish", move=movement.migration
            )
            record = running.result(
                LATER_TIMEOUT_S if movement.technique.later else FINISH_TIMEOUT_S
            )
        except (HostUnreachableError, TimeoutError) as error:
            where = self._whereabouts(movement)
            what = f"it runs at {where}"
            if not where:
                what = (
                    f"nobody says that it runs; if {movement.source} is surely dead, `adopt` at "
                    f"{movement.target} wakes the copy that may wait there"
                )
            raise MigrationError(
                f"{movement.service}: {movement.source} is gone while its service was moving; "
                f"{what}",
                running_at=where,
            ) from error
        finally:
            del self._on_frozen[movement.migration]
        if record["outcome"] == "unknown":
            record = self._settle(movement, record)
        return _outcome(movement, record, self._offsets_s)

    def _settle(self, movement: Movement, record: dict[str, Any]) -> dict[str, Any]:
        """The line broke, and the source cannot ask the target: it is asked from here.

        A restored service stands frozen at the target until it is adopted, so that it never
        answers in two places. Where the target surely was never told to keep it, the service goes
        on at the source; where it may have been, only the target knows.
        """
        source, target = self.source_of(movement), self._lab[movement.target]
        moved = False
        try:
            asked = record["state"] == "undecided"
            target.call("clock", timeout_s=REACH_TIMEOUT_S)
            asked = True
            moved = bool(target.call("adopt", name=movement.service))
        except (HostUnreachableError, RemoteCommandError) as error:
            if asked:
                source.start("move_drop", move=movement.migration)  # it goes on asking
                raise MigrationError(
                    f"{movement.service} was to go on at {movement.target}, and that host does "
                    f"not say whether it does ({error}); its copy stands frozen at "
                    f"{movement.source}, which asks until it is told",
                    running_at="",
                ) from error
        try:
            source.call("move_settle", move=movement.migration, moved=moved)
        except (HostUnreachableError, RemoteCommandError):
            if not moved:  # where it was adopted it lives on, whatever becomes of the source
                raise
        if moved:
            return {**record, "outcome": "moved"}
        whole = {name: value for name, value in record.items() if name != "restored_s"}
        return {**whole, "outcome": "rolled back"}

    def _whereabouts(self, movement: Movement) -> str:
        """Where the service is once the edges have settled it among themselves; empty if nowhere.

        The source's deputy does that (`testbed.edge.deputy`); its agent is gone.
        """
        until_s = time.monotonic() + AMONG_THEMSELVES_S
        while True:
            for host in (movement.target, movement.source):
                with contextlib.suppress(HostUnreachableError, RemoteCommandError):
                    self._lab.reach(host)
                    if self._lab[host].call("runs", name=movement.service):
                        return host
            if time.monotonic() > until_s:
                return ""
            time.sleep(TURN_S)

    def _hear(self, event: dict[str, Any]) -> None:
        if event["event"] == "frozen" and event["move"] in self._on_frozen:
            self._on_frozen[event["move"]]()


def _outcome(movement: Movement, record: dict[str, Any], offsets_s: Mapping[str, float]) -> Outcome:
    """Everything on the controller's clock."""
    ahead_s = {
        where: offsets_s.get(host, 0.0)
        for where, host in (("source", movement.source), ("target", movement.target))
    }
    phases = tuple(
        PhaseRecord(
            migration=movement.migration,
            phase=phase["phase"],
            host=movement.source if phase["where"] == "source" else movement.target,
            start_s=phase["start_s"] - ahead_s[phase["where"]],
            end_s=phase["end_s"] - ahead_s[phase["where"]],
            bytes=phase["bytes"],
            frozen=phase["frozen"],
            detail=phase["detail"],
        )
        for phase in record["phases"]
    )
    frozen_s = (record["frozen_s"] or NAN) - ahead_s["source"]
    restored_s = record.get("restored_s", NAN) - ahead_s["target"]
    criu = record["criu"]
    return Outcome(
        migration=movement.migration,
        outcome=record["outcome"],
        reason=record["reason"],
        log=record["log"],
        requested_s=movement.requested_s,
        prepared_s=movement.prepared_s,
        frozen_s=frozen_s,
        answered_s=restored_s,
        ended_s=time.time(),
        freeze_s=criu.get("frozen_s", NAN),
        event_window_s=restored_s - frozen_s,
        rounds=record["rounds"],
        bytes_ahead=sum(p.bytes for p in phases if not p.frozen and p.phase != "fill"),
        bytes_frozen=sum(p.bytes for p in phases if p.frozen),
        bytes_after=sum(p.bytes for p in phases if p.phase == "fill"),
        bytes_spared=record.get("bytes_spared", 0),
        tracker=record.get("tracker", ""),
        notes=tuple(record.get("notes", ())),
        phases=phases,
    )
