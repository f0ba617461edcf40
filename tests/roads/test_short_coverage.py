import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import MapError
from testbed.roads.cells import Cells, hexagonal_cells
from testbed.roads.coverage import Coverage, nearest_coverage
from testbed.roads.short_coverage import passage, short_coverages
from testbed.roads.sources.assemble import Piece, Pieces, assemble


@pytest.fixture(scope="module")
def coverage(berlin):
    return nearest_coverage(berlin, hexagonal_cells(berlin, 150.0))


def random_way(roads, generator, edges):
    way = [int(generator.integers(roads.edge_count))]
    while len(way) < edges and len(roads.followers(way[-1])):
        way.append(int(generator.choice(roads.followers(way[-1]))))
    return way


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0, 1), speed=st.floats(0.5, 40))
def test_visits_join_and_add_up_to_the_way(berlin, coverage, seed, share, speed):
    way = random_way(berlin, np.random.default_rng(seed), 12)
    offset = share * float(berlin.length_m[way[0]])
    found = passage(berlin, coverage, way, offset_m=offset, speed_mps=speed, theta_m=60.0)
    lengths = berlin.length_m[way].copy()
    lengths[0] -= offset
    mps = np.minimum(speed, berlin.limit_mps[way])
    if not found.visits:
        assert lengths.sum() == 0
        return
    assert (found.visits[0].from_m, found.visits[0].entered_s) == (0.0, 0.0)
    assert found.visits[-1].to_m == pytest.approx(lengths.sum())
    assert found.visits[-1].left_s == pytest.approx((lengths / mps).sum())
    for before, after in itertools.pairwise(found.visits):
        assert (before.to_m, before.left_s) == (after.from_m, after.entered_s)
        assert before.site != after.site
    for i, visit in enumerate(found.visits):
        inner = 0 < i < len(found.visits) - 1
        assert visit.short == (inner and visit.length_m < 60.0)
    settled = found.settled()
    assert settled[0].from_m == 0.0
    assert settled[-1].to_m == found.visits[-1].to_m
    assert not any(visit.short for visit in settled)
    assert all(a.site != b.site and a.to_m == b.from_m for a, b in itertools.pairwise(settled))


def test_a_visit_has_the_site_of_every_place_it_spans(berlin, coverage):
    way = random_way(berlin, np.random.default_rng(3), 20)
    found = passage(berlin, coverage, way, offset_m=5.0, end_m=7.0)
    begins = np.cumsum([0.0, *berlin.length_m[way]]) - 5.0
    assert found.visits[-1].to_m == pytest.approx(begins[-2] + min(7.0, berlin.length_m[way[-1]]))
    for visit in found.visits:
        at = (visit.from_m + visit.to_m) / 2
        number = int(np.searchsorted(begins, at, side="right")) - 1
        assert coverage.cell_at(way[number], at - begins[number]) == visit.site


def straight(lengths_m, sites, *, limit_mps=10.0):
    """A street of edges of some lengths, with stretches as ``[(length_m, site), ...]`` of each."""
    degrees = np.concatenate(([0.0], np.cumsum(lengths_m))) / 111_319.49
    pieces = Pieces()
    for i, (a, b) in enumerate(itertools.pairwise(degrees.tolist())):
        pieces.roads.append(Piece(str(i), i, i + 1, (0.0, 0.0), (a, b), "road", "", limit_mps))
    roads = assemble("street", pieces)
    names = tuple(sorted({site for row in sites for _, site in row}))
    start = np.concatenate(([0], np.cumsum([len(row) for row in sites])))
    from_m, to_m = [], []
    for edge, row in enumerate(sites):
        cuts = [0.0, *np.cumsum([length for length, _ in row])[:-1], float(roads.length_m[edge])]
        from_m += cuts[:-1]
        to_m += cuts[1:]
    zero = np.zeros(len(names))
    cells = Cells(names, zero, zero, zero, zero, 1.0)
    cell = np.array([names.index(site) for row in sites for _, site in row])
    return roads, Coverage(cells, start, np.array(from_m), np.array(to_m), cell)


STREET = ([100, 100, 100], [[(80, "a"), (20, "b")], [(25, "b"), (75, "c")], [(10, "d"), (90, "c")]])


def test_a_coverage_that_spans_a_junction_is_judged_whole():
    roads, coverage = straight(*STREET)
    found = passage(roads, coverage, [0, 1, 2], theta_m=50.0)
    assert [(v.site, round(v.length_m), v.short) for v in found.visits] == [
        ("a", 80, False), ("b", 45, True), ("c", 75, False), ("d", 10, True), ("c", 90, False),
    ]  # fmt: skip
    assert [(v.site, round(v.length_m)) for v in found.settled()] == [("a", 125), ("c", 175)]
    assert [v.short for v in passage(roads, coverage, [0, 1, 2], theta_m=40.0).visits] == [
        False, False, False, True, False,
    ]  # fmt: skip
    assert "short" in found._repr_html_()
    assert found.table()["length_m"].sum() == pytest.approx(roads.length_m.sum())


def test_the_same_coverage_is_short_for_the_fast_and_not_for_the_slow():
    roads, coverage = straight(*STREET, limit_mps=20.0)
    fast = passage(roads, coverage, [0, 1, 2], theta_s=5.0)
    slow = passage(roads, coverage, [0, 1, 2], theta_s=5.0, speed_mps=5.0)
    assert [v.site for v in fast.visits if v.short] == ["b", "c", "d"]
    assert [v.site for v in slow.visits if v.short] == ["d"]
    assert fast.visits[1].stay_s == pytest.approx(45 / 20, rel=1e-3)


def test_the_table_lists_every_part_of_a_short_coverage():
    roads, coverage = straight(*STREET)
    table = short_coverages(roads, coverage, theta_m=50.0)
    assert [(r.edge, r.site, round(r.shortest), r.always) for r in table.itertuples()] == [
        (0, "b", 45, True), (1, "b", 45, True), (2, "d", 10, True),
    ]  # fmt: skip
    seconds = short_coverages(roads, coverage, theta_s=5.0)
    assert seconds["site"].tolist() == ["b", "b", "d"]
    assert seconds["longest"].to_numpy() == pytest.approx([4.5, 4.5, 1.0], rel=1e-3)


def ways_beyond(roads, coverage, edge, site, reach_m, *, forward):
    """Lengths of all ways on from an edge's end that stay in a site, by walking every one."""
    if forward:
        onward = [int(e) for e in roads.followers(edge)]
    else:
        onward = [e for e in range(roads.edge_count) if edge in roads.followers(e)]
    onward = [e for e in onward if e != roads.opposite[edge]]
    if not onward:
        return {math.inf}
    found = set()
    for after in onward:
        row = coverage.rows[after]
        from_m, to_m, cell = row[0] if forward else row[-1]
        if coverage.names[cell] != site:
            found.add(0.0)
        elif len(row) > 1 or to_m - from_m >= reach_m:
            found.add(to_m - from_m)
        else:
            rest = reach_m - (to_m - from_m)
            beyond = ways_beyond(roads, coverage, after, site, rest, forward=forward)
            found |= {to_m - from_m + more for more in beyond}
    return found


@pytest.mark.parametrize("theta_m", [30.0, 70.0])
def test_shortest_and_longest_are_those_of_all_ways(berlin, coverage, theta_m):
    table = short_coverages(berlin, coverage, theta_m=theta_m)
    rows = {(r.edge, r.from_m): r for r in table.itertuples()}
    assert 0 < table["always"].sum() < len(table)
    for edge in range(0, berlin.edge_count, 5):
        stretches = coverage.stretches(edge)
        for stretch in stretches:
            ahead = behind = {0.0}
            if stretch is stretches[-1]:
                ahead = ways_beyond(berlin, coverage, edge, stretch.cell, theta_m, forward=True)
            if stretch is stretches[0]:
                behind = ways_beyond(berlin, coverage, edge, stretch.cell, theta_m, forward=False)
            shortest = stretch.length_m + min(ahead) + min(behind)
            longest = stretch.length_m + max(ahead) + max(behind)
            row = rows.get((edge, stretch.from_m))
            assert (row is not None) == (shortest < theta_m)
            if row is not None:
                assert row.shortest == pytest.approx(shortest)
                assert row.always == (longest < theta_m)
                assert row.longest == (pytest.approx(longest) if row.always else math.inf)


@pytest.mark.parametrize(
    "theta", [{}, {"theta_m": 5.0, "theta_s": 5.0}, {"theta_m": 0.0}, {"theta_s": math.nan}]
)
def test_one_threshold_is_needed(berlin, coverage, theta):
    with pytest.raises(MapError, match="theta_m"):
        short_coverages(berlin, coverage, **theta)


def test_a_way_that_is_none_is_refused(berlin, coverage):
    apart = next(e for e in range(1, berlin.edge_count) if berlin.tail[e] != berlin.head[0])
    with pytest.raises(MapError, match="does not begin where"):
        passage(berlin, coverage, [0, apart])
    with pytest.raises(MapError, match="has no edge"):
        passage(berlin, coverage, [berlin.edge_count])
    with pytest.raises(MapError, match="speed"):
        passage(berlin, coverage, [0], speed_mps=0.0)
