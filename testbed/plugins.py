"""What installed packages bring, the testbed's own and the user's: found by name in a group."""

import difflib
from importlib.metadata import entry_points
from typing import Any

from testbed.errors import ScenarioError


def installed(group: str) -> list[str]:
    """Names of everything in an entry-point group, sorted."""
    return sorted({point.name for point in entry_points(group=group)})


def load(group: str, name: str, lacking: str) -> Any:
    """What stands behind a name in an entry-point group.

    Parameters
    ----------
    group, name : str
        The group, and the name in it.
    lacking : str
        How the error begins where there is none: where it was asked for, and what it should be.

    Raises
    ------
    ScenarioError
        If there is none; it names the nearest one, or all.
    """
    for point in entry_points(group=group, name=name):
        return point.load()
    known = installed(group)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known) or 'none'}"
    raise ScenarioError(
        f"{lacking}; {hint}. Your own enters through the entry-point group {group!r}"
    )
