import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings
from synthetic import synthetic_run

from testbed.roads.load import load_road_map
from testbed.roads.sources.assemble import Piece, Pieces, assemble

# Timing decides no test. Whatever else Hypothesis does here or in CI stays as it is.
settings.register_profile("testbed", settings.default, deadline=None)
settings.load_profile("testbed")

# A shell's background job ignores it, and so would what tests start in order to interrupt it.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
LAT, LON = 52.5, 13.4
STEP_LAT, STEP_LON = 0.0018, 0.00295  # about 200 m each
SIZE = 5


@pytest.fixture(scope="session")
def data_paths():
    """Folders that hold the large maps and data sets, or a skip that says how to name them."""
    named = os.environ.get("TESTBED_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "osm").is_dir():
        pytest.skip(
            f"{folder}/osm is not there; set TESTBED_DATA to the folder with osm/ and geolife/"
        )
    return [folder]


@pytest.fixture(scope="session")
def beijing(data_paths, tmp_path_factory):
    return load_road_map(
        "osm/beijing-central-2013.osm.pbf",
        cache=tmp_path_factory.mktemp("beijing"),
        data_paths=data_paths,
    )


@pytest.fixture(scope="session")
def berlin():
    return load_road_map("berlin")


def grid_pieces(*, streets=SIZE):
    """Two-way streets on a square grid of about 200 m; the middle west-east one is primary."""
    pieces = Pieces()

    def node(row, column):
        return row * 100 + column

    def both_ways(one, other, *, main, street):
        ends = [(LAT + r * STEP_LAT, LON + c * STEP_LON) for r, c in (one, other)]
        for (a, b), points in (((one, other), ends), ((other, one), ends[::-1])):
            pieces.roads.append(
                Piece(
                    edge_id=f"{node(*a)}-{node(*b)}",
                    tail=node(*a),
                    head=node(*b),
                    lat_deg=tuple(p[0] for p in points),
                    lon_deg=tuple(p[1] for p in points),
                    road_class="primary" if main else "residential",
                    street=street,
                    limit_mps=14.0 if main else 8.0,
                )
            )

    for row in range(streets):
        for column in range(streets):
            if column + 1 < streets:
                both_ways((row, column), (row, column + 1), main=row == 2, street=f"Row {row}")
            if row + 1 < streets:
                both_ways((row, column), (row + 1, column), main=False, street=f"Column {column}")
    return pieces


@pytest.fixture(scope="session")
def grid():
    return assemble("grid", grid_pieces())


@pytest.fixture(scope="session")
def edge_named(grid):
    """Index of a grid edge by its name ``FROM-TO`` (node = row * 100 + column)."""
    names = {name: index for index, name in enumerate(grid.edge_ids.tolist())}
    return names.__getitem__


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A synthetic run with five moves."""
    return synthetic_run(tmp_path_factory.mktemp("results") / "berlin")
