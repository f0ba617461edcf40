"""Fetch the roads of a place or a box from OpenStreetMap, once, with osmnx.

osmnx finds the place (Nominatim), asks for the ways and turn restrictions in it (Overpass), cuts
large areas into several questions and waits where the servers ask it to. What they answer is kept
as it is, as an ``.osm`` file: it is then read like any other extract, and netconvert reads it too.
"""

import contextlib
import hashlib
import re
import socket
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import osmium
import shapely
from osmium.osm import mutable

from testbed.errors import DataNotFoundError, MapError
from testbed.roads.sources.osm import BoxDeg

_WAYS = '["highway"]["area"!~"yes"]'
_TURNS: dict[str, bool | str | list[str]] = {"type": "restriction"}
_ANSWER_WITHIN_S = 10.0
_ASKED_AGAIN = frozenset({429, 504})
"""Answers after which osmnx waits and tries again."""
_FROM_A_FILE = (
    "Download an extract elsewhere (for example from https://download.geofabrik.de, or "
    "`osmnx.save_graphml`) and give its path as the map's source"
)


@dataclass(frozen=True)
class OsmServers:
    """Who is asked. The defaults are osmnx's: the public servers of OpenStreetMap.

    Attributes
    ----------
    overpass_url, nominatim_url : str, optional
        Base addresses of other servers, for example your own.
    """

    overpass_url: str | None = None
    nominatim_url: str | None = None


@dataclass
class _Answers:
    """Collects what the Overpass server answers, as a hook of `requests`."""

    elements: dict[str, dict[int, dict[str, Any]]] = field(
        default_factory=lambda: {"node": {}, "way": {}, "relation": {}}
    )
    trouble: str = ""

    def __call__(self, response: Any, *_: Any, **__: Any) -> None:
        if not response.url.split("?")[0].endswith("/interpreter"):
            return
        if not response.ok:
            if response.status_code not in _ASKED_AGAIN:
                self.trouble = f"HTTP {response.status_code} {response.reason}"
            return
        answer = response.json()
        if "error" in str(answer.get("remark", "")):
            # osmnx only logs this, and part of the area would be missing.
            self.trouble = str(answer["remark"])
        for element in answer.get("elements", ()):
            known = self.elements.get(element["type"])
            if known is not None:
                known[element["id"]] = element


def downloaded(area: str | BoxDeg, folder: Path) -> Path:
    """Where the roads of a place or box are kept, whether or not they are there yet."""
    words = area if isinstance(area, str) else "box " + " ".join(f"{d:g}" for d in area)
    exact = " ".join(area.split()).casefold() if isinstance(area, str) else repr(tuple(area))
    name = re.sub(r"[^a-z0-9.]+", "-", words.casefold()).strip("-")[:40]
    return folder / f"{name}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}.osm"


def download_osm(area: str | BoxDeg, folder: Path, servers: OsmServers | None = None) -> Path:
    """Path of the roads of a place or box; they are fetched unless they were before.

    Parameters
    ----------
    area : str or tuple
        A place as Nominatim finds it (``"Kreuzberg, Berlin"``), or west, south, east and north in
        degrees. All ways within 500 m of it are fetched whole.
    folder : Path
        Where downloads are kept.
    servers : OsmServers, optional
        Who is asked.

    Raises
    ------
    DataNotFoundError
        If osmnx is not installed or the servers cannot be reached.
    MapError
        If there is no such place, it is no area, or nothing (whole) was answered.
    """
    path = downloaded(area, folder)
    if path.is_file():
        return path
    try:
        import osmnx  # noqa: PLC0415 - an optional dependency, and slow to import
    except ImportError as error:
        raise DataNotFoundError(
            f"the roads of {area!r} are not on this machine, and osmnx, which would fetch them, is "
            f"not installed. `pip install 'testbed[osm]'`. {_FROM_A_FILE}"
        ) from error
    answers = _Answers()
    with _settings(osmnx, servers or OsmServers(), answers):
        asked = [osmnx.settings.overpass_url]
        if isinstance(area, str):
            asked.append(osmnx.settings.nominatim_url)
        for url in asked:
            _reach(url, area)
        trouble = _ask(osmnx, area)
    if answers.trouble:
        raise MapError(
            f"{area!r}: the Overpass server gave up ({answers.trouble}). Ask for a smaller area, "
            f"or try again later. {_FROM_A_FILE}"
        ) from trouble
    if trouble is not None:
        raise MapError(
            f"{area!r}: {trouble} Write the place as openstreetmap.org finds it, with its city "
            "or country; it must be an area, not a point"
        ) from trouble
    if not answers.elements["way"]:
        raise MapError(f"{area!r}: OpenStreetMap has no road there. Check the place or the box")
    folder.mkdir(parents=True, exist_ok=True)
    _write(answers.elements, path)
    return path


def _ask(osmnx: Any, area: str | BoxDeg) -> Exception | None:
    """Have osmnx ask its questions; the answers are collected on the way.

    Returns what osmnx made of an answer that it cannot use.
    """
    import requests  # noqa: PLC0415 - comes with osmnx

    only_asked = osmnx._errors.CacheOnlyInterruptError  # noqa: SLF001 - has no public name
    try:
        if isinstance(area, str):
            polygon = osmnx.geocoder.geocode_to_gdf(area).geometry.iloc[0]
        else:
            polygon = shapely.box(*area)
        with contextlib.suppress(only_asked):
            osmnx.graph.graph_from_polygon(polygon, custom_filter=_WAYS)
        with contextlib.suppress(only_asked):
            osmnx.features.features_from_polygon(polygon, _TURNS)
    except requests.exceptions.RequestException as error:
        raise DataNotFoundError(
            f"the roads of {area!r} are not on this machine, and OpenStreetMap's servers cannot be "
            f"reached ({error}). {_FROM_A_FILE}"
        ) from error
    except (TypeError, ValueError) as error:
        return error
    return None


@contextlib.contextmanager
def _settings(osmnx: Any, servers: OsmServers, answers: _Answers) -> Iterator[None]:
    """Lend osmnx our settings, and give back its own (it only has global ones)."""
    settings = osmnx.settings
    wanted: dict[str, Any] = {
        "use_cache": False,
        "cache_only_mode": True,  # ask, and build no graph
        "requests_kwargs": {**settings.requests_kwargs, "hooks": {"response": answers}},
    }
    if servers.overpass_url is not None:
        wanted |= {"overpass_url": servers.overpass_url, "overpass_rate_limit": False}
    if servers.nominatim_url is not None:
        wanted["nominatim_url"] = servers.nominatim_url
    before = {key: getattr(settings, key) for key in wanted}
    resolve = socket.getaddrinfo  # osmnx puts its own in place of it
    try:
        for key, value in wanted.items():
            setattr(settings, key, value)
        yield
    finally:
        socket.getaddrinfo = resolve
        for key, value in before.items():
            setattr(settings, key, value)


def _reach(url: str, area: str | BoxDeg) -> None:
    """Fail soon and clearly without a network; osmnx would wait and try again for minutes."""
    if urllib.request.getproxies():
        return
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=_ANSWER_WITHIN_S):
            return
    except OSError as error:
        raise DataNotFoundError(
            f"the roads of {area!r} are not on this machine, and {parts.hostname}, which would "
            f"send them, cannot be reached ({error}). {_FROM_A_FILE}"
        ) from error


def _write(elements: dict[str, dict[int, dict[str, Any]]], path: Path) -> None:
    """Write the elements as OSM XML, under another name until the file is whole."""
    nodes, ways, relations = (sorted(elements[k].items()) for k in ("node", "way", "relation"))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        unfinished = Path(folder) / path.name
        with osmium.SimpleWriter(str(unfinished)) as writer:
            for number, node in nodes:
                place = (node["lon"], node["lat"])
                writer.add_node(mutable.Node(id=number, location=place))
            for number, way in ways:
                tags = way.get("tags", {})
                writer.add_way(mutable.Way(id=number, nodes=way["nodes"], tags=tags))
            for number, relation in relations:
                tags = relation.get("tags", {})
                members = [(m["type"][0], m["ref"], m["role"]) for m in relation["members"]]
                writer.add_relation(mutable.Relation(id=number, members=members, tags=tags))
        unfinished.replace(path)
