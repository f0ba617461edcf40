import http.server
import json
import socket
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from testbed.errors import DataNotFoundError, MapError
from testbed.geography import MapSource
from testbed.roads.layout import map_file, map_of
from testbed.roads.load import load_road_map
from testbed.roads.sources.download import OsmServers, downloaded

ox = pytest.importorskip("osmnx")

BOX = (13.399, 52.499, 13.402, 52.502)
NODES = [(1, 52.5000, 13.4000), (2, 52.5000, 13.4010), (3, 52.5010, 13.4010), (4, 52.51, 13.42)]
WAYS = [
    (11, [1, 2], {"highway": "primary", "name": "Skalitzer Straße"}),
    (12, [2, 3], {"highway": "residential"}),
    (13, [3, 1], {"highway": "footway"}),
    (14, [2, 4], {"highway": "tertiary"}),
]
TURN = {
    "type": "relation", "id": 1,
    "members": [
        {"type": "way", "ref": 11, "role": "from"}, {"type": "node", "ref": 2, "role": "via"},
        {"type": "way", "ref": 12, "role": "to"},
    ],
    "tags": {"type": "restriction", "restriction": "no_left_turn"},
}  # fmt: skip
ROADS = [{"type": "node", "id": i, "lat": lat, "lon": lon} for i, lat, lon in NODES] + [
    {"type": "way", "id": i, "nodes": nodes, "tags": tags} for i, nodes, tags in WAYS
]
PLACE = {
    "place_id": 1, "osm_type": "relation", "osm_id": 55764, "lat": "52.5", "lon": "13.4",
    "class": "boundary", "type": "administrative", "place_rank": 18, "importance": 0.5,
    "addresstype": "suburb", "name": "Kreuzberg", "display_name": "Kreuzberg, Berlin",
    "boundingbox": [str(BOX[1]), str(BOX[3]), str(BOX[0]), str(BOX[2])],
    "geojson": {"type": "Polygon", "coordinates": [[
        [BOX[0], BOX[1]], [BOX[2], BOX[1]], [BOX[2], BOX[3]], [BOX[0], BOX[3]], [BOX[0], BOX[1]],
    ]]},
}  # fmt: skip


class OpenStreetMap(http.server.ThreadingHTTPServer):
    """Answers as Nominatim and Overpass do, and remembers what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked = []
        self.place = [PLACE]
        self.remark = ""
        self.status = 200

    @property
    def servers(self):
        base = f"http://127.0.0.1:{self.server_port}"
        return OsmServers(overpass_url=f"{base}/api", nominatim_url=f"{base}/")


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.answer(self.server.place)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        (query,) = parse_qs(body)["data"]
        self.server.asked.append(query)
        elements = [TURN] if "restriction" in query else ROADS
        remark = {"remark": self.server.remark} if self.server.remark else {}
        self.answer({"elements": elements, **remark}, self.server.status)

    def answer(self, content, status=200):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def osm(monkeypatch):
    for name in (
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    server = OpenStreetMap()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def settings_stay():
    """What osmnx keeps for the whole process is afterwards what it was before."""
    before = {k: v for k, v in vars(ox.settings).items() if not k.startswith("_")}
    resolve = socket.getaddrinfo
    yield
    assert {k: v for k, v in vars(ox.settings).items() if not k.startswith("_")} == before
    assert socket.getaddrinfo is resolve


def streets(roads):
    return sorted(set(roads.edge_ids.tolist()))


@pytest.mark.usefixtures("settings_stay")
def test_a_place_is_downloaded_once_and_read_with_its_turn_restrictions(osm, tmp_path):
    roads = load_road_map(place="Kreuzberg, Berlin", cache=tmp_path, servers=osm.servers)
    assert roads.name == "Kreuzberg, Berlin"
    assert streets(roads) == ["11", "12", "14"]
    assert "Skalitzer Straße" in roads.street
    assert roads.dropped == {"highway=footway": 1}
    assert roads.closed_turns == 1
    assert [urlsplit(a).path if a.startswith("/") else "overpass" for a in osm.asked] == [
        "/search", "overpass", "overpass",
    ]  # fmt: skip
    silent = OsmServers("http://127.0.0.1:9/api", "http://127.0.0.1:9/")
    again = load_road_map(place=" kreuzberg,  berlin", cache=tmp_path, servers=silent)
    walking = load_road_map(place="Kreuzberg, Berlin", mode="walking", cache=tmp_path)
    assert again.edge_count == roads.edge_count
    assert streets(walking) == ["11", "12", "13", "14"]
    assert len(osm.asked) == 3


@pytest.mark.usefixtures("settings_stay")
def test_a_scenario_s_box_is_downloaded_and_cut(osm, tmp_path):
    box = dict(zip(("west", "south", "east", "north"), BOX, strict=True))
    asked = MapSource(source="osm", box=box)
    roads = map_of(asked, cache=tmp_path, servers=osm.servers)
    assert streets(roads) == ["11", "12"]  # way 14 leads out of the box
    assert not any(a.startswith("/search") for a in osm.asked)
    kept = map_file(asked, cache=tmp_path)
    assert kept == downloaded(BOX, tmp_path / "downloads")
    assert streets(load_road_map(kept)) == ["11", "12", "14"]


@pytest.mark.usefixtures("settings_stay")
def test_without_a_network_the_error_says_what_to_do(tmp_path, monkeypatch):
    for name in (
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    silent = OsmServers("http://127.0.0.1:9/api", "http://127.0.0.1:9/")
    with pytest.raises(
        DataNotFoundError, match=r"Kreuzberg.*cannot be reached.*Give|give its path"
    ):
        load_road_map(place="Kreuzberg, Berlin", cache=tmp_path, servers=silent)
    assert list(tmp_path.rglob("*.osm")) == []


@pytest.mark.usefixtures("settings_stay")
@pytest.mark.parametrize(
    ("set_up", "says"),
    [
        ({"place": []}, "as openstreetmap.org finds it"),
        ({"place": [{**PLACE, "geojson": {"type": "Point", "coordinates": [13.4, 52.5]}}]}, "area"),
        ({"remark": "runtime error: Query timed out"}, "timed out.*smaller area"),
        ({"status": 400}, "HTTP 400"),
    ],
)
def test_an_answer_that_cannot_be_used_leaves_no_map(osm, tmp_path, set_up, says):
    for key, value in set_up.items():
        setattr(osm, key, value)
    with pytest.raises(MapError, match=says):
        load_road_map(place="Atlantis", cache=tmp_path, servers=osm.servers)
    assert list(tmp_path.rglob("*.osm")) == []


def test_without_osmnx_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "osmnx", None)
    with pytest.raises(DataNotFoundError, match=r"testbed\[osm\]"):
        load_road_map("osm", box=BOX, cache=tmp_path)


@pytest.mark.parametrize(
    ("asked", "says"),
    [({}, "give one"), ({"source": "a.osm", "place": "b"}, "give one"), ({"source": "osm"}, "box")],
)
def test_it_must_be_said_which_map_is_meant(asked, says):
    with pytest.raises(MapError, match=says):
        load_road_map(**asked)


def test_names_of_downloads_are_their_own(tmp_path):
    areas = ["Kreuzberg, Berlin", "Kreuzberg", BOX, (*BOX[:3], 52.5020000001), "../../etc/passwd"]
    paths = [downloaded(area, Path(tmp_path)) for area in areas]
    assert len(set(paths)) == len(areas)
    assert all(path.parent == tmp_path for path in paths)
