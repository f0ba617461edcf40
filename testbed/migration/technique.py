"""The ways to move a running container, chosen by name and by what hosts can do."""

from dataclasses import dataclass

from testbed.errors import MigrationError


@dataclass(frozen=True)
class Technique:
    """One way to move a container.

    sends_ahead : whether memory and files go to the target while the service still runs.
    """

    name: str
    sends_ahead: bool
    explanation: str


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
TECHNIQUES = {technique.name: technique for technique in (COLD, DELTA)}


def find_technique(name: str) -> Technique:
    """The technique of this name.

    Raises
    ------
    MigrationError
        If there is none.
    """
    if name not in TECHNIQUES:
        known = ", ".join(TECHNIQUES)
        raise MigrationError(f"there is no migration technique {name!r}; there are: {known}")
    return TECHNIQUES[name]
