"""The ways to move a running container, chosen by name and by what hosts can do."""

from dataclasses import dataclass, replace
from typing import Literal

from testbed.errors import MigrationError

Tracker = Literal["auto", "write-protect", "content"]


@dataclass(frozen=True)
class Technique:
    """One way to move a container.

    sends_ahead : whether memory and files go to the target while the service still runs.
    tracker : how the pages are found that were written meanwhile. ``write-protect``: the kernel
        tells (`testbed.edge.tracker`); ``content``: everything is compared; ``auto``: the first
        where it works, else the second, and the record says why.
    later : whether memory is sent after the service, which lives at the target meanwhile. Refused
        before the freeze where a host cannot do it.
    claim, fill : whether CRIU may leave pages out of its dump (`testbed.edge.claim`), and whether
        memory may come after the service (`testbed.edge.fill`). Both are left out by themselves
        where a host cannot do them.
    """

    name: str
    sends_ahead: bool
    explanation: str
    tracker: Tracker = "content"
    claim: bool = True
    fill: bool = True
    later: bool = False


COLD = Technique(
    "cold",
    sends_ahead=False,
    explanation="freeze, dump, send everything, restore",
)
DELTA = Technique(
    "delta",
    sends_ahead=True,
    explanation="send ahead while running; freeze, dump, send the pages that differ, restore "
    "(Ngo, section IV.B)",
)
PRE_COPY = Technique(
    "pre-copy",
    sends_ahead=True,
    explanation="send ahead while running; freeze, send the pages written since, dump all but "
    "memory, restore, fill memory in at the target",
    tracker="auto",
)
POST_COPY = Technique(
    "post-copy",
    sends_ahead=False,
    explanation="freeze, dump all but memory, restore; memory follows, what the service touches "
    "first",
    tracker="write-protect",
    later=True,
)
HYBRID = Technique(
    "hybrid",
    sends_ahead=True,
    explanation="send ahead while running; freeze, dump all but memory, restore; the pages written "
    "since follow",
    tracker="write-protect",
    later=True,
)
TECHNIQUES = {t.name: t for t in (COLD, DELTA, PRE_COPY, POST_COPY, HYBRID)}


def find_technique(name: str, tracker: Tracker | None = None) -> Technique:
    """The technique of this name, with another tracker where one is named.

    Raises
    ------
    MigrationError
        If there is none, or it has no such tracker.
    """
    if name not in TECHNIQUES:
        known = ", ".join(TECHNIQUES)
        raise MigrationError(f"there is no migration technique {name!r}; there are: {known}")
    technique = TECHNIQUES[name]
    if tracker is None or tracker == technique.tracker:
        return technique
    if technique is not PRE_COPY:
        always = "has the kernel tell" if technique.later else "compares content"
        raise MigrationError(
            f"{name} always {always}; the nearest that takes the tracker {tracker!r} is "
            f"{PRE_COPY.name}"
        )
    return replace(technique, tracker=tracker)
