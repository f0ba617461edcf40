"""How a service's memory goes: the fastest way that is allowed and works, and why none faster."""

from dataclasses import dataclass
from pathlib import Path

from . import claim, preflight
from .container import Holder
from .criu import Criu
from .later import begin_later
from .outbox import Outbox
from .outgoing import ByContent, Outgoing
from .timeline import Timeline
from .tracker import NotTrackedError
from .watched import Watched

TRACKERS = ("auto", "write-protect", "content")
NOT_WANTED = "the technique asks for it"
Parts = tuple[Holder, Outbox, Timeline]
"""What every `Outgoing` is made of."""


@dataclass(frozen=True)
class Ways:
    """How a service may be moved (`testbed.migration.technique.Technique`).

    Raises
    ------
    ValueError
        If there is no such tracker.
    """

    tracker: str = "auto"
    claim: bool = True
    fill: bool = True
    later: bool = False
    ahead: bool = False

    def __post_init__(self) -> None:
        """Refuse what is not known."""
        if self.tracker not in TRACKERS:
            known = ", ".join(TRACKERS)
            raise ValueError(f"there is no tracker {self.tracker!r}; there are: {known}")


@dataclass(frozen=True)
class Chosen:
    """What finds and sends memory, whether the target fills it in, and why nothing faster."""

    memory: Outgoing
    fill: bool = False
    notes: tuple[str, ...] = ()


def choose(ways: Ways, criu: Criu, no_fill: str, parts: Parts) -> Chosen:
    """Choose how written pages are found, dumped and restored, and begin with it.

    Parameters
    ----------
    ways : Ways
        What is allowed.
    criu : Criu
        Waiting in the service's container.
    no_fill : str
        Why the target cannot fill memory in; empty where it can.
    parts : tuple
        The service's container, the way to the target, where phases are written down.

    Raises
    ------
    NotTrackedError
        If the tracker that was asked for cannot watch this service.
    CannotWaitError
        If memory cannot come later here, and that was asked for.
    """
    holder = parts[0]
    at_once = no_fill if ways.fill else NOT_WANTED
    if ways.later:
        cannot = (_no_claim(ways, criu, holder), at_once)
        return Chosen(begin_later(*parts, ahead=ways.ahead, cannot=cannot), fill=True)
    if ways.tracker == "content":
        return Chosen(ByContent(*parts))
    try:
        preflight.require(holder.processes())
        no_claim = _no_claim(ways, criu, holder)
        watched = Watched(*parts, claimed=not no_claim)
        watched.begin()
    except NotTrackedError as error:
        if ways.tracker != "auto":
            nearest = "the nearest that works here is the tracker 'content'"
            raise NotTrackedError(f"{error}; {nearest}") from error
        return Chosen(ByContent(*parts), notes=(f"all content is compared: {error}",))
    notes = [f"CRIU writes pages that nobody needs: {no_claim}"] if no_claim else []
    if at_once:
        notes.append(f"memory is restored before the service goes on: {at_once}")
    return Chosen(watched, not at_once, tuple(notes))


def _no_claim(ways: Ways, criu: Criu, holder: Holder) -> str:
    """Why CRIU cannot leave pages out of its dump; empty where it can."""
    if not ways.claim:
        return NOT_WANTED
    return claim.pretend(criu, Path(f"/proc/{holder.init}/root"))
