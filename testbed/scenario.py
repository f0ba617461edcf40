"""The whole experiment in one validated YAML file.

A scenario names the map, the cells, the hosts and the links between them, the services, the users
and how their services are to follow them. Reading it checks everything that can be checked without
touching a machine; an unknown key is answered with the nearest right one.
"""

import fnmatch
import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from testbed.errors import ScenarioError
from testbed.explain import explain, keys, nearest
from testbed.geography import Cells, MapSource, Tiers
from testbed.movement import Part, Radio, TraceSpec
from testbed.units import Duration, Rate, Share, Size, Speed

Tier = Literal["local", "regional", "cloud"]
TIERS: tuple[Tier, ...] = ("local", "regional", "cloud")


class HostSpec(Part):
    """One machine of the lab."""

    role: Literal["server", "base-station", "user"]
    tier: Tier | None = None

    @model_validator(mode="after")
    def _tier_of_servers_only(self) -> "HostSpec":
        if (self.role == "server") != (self.tier is not None):
            raise ValueError(
                "a server needs a tier (local, regional or cloud); other roles have none"
            )
        return self


class LinkSpec(Part):
    """The path between two hosts, or two groups of them (``bs-*``), the same both ways.

    rate : bits per second; absent means unshaped. delay : one way. loss : share of packets.
    """

    between: tuple[str, str]
    rate: Rate | None = None
    delay: Duration = 0.0
    loss: Share = 0.0


class Link(BaseModel, frozen=True):
    """One direction of the path between two hosts.

    rate_bps : bits per second, ``None`` for unshaped.
    delay_s : one-way delay added by the emulator, seconds.
    loss : share of packets dropped, 0 to 1.
    """

    source: str
    target: str
    rate_bps: float | None = None
    delay_s: float = 0.0
    loss: float = 0.0


class ServiceSpec(Part):
    """One offloaded service: its kind (an entry point of ``testbed.services``) and its needs.

    tier : on which servers it may be; with `Planning.tiers`, the lowest.
    max_delay : the longest round trip between user and server that it tolerates; absent means as
    far as the tier that its kind names.
    """

    kind: str
    tier: Tier = "local"
    max_delay: Duration | None = None
    options: dict[str, float | int | str] = Field(default_factory=dict)


class UserSpec(Part):
    """One user: the host that plays it, the service it uses, how it moves.

    interval : time between two requests; absent means what suits the service.
    skip : seconds of the trace left out at its start.
    """

    host: str
    service: str
    trace: TraceSpec
    interval: Duration | None = None
    skip: Duration = 0.0


class Prediction(Part):
    """Which site comes next, and how far to look."""

    predictor: str = "map-based"
    horizon: Duration = 30.0


class Handoff(Part):
    """When the service is prepared at the next site.

    protocol : ``proactive`` sends ahead to the predicted site; ``reactive`` waits for the handover.
    lead : how long before the predicted arrival sending ahead begins.
    certainty : least probability for which it begins.
    """

    protocol: Literal["proactive", "reactive"] = "proactive"
    lead: Duration = 20.0
    certainty: Share = 0.5


class Planning(Part):
    """Where the service should be.

    planner : an entry point of ``testbed.planners``; absent means by `Handoff.protocol`.
    tiers : on which services may be placed; none means on each service's own only.
    short_stay : a stay in a site's area that is shorter is not worth a migration.
    slow : users slower than this keep to the lowest tier.
    """

    planner: str | None = None
    tiers: tuple[Tier, ...] = ()
    short_stay: Duration = 10.0
    slow: Speed | None = None

    def named(self, handoff: Handoff) -> str:
        """The planner, named here or by the handoff's protocol."""
        return self.planner or {"proactive": "pm", "reactive": "nearest"}[handoff.protocol]


class Migration(Part):
    """How a running container is moved.

    technique : see `testbed.migration.technique`. tracker : how pre-copy finds written pages.
    """

    technique: Literal["cold", "delta", "pre-copy", "post-copy", "hybrid"] = "pre-copy"
    tracker: Literal["auto", "write-protect", "content"] | None = None
    rounds: int = Field(default=8, ge=1)
    small_enough: Size = 256 * 1024.0


class Scenario(Part):
    """A whole experiment. ``path`` and ``sha256`` say which file it was read from."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    description: str = ""
    seed: int = 1
    duration: Duration | None = None
    map: MapSource
    cells: Cells = Cells()
    tiers: Tiers = Tiers()
    radio: Radio = Radio()
    hosts: dict[str, HostSpec]
    links: tuple[LinkSpec, ...]
    sites: dict[str, str] = Field(default_factory=dict)
    services: dict[str, ServiceSpec]
    users: dict[str, UserSpec]
    prediction: Prediction = Prediction()
    planning: Planning = Planning()
    handoff: Handoff = Handoff()
    migration: Migration = Migration()
    path: Path | None = Field(default=None, exclude=True)
    sha256: str = Field(default="", exclude=True)

    def hosts_with(self, role: str, tier: str | None = None) -> list[str]:
        """Names of the hosts of a role (and tier), in the file's order."""
        return [
            name
            for name, spec in self.hosts.items()
            if spec.role == role and (tier is None or spec.tier == tier)
        ]

    def directed_links(self) -> list[Link]:
        """Every link in both directions, patterns resolved; a later entry overrides an earlier."""
        found: dict[tuple[str, str], Link] = {}
        for spec in self.links:
            for one, other in _pairs(spec, self.hosts):
                for source, target in ((one, other), (other, one)):
                    found[source, target] = Link(
                        source=source,
                        target=target,
                        rate_bps=spec.rate,
                        delay_s=spec.delay,
                        loss=spec.loss,
                    )
        return list(found.values())

    @model_validator(mode="after")
    def _everything_named_exists(self) -> "Scenario":
        problems = [
            *self._host_problems(),
            *self._site_problems(),
            *self._link_problems(),
            *self._user_problems(),
            *self._planning_problems(),
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _host_problems(self) -> Iterator[str]:
        for role in ("server", "base-station", "user"):
            if not self.hosts_with(role):
                yield f"hosts: there is no {role}; add one"
        for name in self.hosts:
            if not HOST_NAME.fullmatch(name):
                yield (
                    f"hosts.{name}: a host's name has at most {MAX_HOST_NAME} letters (a to z), "
                    "digits and dashes"
                )

    def _site_problems(self) -> Iterator[str]:
        bound: dict[str, str] = {}
        for site, host in self.sites.items():
            if host not in self.hosts:
                yield f"sites.{site}: there is no host {host!r}{nearest(host, self.hosts)}"
            elif self.hosts[host].role != "server":
                yield (
                    f"sites.{site}: {host!r} is a {self.hosts[host].role}; a site is served by a "
                    "server"
                )
            elif host in bound:
                yield (
                    f"sites.{site}: host {host!r} already serves site {bound[host]!r}; a move "
                    "between the two would have the same source and target. Give each its own host"
                )
            bound.setdefault(host, site)

    def _link_problems(self) -> Iterator[str]:
        for number, spec in enumerate(self.links):
            for end in spec.between:
                if not fnmatch.filter(self.hosts, end):
                    yield (
                        f"links.{number}.between: there is no host {end!r}"
                        f"{nearest(end, self.hosts)}"
                    )

        linked = {(link.source, link.target) for link in self.directed_links()}
        for one, other, why in self._paths_needed():
            if (one, other) not in linked:
                yield f"links: there is none between {one} and {other}, {why}; add one"

    def _paths_needed(self) -> Iterator[tuple[str, str, str]]:
        """Pairs of hosts that must be linked for every user to be followed anywhere."""
        stations = self.hosts_with("base-station")
        tiers = {spec.tier for spec in self.services.values()} | set(self.planning.tiers)
        servers = [host for tier in tiers for host in self.hosts_with("server", tier)]
        for user in self.hosts_with("user"):
            yield from ((user, station, "its radio link") for station in stations)
        for station in stations:
            yield from ((station, server, "the way to the service") for server in servers)
        for tier in tiers:
            for one, other in itertools.combinations(self.hosts_with("server", tier), 2):
                yield one, other, f"between which services of tier {tier} move"
        for lower, upper in itertools.combinations(TIERS, 2):
            if {lower, upper} <= set(self.planning.tiers):
                ends = self.hosts_with("server", lower), self.hosts_with("server", upper)
                for one, other in itertools.product(*ends):
                    yield one, other, f"between which services move to tier {upper} and back"

    def _user_problems(self) -> Iterator[str]:
        used: dict[str, str] = {}
        played: dict[str, str] = {}
        for name, user in self.users.items():
            if user.service not in self.services:
                yield (
                    f"users.{name}.service: there is no service {user.service!r}"
                    f"{nearest(user.service, self.services)}"
                )
            if user.service in used:
                yield (
                    f"users.{name}.service: {user.service!r} follows {used[user.service]!r} "
                    "already; give each user a service of its own (of the same kind)"
                )
            used.setdefault(user.service, name)
            if user.host in played:
                yield (
                    f"users.{name}.host: {user.host!r} plays {played[user.host]!r} already, and "
                    "has one radio link; give each user a host of its own"
                )
            played.setdefault(user.host, name)
            if user.host not in self.hosts_with("user"):
                yield (
                    f"users.{name}.host: {user.host!r} is not a host with role user"
                    f"{nearest(user.host, self.hosts_with('user'))}"
                )
        for service, spec in self.services.items():
            if len(self.hosts_with("server", spec.tier)) < SERVERS_TO_MOVE:
                yield (
                    f"services.{service}.tier: a service of tier {spec.tier} can only move where "
                    f"there are {SERVERS_TO_MOVE} such servers; add one to hosts"
                )

    def _planning_problems(self) -> Iterator[str]:
        tiers = self.planning.tiers
        for tier in tiers:
            needed = 1 if tier == TIERS[-1] else SERVERS_TO_MOVE
            if len(self.hosts_with("server", tier)) < needed:
                yield (
                    f"planning.tiers: {tier} needs {needed} such servers; add one to hosts, or "
                    "leave the tier out"
                )
        for service, spec in self.services.items():
            if tiers and spec.tier not in tiers:
                yield (
                    f"services.{service}.tier: {spec.tier} is not among planning.tiers; add it "
                    "there, or choose another"
                )


MAX_HOST_NAME = 11
"""A link's device is called ``wan-HOST``, and Linux allows an interface 15 bytes."""
HOST_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9-]{{0,{MAX_HOST_NAME - 1}}}")
SERVERS_TO_MOVE = 2


def read_scenario(path: str | Path) -> Scenario:
    """Read and check a scenario file.

    Raises
    ------
    ScenarioError
        With file, key and remedy for each thing that is wrong.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read ({error.strerror}). Check the name") from error
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: is not UTF-8 text; is it a scenario?") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ScenarioError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        known = ", ".join(keys(Scenario))
        raise ScenarioError(f"{path}: a scenario is a mapping with the keys {known}")
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    try:
        scenario = Scenario.model_validate(content)
    except ValidationError as error:
        lines = [f"{path}: {explain(problem, Scenario)}" for problem in error.errors()]
        raise ScenarioError("\n".join(lines)) from error
    return scenario.model_copy(update={"path": path.resolve(), "sha256": sha256})


def _pairs(spec: LinkSpec, hosts: Mapping[str, object]) -> list[tuple[str, str]]:
    one, other = (fnmatch.filter(hosts, end) for end in spec.between)
    return [(a, b) for a, b in itertools.product(one, other) if a != b]
