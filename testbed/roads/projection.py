"""Degrees to metres and back, on a plane laid at the middle of a map."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyproj
from numpy.typing import ArrayLike

from testbed.roads.arrays import Floats


@dataclass(frozen=True)
class Projection:
    """A local transverse Mercator plane (WGS 84), true to scale at its origin.

    Within 50 km of the origin's meridian a length is off by less than 0.004 %.

    Attributes
    ----------
    lat_deg, lon_deg : float
        The point on the ground that becomes ``x = y = 0``.
    """

    lat_deg: float
    lon_deg: float

    @property
    def crs(self) -> str:
        """The plane as a PROJ string."""
        return (
            f"+proj=tmerc +lat_0={self.lat_deg!r} +lon_0={self.lon_deg!r} +k=1 +x_0=0 +y_0=0 "
            "+ellps=WGS84 +units=m +no_defs"
        )

    @cached_property
    def _forward(self) -> Any:
        return pyproj.Transformer.from_crs("EPSG:4326", self.crs, always_xy=True)

    @cached_property
    def _backward(self) -> Any:
        return pyproj.Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)

    def to_xy(self, lat_deg: ArrayLike, lon_deg: ArrayLike) -> tuple[Floats, Floats]:
        """Metres east and north of the origin, in the shape of the arguments."""
        x, y = self._forward.transform(np.asarray(lon_deg, float), np.asarray(lat_deg, float))
        return np.asarray(x), np.asarray(y)

    def to_latlon(self, x_m: ArrayLike, y_m: ArrayLike) -> tuple[Floats, Floats]:
        """Degrees of latitude and longitude, in the shape of the arguments."""
        lon, lat = self._backward.transform(np.asarray(x_m, float), np.asarray(y_m, float))
        return np.asarray(lat), np.asarray(lon)

    def point_xy(self, lat_deg: float, lon_deg: float) -> tuple[float, float]:
        """One point to metres, without the cost of arrays."""
        x, y = self._forward.transform(lon_deg, lat_deg)
        return float(x), float(y)

    def point_latlon(self, x_m: float, y_m: float) -> tuple[float, float]:
        """One point to degrees, without the cost of arrays."""
        lon, lat = self._backward.transform(x_m, y_m)
        return float(lat), float(lon)
