"""What changed between two checkpoints of the same processes, and where."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from testbed.checkpoints.memory import Numbers, Pages, differing

if TYPE_CHECKING:
    from testbed.checkpoints.checkpoint import Checkpoint

COLUMNS = (
    "pid", "start", "end", "kind", "path", "pages", "changed_pages", "new_pages", "gone_pages",
    "changed_bytes",
)  # fmt: skip
PLACES = ("pid", "start", "end", "pages", "how")
_NOTICED = {
    "processes": ["pid", "ppid", "name", "state"],
    "files": ["pid", "fd", "kind", "what"],
    "sockets": ["pid", "fd", "protocol", "state", "local", "remote"],
    "mappings": ["pid", "start", "end", "access", "kind", "path"],
}


@dataclass(frozen=True)
class Difference:
    """What a checkpoint has that the previous one had not, or otherwise.

    mappings : one row per mapping that holds pages now. Of its ``pages`` in the images, some
    ``changed_pages`` have other content than before and some ``new_pages`` were not there;
    ``gone_pages`` were there and are no more. ``changed_bytes`` is what of it a delta has to send:
    pages that changed or are new.
    places : where that is, one row per stretch of neighbouring pages with ``how`` they differ.
    appeared, disappeared : processes, files, sockets and mappings that are only in one of the two.
    """

    previous: "Checkpoint"
    checkpoint: "Checkpoint"
    mappings: pd.DataFrame
    places: pd.DataFrame
    appeared: dict[str, pd.DataFrame]
    disappeared: dict[str, pd.DataFrame]

    @property
    def changed_bytes(self) -> int:
        """Of all pages that changed or are new."""
        return int(self.mappings["changed_bytes"].sum())

    def __str__(self) -> str:
        """One screen for a terminal."""
        from testbed.checkpoints.screen import difference_text  # noqa: PLC0415 - it needs this module

        return difference_text(self)

    def _repr_html_(self) -> str:
        from testbed.checkpoints.page import difference_html  # noqa: PLC0415 - slow to import

        return difference_html(self)


@dataclass(frozen=True)
class _Change:
    """Page numbers of one process, ascending, by how they differ."""

    changed: Numbers
    new: Numbers
    gone: Numbers


def compare(previous: "Checkpoint", checkpoint: "Checkpoint") -> Difference:
    """Compare two checkpoints page by page.

    A page that is left in the parent image is as it was. One whose content is here now and was
    left in a parent before counts as changed: CRIU wrote it because it had been written to.
    """
    mappings = checkpoint.mappings.to_dict("records")
    changes = {
        name: _change(previous.pages_named(name), checkpoint.pages_named(name))
        for name in dict.fromkeys(mapping["pagemap"] for mapping in mappings)
    }
    size = checkpoint.page_size
    rows = [row for m in mappings if (row := _row(m, changes[m["pagemap"]], size))]
    places = [place for m in mappings for place in _places(m, changes[m["pagemap"]], size)]
    both = {
        name: (_only(getattr(checkpoint, name), getattr(previous, name), columns),
               _only(getattr(previous, name), getattr(checkpoint, name), columns))
        for name, columns in _NOTICED.items()
    }  # fmt: skip
    return Difference(
        previous,
        checkpoint,
        pd.DataFrame(rows, columns=list(COLUMNS)),
        pd.DataFrame(places, columns=list(PLACES)),
        {name: pair[0] for name, pair in both.items()},
        {name: pair[1] for name, pair in both.items()},
    )


def stretches(numbers: Numbers, page_size: int) -> list[tuple[int, int]]:
    """Neighbouring pages joined: first address and the one after the last."""
    if not len(numbers):
        return []
    breaks = np.flatnonzero(np.diff(numbers) != 1)
    firsts = numbers[np.concatenate([[0], breaks + 1])]
    lasts = numbers[np.concatenate([breaks, [len(numbers) - 1]])]
    return [
        (int(first) * page_size, (int(last) + 1) * page_size)
        for first, last in zip(firsts, lasts, strict=True)
    ]


def _change(before: Pages, now: Pages) -> _Change:
    both, at_now, at_before = np.intersect1d(
        now.held, before.held, assume_unique=True, return_indices=True
    )
    changed = both[differing(now, at_now, before, at_before)]
    known_before = np.union1d(before.held, np.union1d(before.in_parent, before.lazy))
    known_now = np.union1d(now.held, np.union1d(now.in_parent, now.lazy))
    rewritten = np.setdiff1d(np.intersect1d(now.held, known_before), before.held)
    return _Change(
        changed=np.union1d(changed, rewritten),
        new=np.setdiff1d(known_now, known_before),
        gone=np.setdiff1d(known_before, known_now),
    )


def _within(numbers: Numbers, mapping: dict[Any, Any], page_size: int) -> Numbers:
    """Those of some page numbers that belong to a mapping."""
    first = mapping["pagemap_start"] // page_size
    ends = np.array([first, first + mapping["size_bytes"] // page_size], np.uint64)
    low, high = np.searchsorted(numbers, ends)
    return numbers[low:high]


def _row(mapping: dict[Any, Any], change: _Change, page_size: int) -> tuple[Any, ...] | None:
    pages = mapping["held_pages"] + mapping["parent_pages"] + mapping["lazy_pages"]
    changed, new, gone = (
        len(_within(numbers, mapping, page_size))
        for numbers in (change.changed, change.new, change.gone)
    )
    if not pages and not gone:
        return None
    return (
        mapping["pid"], mapping["start"], mapping["end"], mapping["kind"], mapping["path"], pages,
        changed, new, gone, (changed + new) * page_size,
    )  # fmt: skip


def _places(
    mapping: dict[Any, Any], change: _Change, page_size: int
) -> Iterator[tuple[int, int, int, int, str]]:
    shift = mapping["start"] - mapping["pagemap_start"]
    for how in ("changed", "new", "gone"):
        numbers = _within(getattr(change, how), mapping, page_size)
        for start, end in stretches(numbers, page_size):
            pages = (end - start) // page_size
            yield mapping["pid"], start + shift, end + shift, pages, how


def _only(frame: pd.DataFrame, other: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Rows of a table that the other one has not, as far as these columns tell."""
    known = set(other[columns].itertuples(index=False, name=None))
    rows = [row not in known for row in frame[columns].itertuples(index=False, name=None)]
    return frame.loc[rows, columns].reset_index(drop=True)
