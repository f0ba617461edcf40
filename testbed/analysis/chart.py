"""A map as layers, drawn twice from one description: to move about in, and to print.

In JupyterLab a chart is a map that can be moved and asked (ipyleaflet); in an exported page, on a
forge or in a paper it is the figure (matplotlib). Both come with every output, and the reader's
program takes the one it can show.
"""

import base64
import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from testbed.analysis import style
from testbed.analysis.basemap import Points, View, frame, map_axes, view_of

Colours = str | tuple[str, ...]
"""One colour for all things of a layer, or one for each."""
_SCREEN_DPI = 110
_PT_PER_PX = 0.75


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines of one kind; ``words`` are shown for the one that is pointed at."""

    label: str
    lines: tuple[Points, ...]
    colour: Colours = style.GREY
    width_px: float = 1.5
    words: tuple[str, ...] = ()
    ground: bool = False
    """Whether this is ground to draw on, which needs no entry in the legend."""


@dataclass(frozen=True, eq=False)
class Areas:
    """Filled rings of one kind."""

    label: str
    rings: tuple[Points, ...]
    colour: Colours = style.GREY
    words: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Spots:
    """Places of one kind, rows of (lon_deg, lat_deg)."""

    label: str
    points: Points
    colour: Colours = style.INK
    size_px: float = 5.0
    marker: str = "o"
    words: tuple[str, ...] = ()
    named: bool = False
    """Whether the printed map writes the words beside the places."""


Layer = Lines | Areas | Spots


def colour_of(layer: Layer, index: int) -> str:
    """Colour of one thing of a layer."""
    return layer.colour if isinstance(layer.colour, str) else layer.colour[index]


@dataclass(frozen=True, eq=False)
class Chart:
    """Layers over one view, from the ground up.

    Attributes
    ----------
    layers : tuple of Layer
        Drawn in this order.
    view : View
        What is shown at first.
    title : str
        Above the printed map.
    attributed : bool
        Whether the roads are OpenStreetMap's, who want to be named.
    """

    layers: tuple[Layer, ...]
    view: View
    title: str = ""
    attributed: bool = True

    def __add__(self, layers: "tuple[Layer, ...]") -> "Chart":
        """The same chart with more layers on top."""
        return Chart((*self.layers, *layers), self.view, self.title, self.attributed)

    def around(self, points: Points, margin: float = 0.12) -> "Chart":
        """The same layers, showing just what lies around some points."""
        return Chart(self.layers, view_of(points, margin), self.title, self.attributed)

    def figure(self, ax: Axes | None = None) -> Figure:
        """The map to print; on given axes, or as a figure of its own."""
        with style.paper():
            ax = map_axes(self.view, ax)
            for order, layer in enumerate(self.layers, start=1):
                _DRAWERS[type(layer)](ax, layer, self.view, order)
            frame(ax, self.view, attributed=self.attributed)
            marks = [_mark(layer) for layer in self.layers if _in_legend(layer)]
            if marks:
                ax.legend(
                    handles=marks, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(marks),
                    borderaxespad=0.3, columnspacing=1.0, handletextpad=0.4, handlelength=1.3,
                    fontsize=7.5, title=self.title or None, alignment="left",
                )  # fmt: skip
            elif self.title:
                ax.set_title(self.title, loc="left")
            return style.figure_of(ax)

    @cached_property
    def png(self) -> bytes:
        """The printed map as a picture."""
        picture = io.BytesIO()
        self.figure().savefig(picture, format="png", dpi=_SCREEN_DPI, bbox_inches="tight")
        return picture.getvalue()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """The picture, and beside it the widget that JupyterLab prefers."""
        from testbed.analysis.leaflet import widget  # noqa: PLC0415 - slow, and for notebooks only

        del include, exclude
        shown = widget(self)._repr_mimebundle_()
        return {**shown, "image/png": base64.b64encode(self.png).decode()}


def _lines(ax: Axes, layer: Lines, view: View, order: int) -> None:
    kept = [i for i, line in enumerate(layer.lines) if view.touches(line)]
    ax.add_collection(
        LineCollection(
            [layer.lines[i] for i in kept],
            colors=[colour_of(layer, i) for i in kept],
            linewidths=layer.width_px * _PT_PER_PX,
            capstyle="round",
            zorder=order,
        ),
        autolim=False,
    )


def _areas(ax: Axes, layer: Areas, view: View, order: int) -> None:
    kept = [i for i, ring in enumerate(layer.rings) if view.touches(ring)]
    ax.add_collection(
        PolyCollection(
            [layer.rings[i] for i in kept],
            facecolors=[f"{colour_of(layer, i)}26" for i in kept],
            edgecolors="#9d9d9d",
            linewidths=0.6,
            zorder=order,
        ),
        autolim=False,
    )


def _spots(ax: Axes, layer: Spots, view: View, order: int) -> None:
    if not len(layer.points):
        return
    seen = np.flatnonzero(view.holds(layer.points))
    ax.scatter(
        layer.points[seen, 0],
        layer.points[seen, 1],
        s=(layer.size_px * _PT_PER_PX) ** 2,
        c=[colour_of(layer, int(i)) for i in seen],
        marker=layer.marker,
        edgecolors="white",
        linewidths=0.4,
        zorder=order,
    )
    for i in seen if layer.named else ():
        ax.annotate(
            layer.words[i], (float(layer.points[i, 0]), float(layer.points[i, 1])),
            xytext=(0, 5), textcoords="offset points", ha="center", va="bottom", fontsize=7,
            color=style.INK, path_effects=[style.OUTLINE], zorder=order + 0.5,
        )  # fmt: skip


_DRAWERS: dict[type, Any] = {Lines: _lines, Areas: _areas, Spots: _spots}


def _in_legend(layer: Layer) -> bool:
    return bool(layer.label) and not (isinstance(layer, Lines) and layer.ground)


def _mark(layer: Layer) -> Line2D:
    colour = colour_of(layer, 0) if isinstance(layer.colour, str) or layer.colour else style.GREY
    if isinstance(layer, Lines):
        return Line2D([], [], color=colour, lw=layer.width_px * _PT_PER_PX, label=layer.label)
    if isinstance(layer, Spots):
        return Line2D(
            [], [], ls="", marker=layer.marker, ms=max(3.0, layer.size_px * _PT_PER_PX),
            mfc=colour, mec="white", label=layer.label,
        )  # fmt: skip
    return Line2D(
        [], [], ls="", marker="h", ms=8, mfc=f"{colour}26", mec="#9d9d9d", label=layer.label
    )
