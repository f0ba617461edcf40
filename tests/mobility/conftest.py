import os
from datetime import timedelta
from pathlib import Path

import pytest
from made_geolife import HEADER, START
from made_town import made_town

from testbed.mobility.sumo.net import build_net
from testbed.roads.load import load_road_map

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def data_paths():
    """Folders that hold the large data sets, or a skip that says how to name them."""
    named = os.environ.get("TESTBED_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "geolife").is_dir():
        pytest.skip(f"{folder}/geolife is not there; set TESTBED_DATA to the folder that holds it")
    return [folder]


@pytest.fixture(scope="session")
def berlin():
    return load_road_map("berlin")


@pytest.fixture(scope="session")
def trips(tmp_path_factory):
    """One folder of driven trips for all tests."""
    return tmp_path_factory.mktemp("trips")


@pytest.fixture
def geolife(tmp_path):
    """A made data set of one user: ``write(name, lines)`` adds a track, ``label(...)`` a label."""
    folder = tmp_path / "geolife" / "Data" / "042"
    (folder / "Trajectory").mkdir(parents=True)
    labels = ["Start Time\tEnd Time\tTransportation Mode"]

    class Made:
        data_paths = (tmp_path,)
        data = tmp_path / "geolife" / "Data"

        @staticmethod
        def write(name, lines):
            path = folder / "Trajectory" / f"{name}.plt"
            path.write_bytes("\r\n".join([*HEADER, *lines, ""]).encode())
            return path

        @staticmethod
        def label(begin_s, end_s, mode):
            begin, end = (START + timedelta(seconds=s) for s in (begin_s, end_s))
            labels.append(f"{begin:%Y/%m/%d %H:%M:%S}\t{end:%Y/%m/%d %H:%M:%S}\t{mode}")
            (folder / "labels.txt").write_bytes("\r\n".join([*labels, ""]).encode())

        @staticmethod
        def labels_file():
            return folder / "labels.txt"

    return Made


@pytest.fixture(scope="session")
def town_osm(tmp_path_factory):
    """A small town as OpenStreetMap data: a grid of streets, a platform, a building site."""
    path = tmp_path_factory.mktemp("town") / "town.osm"
    path.write_text(made_town(), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def nets(tmp_path_factory):
    """One folder of made networks for all tests."""
    return tmp_path_factory.mktemp("nets")


@pytest.fixture(scope="session")
def town_net(town_osm, nets):
    return build_net(town_osm, nets)
