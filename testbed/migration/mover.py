"""One migration from the controller's side: who is told what, and what is written down."""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from testbed.errors import HostUnreachableError, MigrationError, RemoteCommandError
from testbed.hosts.lab import Lab
from testbed.hosts.plan import device
from testbed.hosts.remote import agent_command
from testbed.migration.technique import Technique
from testbed.records import NAN, PhaseRecord

if TYPE_CHECKING:
    from concurrent.futures import Future

FINISH_TIMEOUT_S = 120.0
LATER_TIMEOUT_S = 1200.0
"""For techniques whose memory follows: silence ends them much earlier, slow links take long."""
GIVEN_UP_AFTER_S = 6.0
"""A target that lacks memory has ended its copy by then (`testbed.edge.target`)."""
AHEAD_TIMEOUT_S = 600.0


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
        lab.listen(self._hear)

    def open(self, service: str, source: str, target: str, technique: Technique) -> Movement:
        """Have the target prepared and every connection opened.

        Raises
        ------
        MigrationError
            If source and target are one host, or there is no link between them.
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
            longest_s = LATER_TIMEOUT_S if movement.technique.later else FINISH_TIMEOUT_S
            record = running.result(longest_s)
        except (HostUnreachableError, TimeoutError) as error:
            raise MigrationError(
                f"{movement.service}: {movement.source} is gone while its service was moving",
                running_at=self._whereabouts(movement),
            ) from error
        finally:
            del self._on_frozen[movement.migration]
        if record["outcome"] == "unknown":
            record = self._settle(movement, record)
        return _outcome(movement, record, self._offsets_s)

    def _settle(self, movement: Movement, record: dict[str, Any]) -> dict[str, Any]:
        """The line broke: a service that was restored at the target is adopted there.

        At the target it stands frozen until then, so that it never answers in two places.
        """
        # Where memory is missing at the target, nobody but the source can have the service.
        lost = bool(record.get("lost"))
        answered = "restored_s" in record and not lost
        try:
            moved = bool(self._lab[movement.target].call("adopt", name=movement.service))
        except (HostUnreachableError, RemoteCommandError) as error:
            if answered:
                raise MigrationError(
                    f"{movement.service} was restored at {movement.target}, but that host is gone; "
                    f"its copy stands frozen at {movement.source}",
                    running_at="",
                ) from error
            if lost:
                time.sleep(GIVEN_UP_AFTER_S)
            moved = False
        try:
            self.source_of(movement).call("move_settle", move=movement.migration, moved=moved)
        except (HostUnreachableError, RemoteCommandError):
            if not moved:  # where it was adopted it lives on, whatever becomes of the source
                raise
        if moved:
            return {**record, "outcome": "moved"}
        whole = {name: value for name, value in record.items() if name != "restored_s"}
        return {**whole, "outcome": "rolled back"}

    def _whereabouts(self, movement: Movement) -> str:
        try:
            runs = self._lab[movement.target].call("runs", name=movement.service)
        except (HostUnreachableError, RemoteCommandError):
            return ""
        return movement.target if runs else ""

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
        tracker=record.get("tracker", ""),
        notes=tuple(record.get("notes", ())),
        phases=phases,
    )
