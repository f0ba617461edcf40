"""The experiment: fixes go through radio, road match, prediction and plan; the service follows."""

import contextlib
import dataclasses
import itertools
import json
import platform
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from testbed.edge import probe
from testbed.errors import ServiceError
from testbed.experiment.follower import Follower, Following
from testbed.experiment.prepare import Parts, client_folder, container_spec, spec_json
from testbed.experiment.progress import Steps
from testbed.experiment.steering import Steering
from testbed.experiment.watch import Decider, Sighting, Watch, deciders
from testbed.experiment.world import Moving, World, idle_for_all
from testbed.handoff.binding import Binder
from testbed.hosts.lab import Lab
from testbed.measurement.clock import RunClock
from testbed.measurement.requests import check_counts, measure_client_gaps, read_requests
from testbed.measurement.store import ResultsWriter, Run
from testbed.migration.mover import Mover, Stop
from testbed.migration.technique import find_technique
from testbed.planning.planner import Plan
from testbed.records import (
    FixRecord,
    HostRecord,
    LinkRecord,
    PlanRecord,
    PredictionRecord,
    RequestRecord,
    RunManifest,
)
from testbed.scenario import TIERS, Scenario

REPORTED_PACKAGES = ("testbed", "ansible-core", "eclipse-sumo", "numpy", "pandas", "pydantic")
PAUSE_LOOKS = 100
SETTLE_S = 1.0
"""How long users send before the first fix, and after the last handoff."""


@dataclass
class User:
    """One user while a run goes on."""

    name: str
    moving: Moving
    watch: Watch
    decider: Decider
    follower: Follower
    client: str
    rows: str
    next_fix: int = 0
    read: int = 0


def manifest(world: World, lab: Lab, parts: Parts, name: str) -> RunManifest:
    """What must be known to trust and repeat the run that begins now."""
    scenario, facts = world.scenario, probe.facts()
    return RunManifest(
        run=name,
        scenario=scenario.name,
        scenario_sha256=scenario.sha256,
        seed=scenario.seed,
        started_epoch_s=time.time(),
        duration_s=world.duration_s(),
        versions={package: version(package) for package in REPORTED_PACKAGES},
        machine={
            "settings": facts["settings"],
            "kernel": platform.release(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
            "features": {name: f["works"] for name, f in facts["features"].items()},
            "separation_m": world.cells.separation_m,
            "images": {n: [x.digest for x in i.layers] for n, i in parts.images.items()},
        },
        choices={
            "wan": lab.backend,
            "technique": scenario.migration.technique,
            "predictor": scenario.prediction.predictor,
            "protocol": scenario.handoff.protocol,
            "planner": scenario.planning.named(scenario.handoff),
        },
    )


class Experiment:
    """One run of a scenario in a lab that is up, provisioned and connected.

    Parameters
    ----------
    world, lab, parts
        Map and users' ways; hosts; the services' images and clients.
    folder : Path
        Where the results go.
    """

    def __init__(self, world: World, lab: Lab, parts: Parts, folder: Path, steps: Steps) -> None:
        self._world = world
        self._scenario: Scenario = world.scenario
        self._lab = lab
        self._parts = parts
        self._steps = steps
        self._folder = folder
        self._deciders = deciders(world)
        self._clock = RunClock()
        self._users: list[User] = []
        self._offsets_s: dict[str, float] = {}

    def run(self, links: Sequence[LinkRecord], hosts: Sequence[HostRecord]) -> Run:
        """Run it; return the results.

        Raises
        ------
        WrongAnswerError
            If an answer was lost, repeated or wrong: the results are kept, and say so.
        """
        self._offsets_s = {host.host: host.clock_offset_s for host in hosts}
        start = manifest(self._world, self._lab, self._parts, self._folder.name)
        with ResultsWriter(self._folder, start) as writer:
            for record in (*links, *hosts):
                writer.add(record)
            writer.add_frame("cells", self._world.cells_frame())
            writer.add_frame("roads", self._world.roads_frame())
            try:
                self._clock = RunClock()
                writer.manifest = dataclasses.replace(
                    writer.manifest, started_epoch_s=self._clock.started_epoch_s
                )
                self._start_users(writer)
                self._drive(writer)
                self._end_users(writer)
            except KeyboardInterrupt:
                self._abandon()
                writer.close("interrupted")
                raise
            except BaseException:
                self._abandon()
                raise
            requests = writer.records("requests")
            moved = measure_client_gaps(
                writer.records("migrations"),
                requests,
                writer.records("handovers"),
                self._clock.clock_jumps(),
            )
            writer.replace("migrations", moved)
            check_counts(requests)
            return writer.close(
                duration_s=self._clock.now_s(), clock_jumps=self._clock.clock_jumps()
            )

    # -- users

    def _start_users(self, writer: ResultsWriter) -> None:
        mover = Mover(self._lab, self._offsets_s)
        migration = self._scenario.migration
        for name, spec in self._scenario.users.items():
            binder, servers = self._hosts_for(spec.service)
            address = self._lab.plan.service_addresses[spec.service]
            follower = Follower(
                Following(
                    user=name,
                    service=spec.service,
                    technique=find_technique(migration.technique, migration.tracker),
                    stop=Stop(int(migration.small_enough), migration.rounds),
                    clock=self._clock,
                    keep=writer.add,
                    tell=self._steps.say,
                ),
                mover,
                binder,
                Steering(self._lab, spec.host, address, servers),
            )
            moving, decider = self._world.moving[name], self._deciders[name]
            cell = self._first_cell(moving)
            binding = follower.begin(cell, decider.first(cell).service_at)
            container = container_spec(self._scenario, self._lab.plan, self._parts, spec.service)
            self._lab[binding.server].call("start_service", spec=spec_json(container))
            follower.start()
            rows = f"/tmp/requests-{name}.csv"  # noqa: S108
            watch = Watch(self._world, name, moving)
            user = User(name, moving, watch, decider, follower, f"client-{name}", rows)
            self._start_client(user)
            self._users.append(user)
        self._clock.sleep_until(self._clock.now_s() + SETTLE_S)

    def _hosts_for(self, service: str) -> tuple[Binder, tuple[str, ...]]:
        """What gives sites to hosts for a service, and every server that it may come to."""
        scenario, tiers = self._scenario, self._world.tiers
        chosen = scenario.planning.tiers
        own = min(chosen, key=TIERS.index, default=scenario.services[service].tier)
        by_tier = {t: scenario.hosts_with("server", t) for t in TIERS if t in {*chosen, own}}
        binder = Binder(
            by_tier[own],
            scenario.hosts_with("base-station"),
            scenario.sites,
            {site: by_tier[t] for t in chosen if t != "local" for site in tiers.sites(t)},
        )
        return binder, tuple(itertools.chain(*by_tier.values()))

    def _first_cell(self, moving: Moving) -> str:
        first = moving.trace.iloc[0]
        x_m, y_m = self._world.roads.projection.point_xy(first["lat_deg"], first["lon_deg"])
        return self._world.cells.nearest(x_m, y_m)

    def _start_client(self, user: User) -> None:
        spec = self._scenario.users[user.name]
        kind = self._parts.kinds[spec.service]
        options = self._scenario.services[spec.service].options
        command = kind.client_command(
            self._lab.plan.service_addresses[spec.service],
            kind.port,
            spec.interval or kind.interval_s,
            options,
        )
        self._lab[spec.host].call(
            "start_program",
            name=user.client,
            command=[*command, "--output", user.rows],
            directory=client_folder(kind),
        )

    def _end_users(self, writer: ResultsWriter) -> None:
        for user in self._users:
            user.follower.end()
        self._clock.sleep_until(self._clock.now_s() + SETTLE_S)
        for user in self._users:
            spec = self._scenario.users[user.name]
            answer = self._lab[spec.host].call("stop_program", name=user.client)
            for record in self._requests_of(user):
                writer.add(record)
            if not json.loads(answer["output"] or "{}").get("answered"):
                raise ServiceError(
                    f"{spec.service} never answered {user.name}: {answer['errors'].strip()[-400:]}"
                )

    def _requests_of(self, user: User) -> list[RequestRecord]:
        spec = self._scenario.users[user.name]
        rows = self._folder / f"requests-{user.name}.csv"
        rows.write_text(self._lab[spec.host].call("read", path=user.rows), encoding="utf-8")
        return read_requests(
            rows,
            user=user.name,
            service=spec.service,
            started_epoch_s=self._clock.started_epoch_s,
            clock_jumps=self._clock.clock_jumps(),
            clock_offset_s=self._offsets_s.get(spec.host, 0.0),
        )

    def _abandon(self) -> None:
        for user in self._users:
            with contextlib.suppress(Exception):
                user.follower.end()

    # -- the line from fix to plan

    def _drive(self, writer: ResultsWriter) -> None:
        begin_s, duration_s = self._clock.now_s(), self._world.duration_s()
        stretches = idle_for_all(self._world)
        for time_s, user in self._fixes(duration_s):
            while stretches and time_s > stretches[0][1]:
                stretches.pop(0)
            if stretches and time_s >= stretches[0][0] and self._skip(begin_s + stretches[0][1]):
                stretches.pop(0)
            self._clock.sleep_until(begin_s + time_s)
            self._steps.detail(f"{time_s:.0f} of {duration_s:.0f} s, {user.follower.cell}")
            self._take_fix(user, writer)

    def _skip(self, until_s: float) -> bool:
        """Let the clock jump over an idle stretch, if nothing at all is under way."""
        if not all(user.follower.idle for user in self._users):
            return False
        for user in self._users:
            self._signal_client(user, signal.SIGUSR1)
        paused = all(self._is_paused(user) for user in self._users)
        skipped_s = until_s - self._clock.now_s()
        if paused and skipped_s > 0 and all(user.follower.idle for user in self._users):
            self._clock.jump(skipped_s)
            self._steps.say(f"nobody moves: {skipped_s:.0f} s skipped")
        for user in self._users:
            self._signal_client(user, signal.SIGUSR2)
        return True

    def _signal_client(self, user: User, number: int) -> None:
        host = self._scenario.users[user.name].host
        self._lab[host].call("signal_program", name=user.client, number=int(number))

    def _is_paused(self, user: User) -> bool:
        """Wait until the user's client says that nothing is out any more."""
        host = self._lab[self._scenario.users[user.name].host]
        for _ in range(PAUSE_LOOKS):
            rows = host.call("read", path=user.rows, offset=user.read)
            user.read += len(rows)
            if "paused, nothing is out" in rows:
                return True
            time.sleep(0.02)
        return False

    def _fixes(self, duration_s: float) -> Iterator[tuple[float, User]]:
        """Every fix of every user, in order of time."""
        while True:
            due = [
                (float(user.moving.trace["time_s"].iloc[user.next_fix]), number)
                for number, user in enumerate(self._users)
                if user.next_fix < len(user.moving.trace)
            ]
            if not due or min(due)[0] > duration_s:
                return
            time_s, number = min(due)
            yield time_s, self._users[number]
            self._users[number].next_fix += 1

    def _take_fix(self, user: User, writer: ResultsWriter) -> None:
        now_s = self._clock.now_s()
        seen = user.watch.look(user.next_fix, now_s)
        plan = user.decider.decide(seen, user.follower.bound_for)
        writer.add(self._fix_record(user, seen))
        coming = (candidate for candidate in seen.candidates if candidate.step == 1)
        for rank, candidate in enumerate(coming, start=1):
            writer.add(
                PredictionRecord(
                    now_s, user.name, rank, candidate.site, candidate.probability, candidate.eta_s
                )
            )
        writer.add(_plan_record(now_s, user, plan))
        user.follower.follow(plan)

    def _fix_record(self, user: User, seen: Sighting) -> FixRecord:
        row, match, serving = seen.row, seen.match, seen.serving_cell
        return FixRecord(
            time_s=seen.time_s,
            user=user.name,
            lat_deg=float(row["lat_deg"]),
            lon_deg=float(row["lon_deg"]),
            speed_mps=float(row["speed_mps"]),
            heading_deg=float(row["heading_deg"]),
            edge=match.edge,
            offset_m=match.offset_m,
            matched_lat_deg=match.lat_deg,
            matched_lon_deg=match.lon_deg,
            match_probability=match.probability,
            match_reason=match.reason,
            cell=self._world.cells.nearest(seen.x_m, seen.y_m),
            serving_cell=serving,
            rssi_dbm=seen.state.recent_rssi[-1][1][serving],
        )


def _plan_record(now_s: float, user: User, plan: Plan) -> PlanRecord:
    site = plan.prepare_at or plan.service_at
    server, base_station = user.follower.hosts_of(site)
    return PlanRecord(
        time_s=now_s,
        user=user.name,
        action="prepare" if plan.prepare_at else "stay",
        site=site,
        server=server,
        base_station=base_station,
        reason=plan.reason,
    )
