"""SUMO networks: made from OpenStreetMap data, and what a simulation must know of one."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import osmium
import sumolib

from testbed.errors import DataNotFoundError, MapError
from testbed.mobility.sumo.programs import LIMIT_S, run_sumo, sumo_home, sumo_version
from testbed.mobility.trace import Floats
from testbed.roads.modes import RULES
from testbed.roads.sources.osm import BoxDeg

NET_ENDINGS = (".net.xml", ".net.xml.gz")
OSM_ENDINGS = (".osm", ".osm.gz", ".osm.bz2", ".pbf")
ROAD_CLASSES = frozenset().union(*(rule.usual_kmh for rule in RULES.values()))
"""Values of ``highway`` on which somebody drives, cycles or walks."""

_LAYOUT = 1
_TYPES = ("osmNetconvert.typ.xml", "roads.typ.xml")
_OPTIONS = (
    *("--proj.utm", "--geometry.remove", "--roundabouts.guess", "--ramps.guess"),
    *("--junctions.join", "--tls.discard-simple", "--tls.join", "--tls.guess-signals"),
    *("--tls.default-type", "actuated", "--sidewalks.guess", "--sidewalks.guess.max-speed", "23"),
    *("--crossings.guess", "--keep-edges.components", "1"),
    *("--output.street-names", "--output.original-names"),
    *("--no-warnings", "--xml-validation", "never"),
)


def build_net(
    source: Path,
    cache: Path,
    *,
    box: BoxDeg | None = None,
    guess_signals: bool = False,
    limit_s: float = LIMIT_S,
) -> Path:
    """Make a SUMO network of an OpenStreetMap file with ``netconvert``, once.

    Platforms, building sites and the like are left out; classes and their usual speeds are those
    of `testbed.roads.modes`, so that network and road map agree; sidewalks and crossings are added
    along roads of up to 83 km/h. Only the largest connected part is kept.

    Parameters
    ----------
    source : Path
        ``.osm``, ``.osm.gz``, ``.osm.bz2`` or ``.pbf``; a ``.net.xml`` is given back as it is.
    cache : Path
        Folder for networks, by content hash of everything that decides them.
    box : tuple, optional
        West, south, east, north in degrees; roads that touch it are kept.
    guess_signals : bool
        Put traffic lights where large roads meet, for data that has none.
    limit_s : float
        ``netconvert`` is ended after so many seconds.

    Returns
    -------
    Path
        The ``.net.xml``.

    Raises
    ------
    DataNotFoundError
        If the file or SUMO is not there.
    MapError
        If it is no OpenStreetMap data, the box is turned round, or no road is left.
    """
    source = Path(source)
    if not source.is_file():
        raise DataNotFoundError(f"{source}: there is no such file to make a SUMO network of")
    if source.name.endswith(NET_ENDINGS):
        return source
    if not source.name.endswith(OSM_ENDINGS):
        raise MapError(
            f"{source}: unknown kind of map. SUMO networks are made of {', '.join(OSM_ENDINGS)}"
        )
    if box is not None and not (box[0] < box[2] and box[1] < box[3]):
        raise MapError(
            f"box {box}: west must be less than east and south less than north, in degrees"
        )
    version = sumo_version(sumo_home())
    digest = hashlib.sha256(source.read_bytes())
    digest.update(
        repr((_LAYOUT, source.suffixes, box, guess_signals, _OPTIONS, _typemap(), version)).encode()
    )
    made = Path(cache) / f"net-{digest.hexdigest()[:16]}.net.xml"
    if made.is_file():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="testbed-net-", dir=made.parent) as folder:
        here = Path(folder)
        roads = here / "roads.osm"
        if not _cut_roads(source, roads, box):
            raise MapError(
                f"{source}: holds no road{' in the box ' + str(box) if box else ''}. Is the box "
                "in degrees, west, south, east, north, and the file one with highways?"
            )
        unfinished = here / "roads.net.xml"
        (here / _TYPES[1]).write_text(_typemap(), encoding="utf-8")
        types = [str(sumo_home() / "data" / "typemap" / _TYPES[0]), _TYPES[1]]
        options = ["--osm-files", roads.name, "--type-files", ",".join(types), *_OPTIONS]
        options += ["--tls.guess"] if guess_signals else []
        if box is not None:
            options += ["--keep-edges.in-geo-boundary", ",".join(f"{side:.7f}" for side in box)]
        run_sumo(
            "netconvert",
            [*options, "--output-file", unfinished.name],
            here,
            limit_s=limit_s,
            error=MapError,
            remedy=f"Is {source.name} whole?",
        )
        unfinished.replace(made)
    return made


def _cut_roads(source: Path, target: Path, box: BoxDeg | None) -> int:
    """Write the roads that touch the box, whole, with turn restrictions; how many ways."""
    ways: set[int] = set()
    writer = osmium.BackReferenceWriter(
        str(target), ref_src=str(source), overwrite=True, remove_tags=False
    )
    try:
        with writer:
            entities: Any = osmium.FileProcessor(str(source)).with_locations()
            for entity in entities:
                if entity.is_way():
                    if _is_road(entity) and _touches(entity, box):
                        writer.add(entity)
                        ways.add(entity.id)
                elif entity.is_relation() and entity.tags.get("type") == "restriction":
                    members = [member.ref for member in entity.members if member.type == "w"]
                    if ways.issuperset(members):
                        writer.add(entity)
    except (RuntimeError, ValueError) as error:
        writer.tmpdir.cleanup()  # osmium itself does so only where all went well
        raise MapError(
            f"{source}: cannot be read as OpenStreetMap data ({error}). Is it whole, and does its "
            "name end in .osm, .osm.gz, .osm.bz2 or .pbf as its content does?"
        ) from error
    return len(ways)


def _is_road(way: Any) -> bool:
    return way.tags.get("highway") in ROAD_CLASSES and way.tags.get("area") != "yes"


def _touches(way: Any, box: BoxDeg | None) -> bool:
    if box is None:
        return True
    west, south, east, north = box
    return any(
        node.location.valid() and west <= node.lon <= east and south <= node.lat <= north
        for node in way.nodes
    )


def _typemap() -> str:
    """A patch over SUMO's own types: the speeds that the road map assumes."""
    usual_kmh = RULES["driving"].usual_kmh
    known = sorted(set(usual_kmh) - {"road", "access_ramp"})  # of these two SUMO knows nothing
    lines = (f'<type id="highway.{name}" speed="{usual_kmh[name] / 3.6:.2f}"/>' for name in known)
    return f"<types>{''.join(lines)}</types>\n"


def edge_lengths_m(net: Path) -> dict[str, float]:
    """Length of each edge of a network by its id, metres, as SUMO counts it (its first lane's)."""
    read = sumolib.xml.parse_fast_nested(str(net), "edge", ["id"], "lane", ["length"])
    lengths: dict[str, float] = {}
    for edge, lane in read:
        lengths.setdefault(edge.id, float(lane.length))
    return lengths


def net_to_degrees(net: Path, x_m: Floats, y_m: Floats) -> tuple[Floats, Floats]:
    """Latitude and longitude of a network's own coordinates.

    Raises
    ------
    MapError
        If the network does not say where on earth it lies.
    """
    import pyproj  # noqa: PLC0415 - only freshly driven trips need it

    found = sumolib.xml.parse_fast(str(net), "location", ["netOffset", "projParameter"])
    location: Any = next(iter(found), None)
    if location is None or location.projParameter == "!":
        raise MapError(
            f"{net}: has no geographic projection, so positions on earth are not known. "
            "Build the network with `netconvert --osm-files ... --proj.utm`"
        )
    east, north = map(float, location.netOffset.split(","))
    lon, lat = pyproj.Proj(location.projParameter)(x_m - east, y_m - north, inverse=True)
    return np.asarray(lat), np.asarray(lon)
