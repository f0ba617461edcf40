"""Wi-Fi and Bluetooth behind one view: the connection manager (Bellavista et al., architecture).

Whoever asks sees one list of links, whatever carries them. Within a kind, relative signal strength
with hysteresis says which access point is used (`HandoverRule`); a change is a *horizontal*
handoff. Between kinds a policy decides; a change is a *vertical* one.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from testbed.errors import ScenarioError
from testbed.mobility.radio import HandoverRule, SignalModel
from testbed.mobility.rates import RateTable

Handoff = Literal["none", "first", "horizontal", "vertical", "lost"]


@dataclass(frozen=True)
class AvailableLink:
    """A link that a user could use now.

    Attributes
    ----------
    kind : str
        ``wifi``, ``bluetooth``...
    access_point : str
        Its name.
    rssi_dbm : float
        Received power, dBm.
    rate_bps : float
        What an application gets, bits per second.
    cost : float
        Of using it, in whatever unit all kinds share (energy, money).
    margin_db : float
        How much weaker it may become before it is lost: a small one announces a handoff.
    """

    kind: str
    access_point: str
    rssi_dbm: float
    rate_bps: float
    cost: float
    margin_db: float


@dataclass(frozen=True, eq=False)
class Technology:
    """One kind of link: its access points, what they carry, and how one changes among them.

    Attributes
    ----------
    kind : str
        Its name.
    signal : SignalModel
        Strength of its access points at any place.
    rates : RateTable
        What a strength carries.
    handover : HandoverRule
        Which access point of this kind is used; belongs to one user.
    cost : float
        Of using it.
    """

    kind: str
    signal: SignalModel
    rates: RateTable
    handover: HandoverRule
    cost: float = 0.0

    def links(self, x_m: float, y_m: float) -> list[AvailableLink]:
        """Links of this kind at a place of the map's plane, metres, strongest first."""
        lowest = self.rates.lowest_dbm
        heard = {name: dbm for name, dbm in self.signal.measure(x_m, y_m).items() if dbm >= lowest}
        rates = self.rates.throughput_bps(list(heard.values())).tolist()
        found = [
            AvailableLink(self.kind, name, dbm, rate, self.cost, dbm - lowest)
            for (name, dbm), rate in zip(heard.items(), rates, strict=True)
        ]
        return sorted(found, key=lambda link: (-link.rssi_dbm, link.access_point))


class LinkPolicy(Protocol):
    """Decides among the kinds of link."""

    def choose(
        self, links: Sequence[AvailableLink], current: AvailableLink | None
    ) -> AvailableLink:
        """One of ``links`` (never empty, at most one of each kind).

        ``current`` is that of them whose kind is in use, or ``None`` where that kind has gone.
        """


@dataclass(frozen=True)
class Fastest:
    """The highest rate; another kind must be faster by ``advantage`` (0.2: a fifth)."""

    advantage: float = 0.2

    def choose(
        self, links: Sequence[AvailableLink], current: AvailableLink | None
    ) -> AvailableLink:
        """See `LinkPolicy`."""
        best = max(links, key=lambda link: (link.rate_bps, -link.cost, link.kind))
        if current is not None and best.rate_bps <= current.rate_bps * (1 + self.advantage):
            return current
        return best


@dataclass(frozen=True)
class Cheapest:
    """The least cost among those that carry ``needed_bps``; where none does, the fastest.

    Another kind must carry ``advantage`` more than is needed before it is changed to.
    """

    needed_bps: float
    advantage: float = 0.2

    def choose(
        self, links: Sequence[AvailableLink], current: AvailableLink | None
    ) -> AvailableLink:
        """See `LinkPolicy`."""

        def enough(link: AvailableLink) -> bool:
            more = 1.0 if current is not None and link == current else 1 + self.advantage
            return link.rate_bps >= self.needed_bps * more

        carrying = [link for link in links if enough(link)]
        if not carrying:
            return Fastest(self.advantage).choose(links, current)
        return min(
            carrying, key=lambda link: (link.cost, link != current, -link.rate_bps, link.kind)
        )


@dataclass(frozen=True)
class ConnectionView:
    """What the connection manager shows at one time.

    Attributes
    ----------
    time_s : float
        When.
    links : tuple of AvailableLink
        Every link there is, of all kinds, fastest first.
    chosen : AvailableLink or None
        The one in use, or being changed to; ``None`` where there is none.
    connected : bool
        Whether it carries anything now: not during a handoff.
    handoff : str
        What happened just now: ``none``, ``first``, ``horizontal``, ``vertical`` or ``lost``.
    """

    time_s: float
    links: tuple[AvailableLink, ...]
    chosen: AvailableLink | None
    connected: bool
    handoff: Handoff

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{'in use' if link == self.chosen else ''}</td><td>{html.escape(link.kind)}"
            f"</td><td>{html.escape(link.access_point)}</td><td>{link.rssi_dbm:.1f}</td>"
            f"<td>{link.rate_bps / 1e6:.1f}</td><td>{link.cost:g}</td></tr>"
            for link in self.links
        )
        head = "".join(
            f"<th>{name}</th>" for name in ("", "kind", "access point", "dBm", "Mbit/s", "cost")
        )
        caption = f"{self.time_s:g} s: {'connected' if self.connected else 'not connected'}"
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{rows}</table>"


@dataclass(eq=False)
class ConnectionManager:
    """Keeps one user connected over several kinds of link.

    Attributes
    ----------
    technologies : sequence of Technology
        The kinds, each once.
    policy : LinkPolicy
        Decides among them.
    vertical_s : float
        How long a change from one kind to another interrupts; 0 where both are kept at once.
    """

    technologies: Sequence[Technology]
    policy: LinkPolicy = field(default_factory=Fastest)
    vertical_s: float = 0.0
    _chosen: AvailableLink | None = field(default=None, init=False, repr=False)
    _until_s: float = field(default=float("-inf"), init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse none, or one twice."""
        kinds = [technology.kind for technology in self.technologies]
        if not kinds or len(set(kinds)) != len(kinds):
            raise ScenarioError(f"kinds of link {kinds}: name at least one, and each only once")

    def update(self, time_s: float, x_m: float, y_m: float) -> ConnectionView:
        """Look around at a place, change the link where that is due, and tell what there is.

        Parameters
        ----------
        time_s : float
            Now, seconds; must not go back.
        x_m, y_m : float
            The place on the map's plane, metres.
        """
        links: list[AvailableLink] = []
        best: list[AvailableLink] = []
        changing: dict[str, bool] = {}
        for technology in self.technologies:
            found = technology.links(x_m, y_m)
            links += found
            rule = technology.handover
            state = rule.observe(time_s, {link.access_point: link.rssi_dbm for link in found})
            changing[technology.kind] = not state.connected
            best += [link for link in found if link.access_point == state.serving]
        before = self._chosen
        handoff: Handoff
        if not best:
            self._chosen, handoff = None, "none" if before is None else "lost"
        else:
            kind = before.kind if before is not None else ""
            current = next((link for link in best if link.kind == kind), None)
            # A vertical handoff that is going on is not turned back.
            busy = current is not None and time_s < self._until_s
            chosen = current if busy and current else self.policy.choose(best, current)
            handoff = _handoff(before, chosen)
            if handoff == "vertical":
                self._until_s = time_s + self.vertical_s
            self._chosen = chosen
        connected = (
            self._chosen is not None and time_s >= self._until_s and not changing[self._chosen.kind]
        )
        shown = sorted(links, key=lambda link: (-link.rate_bps, -link.rssi_dbm, link.access_point))
        return ConnectionView(time_s, tuple(shown), self._chosen, connected, handoff)


def _handoff(before: AvailableLink | None, after: AvailableLink) -> Handoff:
    if before is None:
        return "first"
    if before.kind != after.kind:
        return "vertical"
    return "none" if before.access_point == after.access_point else "horizontal"
