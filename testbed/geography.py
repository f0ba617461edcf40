"""What a scenario says about the ground: the road map, the base stations and the tiers above them.

The words of `testbed.scenario` for `map`, `cells` and `tiers`.
"""

from typing import Literal

from pydantic import Field, model_validator

from testbed.movement import Box, Part
from testbed.units import Length

REGIONAL_TIMES = 4.0
"""Regional servers stand so many times as far apart as base stations where nothing is said."""


class MapSource(Part):
    """Where the roads come from, and whose they are.

    source : ``berlin`` (in the eclipse-sumo wheel), a file, or ``osm``: ``box`` is downloaded.
    place : in place of a source, a place that is downloaded, ``Kreuzberg, Berlin``.
    box : only roads inside are kept.

    A relative file is looked for beside the scenario, then under ``TESTBED_DATA``.
    """

    source: str | None = None
    place: str | None = Field(default=None, min_length=1)
    box: Box | None = None
    mode: Literal["driving", "cycling", "walking"] = "driving"

    @model_validator(mode="after")
    def _one_source(self) -> "MapSource":
        if self.source is None and self.place is None:
            raise ValueError("source is missing; add it (or a place)")
        if self.source is not None and self.place is not None:
            raise ValueError("there are source and place; keep one of them")
        if self.source == "osm" and self.box is None:
            raise ValueError("source osm downloads a box; add the box, or name a place instead")
        box = self.box
        if box is not None and not (
            -180 <= box.west < box.east <= 180 and -90 <= box.south < box.north <= 90  # noqa: PLR2004
        ):
            raise ValueError(
                "box: west must be less than east and south less than north, in degrees"
            )
        return self


class StationSpec(Part):
    """A base station or a regional server at a given place."""

    name: str = Field(min_length=1)
    lat_deg: float = Field(ge=-90, le=90)
    lon_deg: float = Field(ge=-180, le=180)


def _one_of(part: Part, *keys: str) -> None:
    said = [key for key in keys if getattr(part, key) is not None]
    if len(said) > 1:
        raise ValueError(f"there are {' and '.join(said)}; keep one of them")


def _unique(stations: tuple[StationSpec, ...] | None) -> None:
    names = [station.name for station in stations or ()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"stations: {', '.join(twice)}: given twice; names must be unique")


class Cells(Part):
    """Where the base stations stand: a hexagonal layout (MSMF, section 5.1: 500 m apart) or a list.

    layout : may be left out where there is a list.
    stations, file : a list here, or in a CSV or Parquet file with ``name, lat_deg, lon_deg``, which
    is looked for like a map.
    """

    layout: Literal["hexagonal", "stations"] = "hexagonal"
    separation: Length = Field(default=500.0, gt=0)
    stations: tuple[StationSpec, ...] | None = Field(default=None, min_length=1)
    file: str | None = None

    @model_validator(mode="after")
    def _one_layout(self) -> "Cells":
        _one_of(self, "stations", "file")
        _unique(self.stations)
        listed = self.stations is not None or self.file is not None
        if self.layout == "stations" and not listed:
            raise ValueError("layout stations: the list is missing; add stations or a file")
        if listed and "separation" in self.model_fields_set:
            raise ValueError("separation: is for a hexagonal layout, and there is a list; drop one")
        if listed and self.layout == "hexagonal" and "layout" in self.model_fields_set:
            raise ValueError("layout: is hexagonal, and there is a list; drop one")
        return self


class Regional(Part):
    """Which regional server is above which base stations (MSMF, section 5.1: above several).

    separation : of a hexagonal layout of regional servers; `REGIONAL_TIMES` that of the cells.
    stations, file : or their places, as for `Cells`; each cell belongs to the nearest.
    groups : or the cells of each, by the regional server's name.
    """

    separation: Length | None = Field(default=None, gt=0)
    stations: tuple[StationSpec, ...] | None = Field(default=None, min_length=1)
    file: str | None = None
    groups: dict[str, tuple[str, ...]] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_way(self) -> "Regional":
        _one_of(self, "separation", "stations", "file", "groups")
        _unique(self.stations)
        of: dict[str, str] = {}
        for region, cells in (self.groups or {}).items():
            if not region or not cells:
                raise ValueError(f"groups.{region}: needs a name and at least one cell")
            for cell in cells:
                if cell in of:
                    raise ValueError(
                        f"groups.{region}: {cell} is in {of[cell]} already; a cell has one "
                        "regional site"
                    )
                of[cell] = region
        return self


class Tiers(Part):
    """The sites above the cells. A local site is at each base station, and there is one cloud."""

    regional: Regional = Regional()
