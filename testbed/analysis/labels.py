"""Finds a place for labels on a map where they cover neither the way nor each other."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

ANGLES_RAD = np.radians(np.arange(90.0, 450.0, 22.5))
FURTHER = (1.0, 1.35, 1.8)
"""Labels move out in these steps, as multiples of the closest reach."""
PT_PER_CHARACTER = 2.6
"""Half the width of a character of 8 points."""
HALF_HEIGHT_PT = 6.5
ENOUGH_PT = 4.0


class Room:
    """The free room of axes whose layout is settled; every label placed takes some.

    Parameters
    ----------
    ax : Axes
        Where labels go.
    """

    def __init__(self, ax: Axes) -> None:
        figure = ax.get_figure(root=True)
        self._ax = ax
        self._pixels_per_pt = 1.0 if figure is None else figure.dpi / 72
        self._taken: NDArray[np.float64] = np.empty((0, 4))

    def take(self, points: NDArray[np.float64], *, in_axes: bool = False) -> None:
        """Keep labels away from points, in data coordinates or as shares of the axes."""
        if len(points):
            transform = self._ax.transAxes if in_axes else self._ax.transData
            centres = transform.transform(points)
            self._take(np.hstack([centres, np.zeros_like(centres)]))

    def place(
        self, words: str, here: NDArray[np.float64], reach_pt: tuple[float, float]
    ) -> tuple[float, float]:
        """Offset of a label's centre from the point it belongs to, in points.

        The closest place with enough room is taken; where there is none, the roomiest.

        Parameters
        ----------
        words : str
            The label, of 8 points.
        here : array of two floats
            The point, in data coordinates.
        reach_pt : (float, float)
            Half axes of the closest ellipse that labels may stand on.
        """
        half = self._pixels_per_pt * np.array([PT_PER_CHARACTER * len(words) + 3.0, HALF_HEIGHT_PT])
        at = self._ax.transData.transform(here)
        best, most = (0.0, reach_pt[1]), -math.inf
        for further in FURTHER:
            for angle in ANGLES_RAD:
                offset = (
                    further * reach_pt[0] * math.cos(angle),
                    further * reach_pt[1] * math.sin(angle),
                )
                room = self._room(at + np.array(offset) * self._pixels_per_pt, half)
                if room > most + 1e-6:
                    best, most = offset, room
            if most >= ENOUGH_PT * self._pixels_per_pt:
                break
        centre = at + np.array(best) * self._pixels_per_pt
        self._take(np.hstack([centre, half])[None, :])
        return best

    def _room(self, centre: NDArray[np.float64], half: NDArray[np.float64]) -> float:
        """Pixels between a box and the nearest thing drawn or the axes' edge; negative within."""
        box = self._ax.get_window_extent()
        inside = min(*(centre - half - (box.x0, box.y0)), *((box.x1, box.y1) - (centre + half)))
        if not len(self._taken):
            return float(inside)
        away = np.abs(self._taken[:, :2] - centre) - self._taken[:, 2:] - half
        return float(min(inside, away.max(axis=1).min()))

    def _take(self, boxes: NDArray[Any]) -> None:
        self._taken = np.vstack([self._taken, boxes])
