"""How figures look: one palette that colour-blind readers can tell apart, sizes fit for a page."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH_IN = 7.2
"""Text width of a two-column paper."""
PNG_DPI = 200
INK = "#222222"
GREY = "#8a8a8a"
PALE = "#d9d9d9"
DOWN = "#d55e00"
"""Whatever stood still: freezes, gaps."""
DARK = "#8f3f00"
"""Words about whatever stood still."""
OUTLINE = patheffects.withStroke(linewidth=2.2, foreground="white")
"""Keeps words readable on whatever is drawn beneath."""
AHEAD = "#0072b2"
"""Whatever happened while the service ran on."""
_TELLABLE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#b8a800", "#7a5195", "#6b4c2a")


def colours(names: list[str]) -> dict[str, str]:
    """A colour per name, the same for the same order; neighbours in the order always differ."""
    unique = list(dict.fromkeys(names))
    return {name: _TELLABLE[at % len(_TELLABLE)] for at, name in enumerate(unique)}


def shades(colour: str, count: int) -> list[Any]:
    """``count`` shades of one colour, the strongest first."""
    return list(sns.light_palette(colour, n_colors=count + 2, reverse=True)[:count])


@contextmanager
def paper() -> Iterator[None]:
    """Everything drawn within looks as figures of this project look."""
    look = {
        **sns.axes_style("ticks"),
        "font.size": 8.5,
        "axes.titlesize": 9.0,
        "axes.labelsize": 8.5,
        "xtick.labelsize": 8.0,
        "ytick.labelsize": 8.0,
        "legend.fontsize": 8.0,
        "legend.frameon": False,
        "axes.linewidth": 0.7,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.dpi": 120,
        "savefig.dpi": PNG_DPI,
        "figure.facecolor": "white",
    }
    with mpl.rc_context(look):
        yield


def new_figure(height_in: float) -> Figure:
    """An empty figure as wide as a page, known to no global state."""
    return Figure(figsize=(WIDTH_IN, height_in), layout="constrained")


def figure_of(ax: Axes) -> Figure:
    """Figure that axes belong to.

    Raises
    ------
    ValueError
        If they belong to none.
    """
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("these axes belong to no figure; make them with figure.add_subplot()")
    return figure
