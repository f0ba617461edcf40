import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import MapError
from testbed.roads.cells import Cells, hexagonal_cells
from testbed.roads.coverage import nearest_coverage
from testbed.roads.sources.assemble import Piece, Pieces, assemble

degrees = st.floats(-0.02, 0.02).map(lambda d: round(d, 5))


@st.composite
def maps(draw):
    """Some winding roads, as a star from one point so that they hang together."""
    pieces = Pieces()
    for number in range(draw(st.integers(1, 4))):
        points = draw(st.lists(st.tuples(degrees, degrees), min_size=1, max_size=6, unique=True))
        points = [(0.0, 0.0), *[p for p in points if p != (0.0, 0.0)]]
        if len(points) < 2:
            points.append((0.01, 0.01))
        pieces.roads.append(
            Piece(
                edge_id=str(number),
                tail=0,
                head=number + 1,
                lat_deg=tuple(p[0] for p in points),
                lon_deg=tuple(p[1] for p in points),
                road_class="road",
                street="",
                limit_mps=10.0,
            )
        )
    return assemble("drawn", pieces)


@st.composite
def stations(draw):
    metres = st.integers(-3000, 3000).map(float)
    places = draw(st.lists(st.tuples(metres, metres), min_size=1, max_size=12, unique=True))
    x, y = np.array(places, dtype=float).T
    names = tuple(f"cell-{n:02d}" for n in range(len(x)))
    return Cells(names, x, y, np.zeros_like(x), np.zeros_like(x), 1.0)


@settings(max_examples=150, deadline=None)
@given(roads=maps(), cells=stations())
def test_stretches_cover_every_edge_without_gap_or_overlap(roads, cells):
    coverage = nearest_coverage(roads, cells)
    for edge in range(roads.edge_count):
        stretches = coverage.stretches(edge)
        assert stretches[0].from_m == 0.0
        assert stretches[-1].to_m == roads.length_m[edge]
        for before, after in itertools.pairwise(stretches):
            assert before.to_m == after.from_m
            assert before.cell != after.cell
        assert all(stretch.length_m > 0 for stretch in stretches)


@settings(max_examples=150, deadline=None)
@given(roads=maps(), cells=stations(), share=st.floats(0.0, 1.0))
def test_every_point_of_a_stretch_has_its_cell_as_the_nearest(roads, cells, share):
    coverage = nearest_coverage(roads, cells)
    inside = coverage.from_m + share * (coverage.to_m - coverage.from_m)
    x, y = roads.positions(coverage.edge_of, inside)
    own = np.hypot(cells.x_m[coverage.cell] - x, cells.y_m[coverage.cell] - y)
    nearest = np.hypot(cells.x_m[:, None] - x[None, :], cells.y_m[:, None] - y[None, :]).min(axis=0)
    np.testing.assert_allclose(own, nearest, atol=1e-4)


@pytest.mark.parametrize("separation_m", [150.0, 300.0, 500.0])
def test_boundaries_lie_on_bisectors_on_a_real_map(berlin, separation_m):
    cells = hexagonal_cells(berlin, separation_m)
    coverage = nearest_coverage(berlin, cells)
    inner = np.flatnonzero(np.diff(coverage.edge_of) == 0)
    x, y = berlin.positions(coverage.edge_of[inner], coverage.to_m[inner])
    to_old = np.hypot(cells.x_m[coverage.cell[inner]] - x, cells.y_m[coverage.cell[inner]] - y)
    new = coverage.cell[inner + 1]
    to_new = np.hypot(cells.x_m[new] - x, cells.y_m[new] - y)
    np.testing.assert_allclose(to_old, to_new, atol=1e-5)


def test_the_layout_is_hexagonal_and_every_cell_has_a_road(berlin):
    cells = hexagonal_cells(berlin, 300.0)
    away = cells.tree.query(np.column_stack((cells.x_m, cells.y_m)), k=2)[0][:, 1]
    np.testing.assert_allclose(away, 300.0, rtol=1e-9)
    assert set(np.unique(nearest_coverage(berlin, cells).cell)) == set(range(len(cells)))
    assert cells.names[0] == "cell-01"
    assert list(cells.names) == sorted(cells.names)
    again = hexagonal_cells(berlin, 300.0)
    np.testing.assert_array_equal(again.x_m, cells.x_m)


def test_cells_are_named_from_the_north_west(berlin):
    cells = hexagonal_cells(berlin, 400.0)
    assert cells.lat_deg[0] == cells.lat_deg.max()
    assert cells.nearest(float(cells.x_m[3]), float(cells.y_m[3])) == cells.names[3]
    assert cells.distance_m("cell-01", float(cells.x_m[0]), float(cells.y_m[0]) + 5) == 5.0
    assert cells.distances_m(0.0, 0.0).keys() == set(cells.names)
    assert "400 m" in cells._repr_html_()


def test_cell_at_an_offset_is_the_one_of_its_stretch(berlin):
    cells = hexagonal_cells(berlin, 200.0)
    coverage = nearest_coverage(berlin, cells)
    for edge in range(0, berlin.edge_count, 11):
        for stretch in coverage.stretches(edge):
            middle = (stretch.from_m + stretch.to_m) / 2
            assert coverage.cell_at(edge, middle) == stretch.cell
        assert coverage.cell_at(edge, 1e9) == coverage.stretches(edge)[-1].cell
        assert coverage.cell_at(edge, -1.0) == coverage.stretches(edge)[0].cell


@pytest.mark.parametrize("separation_m", [0.0, -5.0, 0.1, float("nan")])
def test_a_separation_that_makes_no_sense_is_refused(berlin, separation_m):
    with pytest.raises(MapError, match="separation"):
        hexagonal_cells(berlin, separation_m)


def test_an_unknown_cell_is_answered_with_the_known_ones(berlin):
    with pytest.raises(MapError, match="cell-01"):
        hexagonal_cells(berlin, 500.0).index("cell-99999")
