"""One user's service on the heels of its user: decides fast, moves in a thread of its own.

The loop tells the follower each new plan and goes on; the follower hands the radio link over at
once and works through preparations and migrations one after another, always towards the newest
plan.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from testbed.errors import (
    HostUnreachableError,
    MigrationError,
    RemoteCommandError,
    ScenarioError,
)
from testbed.experiment.steering import Steering, done
from testbed.handoff.binding import Binder, Binding
from testbed.measurement.clock import RunClock
from testbed.migration.mover import Movement, Mover, Outcome, Stop
from testbed.migration.technique import Technique
from testbed.planning.planner import Plan
from testbed.records import NAN, BindingRecord, HandoverRecord, MigrationRecord, PhaseRecord

Keep = Callable[[object], None]
Tell = Callable[[str], None]
END_TIMEOUT_S = 180.0
RETRY_AFTER_S = 2.0


@dataclass(frozen=True)
class Following:
    """What a follower works with; see `Follower`."""

    user: str
    service: str
    technique: Technique
    stop: Stop
    clock: RunClock
    keep: Keep
    tell: Tell


class Follower:
    """Keeps one user's service where the plan wants it.

    Parameters
    ----------
    following : Following
        Whose service, how it is moved, where records and news go.
    mover, binder, steering
        Moves containers, gives sites to hosts, leads packets.
    """

    def __init__(
        self, following: Following, mover: Mover, binder: Binder, steering: Steering
    ) -> None:
        self._is = following
        self._mover = mover
        self._binder = binder
        self._steering = steering
        self._wanted = Plan("", "", "", "")
        self._prepared: tuple[str, Movement] | None = None
        self._changed = threading.Condition()
        self._binding = threading.Lock()
        self._ending = False
        self._busy = False
        self._failure: BaseException | None = None
        self._not_before_s = 0.0
        self._moving_to = ""
        self.service_site = ""
        self.cell = ""
        self._thread = threading.Thread(target=self._work, name=f"follower {following.user}")

    def begin(self, cell: str, site: str = "") -> Binding:
        """Bind the first cell, and the first site if it is another one.

        The service is then to be started there by the caller.
        """
        binding = self._bind(cell, "start", "", "")
        self.cell = self.service_site = cell
        if site and site != cell:
            binding = self._bind(site, "start", binding.server, "")
            self.service_site = site
        self._steering.server = binding.server
        return binding

    def start(self) -> None:
        """Connect the radio and begin to work."""
        first = self._binder.bind(self.cell)
        self._steering.connect(first.base_station)
        self._thread.start()

    def follow(self, plan: Plan) -> None:
        """Take a new plan: hand the radio over at once, the rest happens in the background.

        Raises
        ------
        Exception
            What made the follower give up, if it has.
        """
        if self._failure:
            raise self._failure
        if plan.radio_at != self.cell:
            self._hand_over(plan.radio_at)
        with self._changed:
            self._wanted = plan
            self._changed.notify()

    def hosts_of(self, site: str) -> tuple[str, str]:
        """Server and base station that stand for a site now; empty where none was bound."""
        known = self._binder.known(site)
        if known is None:  # its base station may stand for another cell by now
            return (self._steering.server if site == self.service_site else "", "")
        return known.server, known.base_station

    @property
    def bound_for(self) -> str:
        """Where the service is, or is being moved: a move that has begun is not called back."""
        return self._moving_to or self.service_site

    @property
    def idle(self) -> bool:
        """Whether nothing is being moved or prepared, nor about to be."""
        with self._changed:
            return not self._busy and not self._has_work()

    def end(self) -> None:
        """Finish what is under way, drop what is only prepared, stop working."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(END_TIMEOUT_S)
        if self._failure:
            raise self._failure

    # -- radio

    def _hand_over(self, cell: str) -> None:
        old = self._steering.base_station
        started_s = self._is.clock.now_s()
        binding = self._bind(cell, "handover", self._steering.server, old)
        self._steering.connect(binding.base_station)
        self._is.keep(
            HandoverRecord(
                user=self._is.user,
                source_cell=self.cell,
                target_cell=cell,
                source=old,
                target=binding.base_station,
                started_s=started_s,
                ended_s=self._is.clock.now_s(),
            )
        )
        self._is.tell(
            f"handover of {self._is.user}: {self.cell} to {cell} ({binding.base_station})"
        )
        self.cell = cell

    def _bind(self, site: str, why: str, server_in_use: str, station_in_use: str) -> Binding:
        here = site == self.service_site
        ahead = self._prepared
        with self._binding:
            binding = self._binder.bind(
                site,
                server_in_use="" if here else server_in_use,
                station_in_use=station_in_use,
                held_by=server_in_use if here else "",
                spared=ahead[1].target if ahead and ahead[0] != site else "",
            )
        self._is.keep(
            BindingRecord(self._is.clock.now_s(), site, binding.server, binding.base_station, why)
        )
        return binding

    # -- service

    def _work(self) -> None:
        try:
            while True:
                with self._changed:
                    self._busy, self._moving_to = False, ""
                    while not self._ending and not self._something_to_do():
                        self._changed.wait(0.1)
                    if self._ending:
                        break
                    self._busy = True
                    wanted = self._wanted
                    if wanted.service_at != self.service_site:
                        self._moving_to = wanted.service_at
                self._step(wanted)
            self._drop()
        except BaseException as error:  # noqa: BLE001 - the loop raises it where it can be handled
            self._failure = error

    def _something_to_do(self) -> bool:
        return time.monotonic() >= self._not_before_s and self._has_work()

    def _has_work(self) -> bool:
        ahead = self._prepared
        return bool(self._wanted.next_site(self.service_site, ahead[0] if ahead else ""))

    def _step(self, wanted: Plan) -> None:
        """Do one thing towards the plan; a failure leaves the service where it is."""
        site = wanted.next_site(self.service_site)
        try:
            if self._prepared is None or not self._fits(site):
                self._drop()
                self._prepare(site)
            if wanted.service_at == site and self._prepared:
                self._move(site, self._prepared[1])
        except (RemoteCommandError, HostUnreachableError, MigrationError, ScenarioError) as error:
            self._prepared = None
            self._not_before_s = time.monotonic() + RETRY_AFTER_S
            self._is.tell(f"{self._is.service} stays at {self._steering.server}: {error}")

    def _fits(self, site: str) -> bool:
        """Whether what is prepared is for this site and still on the host bound to it."""
        if self._prepared is None or self._prepared[0] != site:
            return False
        with self._binding:
            bound = self._binder.bind(site, server_in_use=self._steering.server)
        return bound.server == self._prepared[1].target

    def _prepare(self, site: str) -> None:
        station = self._steering.base_station if site != self.cell else ""
        binding = self._bind(site, "prepare", self._steering.server, station)
        self._is.tell(f"sending {self._is.service} ahead to {site} ({binding.server})")
        movement = self._mover.open(
            self._is.service, self._steering.server, binding.server, self._is.technique
        )
        self._prepared = (site, movement)
        try:
            movement.send_ahead(self._is.stop)
        except (RemoteCommandError, HostUnreachableError):
            with contextlib.suppress(RemoteCommandError, HostUnreachableError):
                movement.drop()
            raise

    def _move(self, site: str, movement: Movement) -> None:
        target = movement.target
        outcome = movement.finish(lambda: self._lead_to(target))
        self._prepared = None
        moved = outcome.outcome == "moved"
        if not moved:
            done([self._steering.lead_to(movement.source)])
            self._not_before_s = time.monotonic() + RETRY_AFTER_S
        self._keep(outcome, movement, self.service_site, site)
        words = f"{outcome.event_window_s * 1e3:.0f} ms" if moved else outcome.reason
        self._is.tell(
            f"{self._is.service} {outcome.outcome}: {movement.source} to {target} ({words})"
        )
        if moved:
            self.service_site = site

    def _lead_to(self, server: str) -> None:
        self._steering.lead_to(server)

    def _drop(self) -> None:
        if self._prepared:
            prepared, self._prepared = self._prepared, None
            self._is.tell(f"not going to {prepared[0]} after all")
            prepared[1].drop()

    def _keep(self, outcome: Outcome, movement: Movement, source: str, site: str) -> None:
        at = self._is.clock.from_epoch_s

        def run_s(epoch_s: float) -> float:
            return at(epoch_s) if epoch_s == epoch_s else NAN  # noqa: PLR0124 - nan is not itself

        self._is.keep(
            MigrationRecord(
                migration=outcome.migration,
                service=self._is.service,
                user=self._is.user,
                source=movement.source,
                target=movement.target,
                source_site=source,
                target_site=site,
                technique=movement.technique.name,
                outcome=outcome.outcome,
                reason=f"{outcome.reason}\n{outcome.log}".strip(),
                requested_s=run_s(outcome.requested_s),
                prepared_s=run_s(outcome.prepared_s),
                frozen_s=run_s(outcome.frozen_s),
                answered_s=run_s(outcome.answered_s),
                ended_s=run_s(outcome.ended_s),
                freeze_s=outcome.freeze_s,
                event_window_s=outcome.event_window_s,
                client_gap_s=NAN,
                client_gap_floor_s=NAN,
                rounds=outcome.rounds,
                bytes_ahead=outcome.bytes_ahead,
                bytes_frozen=outcome.bytes_frozen,
                bytes_spared=outcome.bytes_spared,
            )
        )
        for phase in outcome.phases:
            fields = {**phase.__dict__}
            fields |= {"start_s": at(phase.start_s), "end_s": at(phase.end_s)}
            self._is.keep(PhaseRecord(**fields))
