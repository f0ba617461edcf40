"""The memory of a checkpoint as a picture: how much of each mapping is there, and where in it."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from testbed.analysis import style
from testbed.checkpoints.screen import label

if TYPE_CHECKING:
    from testbed.checkpoints.checkpoint import Checkpoint
    from testbed.checkpoints.difference import Difference

MOST_MAPPINGS = 12
CELLS = 240
"""Pieces of equal size that a mapping is divided into to show where its pages are."""
_MEGA = 1e6
_ROW_IN, _MARGIN_IN = 0.24, 1.0
_HELD, _PARENT, _LAZY = style.AHEAD, "#56b4e9", "#cc79a7"


def memory_figure(checkpoint: "Checkpoint") -> Figure:
    """Draw the largest mappings: what is in the images, and at which places."""
    largest = _largest(checkpoint, "held_bytes")
    with style.paper():
        figure, bars, strips = _axes(len(largest))
        page = checkpoint.page_size / _MEGA
        names = _labels(checkpoint, largest)
        left = np.zeros(len(largest))
        for colour, word, column, but in (
            (_HELD, "content", "held_pages", "zero_pages"),
            (style.PALE, "zeros", "zero_pages", ""),
            (_PARENT, "in the parent image", "parent_pages", ""),
            (_LAZY, "asked for later", "lazy_pages", ""),
        ):
            width = np.array([(m[column] - m.get(but, 0)) * page for m in largest])
            if width.any():
                bars.barh(names, width, left=left, color=colour, label=word, height=0.7)
            left += width
        _finish_bars(bars, "in the images, MB", len(largest))
        held = np.array([_shares(checkpoint, mapping) for mapping in largest]).reshape(-1, CELLS)
        _draw_strips(strips, held, _HELD, "where: share of pages that are there")
    return figure


def difference_figure(difference: "Difference") -> Figure:
    """Draw the mappings that changed most: how much, and at which places."""
    checkpoint = difference.checkpoint
    frame = difference.mappings.sort_values("changed_bytes", ascending=False)
    largest = frame[frame["changed_bytes"] > 0].head(MOST_MAPPINGS).to_dict("records")
    with style.paper():
        figure, bars, strips = _axes(len(largest))
        page = checkpoint.page_size / _MEGA
        names = _labels(checkpoint, largest)
        changed = np.array([mapping["changed_pages"] * page for mapping in largest])
        new = np.array([mapping["new_pages"] * page for mapping in largest])
        bars.barh(names, changed, color=style.DOWN, label="changed", height=0.7)
        bars.barh(names, new, left=changed, color=_PARENT, label="new", height=0.7)
        _finish_bars(bars, "a delta sends, MB", len(largest))
        where = np.array([_changes(difference, m) for m in largest]).reshape(-1, CELLS)
        _draw_strips(strips, where, style.DOWN, "where: share of pages that a delta sends")
    return figure


def _axes(rows: int) -> tuple[Figure, Axes, Axes]:
    figure = style.new_figure(max(rows, 1) * _ROW_IN + _MARGIN_IN)
    bars, strips = figure.subplots(1, 2, sharey=True, width_ratios=(2, 3))
    return figure, bars, strips


def _finish_bars(ax: Axes, name: str, rows: int) -> None:
    ax.set_ylim(max(rows, 1) - 0.5, -0.5)
    ax.set_xlabel(name)
    ax.tick_params(axis="y", length=0)
    if rows:
        ax.legend(loc="lower right")


def _draw_strips(ax: Axes, shares: npt.NDArray[np.float64], colour: str, name: str) -> None:
    scale = LinearSegmentedColormap.from_list("shares", ["#f4f4f4", colour])
    for row, share in enumerate(shares):
        ax.imshow(
            share[np.newaxis], cmap=scale, vmin=0, vmax=1, aspect="auto",
            extent=(0, 1, row + 0.35, row - 0.35), interpolation="nearest",
        )  # fmt: skip
    ax.set_xlim(0, 1)
    ax.set_ylim(max(len(shares), 1) - 0.5, -0.5)
    ax.set_xticks([0, 1], ["begin", "end of the mapping"])
    begin, end = ax.get_xticklabels()
    begin.set_horizontalalignment("left")
    end.set_horizontalalignment("right")
    ax.tick_params(axis="y", length=0)
    ax.spines[["left"]].set_visible(False)
    ax.legend(handles=[Patch(color=colour, label=name)], loc="lower center",
              bbox_to_anchor=(0.5, 1.0))  # fmt: skip


def _largest(checkpoint: "Checkpoint", by: str) -> list[dict[Any, Any]]:
    frame = checkpoint.mappings
    shown = frame[frame[["held_pages", "parent_pages", "lazy_pages"]].sum(axis=1) > 0]
    return shown.sort_values(by, ascending=False).head(MOST_MAPPINGS).to_dict("records")


def _labels(checkpoint: "Checkpoint", mappings: list[dict[Any, Any]]) -> list[str]:
    """Names of mappings, each once: two pieces of one library are told apart by a number."""
    several, names = len(checkpoint.processes) > 1, list[str]()
    for mapping in mappings:
        name, number = label(mapping, several=several), 2
        while name in names:
            name = f"{label(mapping, several=several)} {number}"
            number += 1
        names.append(name)
    return names


def _shares(checkpoint: "Checkpoint", mapping: dict[Any, Any]) -> npt.NDArray[np.float64]:
    """Share of pages there in each piece of a mapping."""
    pages, size = checkpoint.pages_named(mapping["pagemap"]), checkpoint.page_size
    first = mapping["pagemap_start"] // size
    count = mapping["size_bytes"] // size
    low, high = np.searchsorted(pages.held, np.array([first, first + count], np.uint64))
    return _pieces((pages.held[low:high] - np.uint64(first)).astype(np.int64), count)


def _changes(difference: "Difference", mapping: dict[Any, Any]) -> npt.NDArray[np.float64]:
    """Share of changed and new pages in each piece of a mapping."""
    size, start, end = difference.checkpoint.page_size, mapping["start"], mapping["end"]
    places = difference.places
    own = places[
        (places["pid"] == mapping["pid"]) & (places["how"] != "gone")
        & (places["start"] >= start) & (places["end"] <= end)
    ]  # fmt: skip
    numbers = [
        np.arange((place.start - start) // size, (place.end - start) // size)
        for place in own.itertuples()
    ]
    joined = np.concatenate(numbers) if numbers else np.empty(0, np.int64)
    return _pieces(joined, (end - start) // size)


def _pieces(numbers: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float64]:
    """Share of numbers from 0 to ``count`` that are there, in pieces of equal size."""
    there = np.zeros(count)
    there[numbers] = 1.0
    sums = np.concatenate([[0.0], np.cumsum(there)])
    edges = np.linspace(0, count, CELLS + 1)
    whole = np.interp(edges, np.arange(count + 1), sums)
    shares: npt.NDArray[np.float64] = np.diff(whole) / np.diff(edges)
    return shares
