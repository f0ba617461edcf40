import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import TraceError
from testbed.mobility.generators import (
    fix_times,
    hexagonal_places,
    hexagonal_rings,
    hexagonal_walk,
    line_walk,
    mean_leg_m,
    placed,
    random_waypoint,
    round_trips,
    walked,
)
from testbed.mobility.road_loop import NEAR_M, road_loop
from testbed.mobility.trace import length_m
from testbed.roads.cells import hexagonal_cells
from testbed.roads.matching.offline import match_trace
from testbed.roads.projection import Projection

BOX = (-500.0, -300.0, 500.0, 300.0)
metres = st.floats(-5000.0, 5000.0)


def rng(seed=1):
    return np.random.default_rng(seed)


@given(
    points=st.lists(st.tuples(metres, metres), min_size=2, max_size=6, unique=True),
    speed=st.sampled_from((0.5, 1.0, 13.9)),
    step=st.sampled_from((0.5, 1.0, 7.0)),
)
def test_after_t_seconds_exactly_speed_times_t_metres_have_been_gone(points, speed, step):
    loop = np.array([*points, *points[-2::-1]])
    time = fix_times(400.0, step)
    place, speeds, _ = round_trips(loop, speed, time)
    legs = np.hypot(*np.diff(loop, axis=0).T)
    gone = (speed * time) % legs.sum()
    ends = np.concatenate(([0.0], np.cumsum(legs)))
    for at, here in zip(gone.tolist(), place, strict=True):
        leg = min(int(np.searchsorted(ends, at, side="right")) - 1, len(legs) - 1)
        share = (at - ends[leg]) / legs[leg] if legs[leg] else 0.0
        assert here == pytest.approx(loop[leg] + share * (loop[leg + 1] - loop[leg]), abs=1e-6)
    assert (speeds == speed).all()


def test_the_virtual_mobile_user_goes_to_and_fro_and_turns_at_the_ends():
    time = fix_times(1600.0, 1.0)
    place, _, heading = round_trips(np.array([(0, 0), (100.0, 0), (0, 0)]), 0.5, time)
    assert place[:, 1] == pytest.approx(0.0)
    assert place[[0, 100, 200, 300, 400], 0] == pytest.approx([0.0, 50.0, 100.0, 50.0, 0.0])
    assert (heading[:200] == 90.0).all()
    assert (heading[200:400] == 270.0).all()
    assert np.abs(np.diff(place[:, 0])) == pytest.approx(0.5)


def test_a_placed_trace_is_as_long_on_earth_as_on_the_plane():
    plane = Projection(52.5, 13.4)
    time = fix_times(600.0, 1.0)
    motion = round_trips(np.array([(0, 0), (300.0, 400.0), (0, 0)]), 1.0, time)
    trace = placed(plane, "u", time, motion)
    assert length_m(trace) == pytest.approx(600.0, rel=0.005)
    assert (trace["speed_mps"] == 1.0).all()


def test_round_trips_along_roads_stay_on_them_and_are_found_again(berlin):
    loop = road_loop(berlin, (0.0, 0.0), (700.0, 500.0))
    time = fix_times(300.0, 1.0)
    trace = placed(berlin.projection, "u", time, round_trips(loop, 10.0, time))
    assert np.diff(trace["time_s"].to_numpy()) == pytest.approx(1.0)
    matched = match_trace(berlin, trace)
    assert matched.matched_share == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_a_road_loop_is_closed_and_the_shortest_there_and_back(berlin, seed):
    edges = rng(seed).integers(0, berlin.edge_count, 2)
    ends = [berlin.position(int(edge), 5.0) for edge in edges]
    loop, other = road_loop(berlin, *ends), road_loop(berlin, *ends[::-1])
    assert loop[0].tolist() == loop[-1].tolist()
    assert np.hypot(*(loop[0] - ends[0])) < NEAR_M
    assert np.hypot(loop[:, 0] - ends[1][0], loop[:, 1] - ends[1][1]).min() < NEAR_M
    direct = np.hypot(ends[0][0] - ends[1][0], ends[0][1] - ends[1][1])
    length = np.hypot(*np.diff(loop, axis=0).T).sum()
    assert length >= 2 * direct - 4 * NEAR_M
    # Turned round, it is the same loop, but for where one may turn at the two ends.
    assert np.hypot(*np.diff(other, axis=0).T).sum() == pytest.approx(length, rel=0.35)


def waypoint(seed, *, speed=(0.5, 5.0), pause=(0.0, 60.0), stationary=True, until=400.0):
    time = fix_times(until, 1.0)
    return random_waypoint(
        rng(seed), BOX, speed_mps=speed, pause_s=pause, time_s=time, stationary=stationary
    )


@given(seed=st.integers(0, 10_000), stationary=st.booleans())
@settings(max_examples=40)
def test_random_waypoint_stays_in_its_box_and_its_speeds(seed, stationary):
    place, speed, _ = waypoint(seed, stationary=stationary)
    assert (place[:, 0].min(), place[:, 1].min()) >= (BOX[0], BOX[1])
    assert (np.abs(place) <= (500.0, 300.0)).all()
    assert (((speed >= 0.5) & (speed <= 5.0)) | (speed == 0.0)).all()
    moved = np.hypot(*np.diff(place, axis=0).T)
    assert moved.max() <= 5.0 + 1e-9
    again, _, _ = waypoint(seed, stationary=stationary)
    assert (again == place).all()


def test_between_waypoints_the_way_is_straight_and_the_speed_constant():
    place, speed, heading = waypoint(3, pause=(5.0, 5.0))
    same = (speed[1:] == speed[:-1]) & (heading[1:] == heading[:-1])
    moved = np.hypot(*np.diff(place, axis=0).T)
    assert moved[same] == pytest.approx(speed[1:][same], abs=1e-9)
    assert (moved[speed[:-1] == 0.0] <= 5.0).all()
    assert (speed == 0.0).any()


def test_a_stationary_start_looks_like_later_and_a_uniform_one_does_not():
    def at(seconds, *, stationary):
        asked = {"speed_mps": (0.5, 5.0), "pause_s": (0.0, 60.0), "stationary": stationary}
        time = np.array([0.0, seconds]) if seconds else np.array([0.0])
        found = [random_waypoint(rng(seed), BOX, time_s=time, **asked) for seed in range(3000)]
        speeds = np.array([speed[-1] for _, speed, _ in found])
        far = np.array([np.abs(place[-1] / (500.0, 300.0)).max() for place, _, _ in found])
        return speeds.mean(), (speeds == 0.0).mean(), far.mean()

    begin, later = at(0.0, stationary=True), at(3000.0, stationary=True)
    assert begin == pytest.approx(later, abs=0.06)
    uniform = at(0.0, stationary=False)
    assert uniform[0] > later[0] + 0.5
    assert uniform[1] == 0.0
    assert uniform[2] > later[2] + 0.05


def test_the_mean_leg_of_a_rectangle_is_ghosh_s():
    assert mean_leg_m(1.0, 1.0) == pytest.approx(0.5214054, abs=1e-6)
    ends = rng().uniform((0, 0), (1000.0, 400.0), size=(2, 200_000, 2))
    mean = np.hypot(*(ends[0] - ends[1]).T).mean()
    assert mean_leg_m(1000.0, 400.0) == pytest.approx(mean, rel=0.005)


def test_the_line_walk_has_the_probabilities_asked_for():
    cells = line_walk(rng(), 40_000, right=0.5, left=0.2)
    steps = np.diff(cells)
    assert cells[0] == 0
    for step, share in ((1, 0.5), (-1, 0.2), (0, 0.3)):
        assert (steps == step).mean() == pytest.approx(share, abs=0.01)


def test_the_hexagonal_walk_moves_to_each_of_six_neighbours_alike():
    cells = hexagonal_walk(rng(), 70_000, each=0.1)
    steps = np.diff(cells, axis=0)
    found, counts = np.unique(steps, axis=0, return_counts=True)
    shares = {tuple(s): c / len(steps) for s, c in zip(found.tolist(), counts, strict=True)}
    assert shares.pop((0, 0)) == pytest.approx(0.4, abs=0.01)
    assert len(shares) == 6
    assert list(shares.values()) == pytest.approx([0.1] * 6, abs=0.006)
    assert (hexagonal_rings(found) == np.abs(found).max(axis=1)).all()
    far = hexagonal_places(found, 500.0)
    assert np.hypot(*far[hexagonal_rings(found) == 1].T) == pytest.approx([500.0] * 6)


@given(seed=st.integers(0, 1000), rings=st.integers(1, 4))
def test_a_bounded_walk_never_leaves_its_rings_and_makes_all_other_moves(seed, rings):
    line = line_walk(rng(seed), 100, right=0.5, left=0.5, rings=rings)
    assert np.abs(line).max() <= rings
    assert (np.abs(np.diff(line))[np.abs(line[:-1]) < rings] == 1).all()
    cells = hexagonal_walk(rng(seed), 100, each=1 / 6, rings=rings)
    away = hexagonal_rings(cells)
    assert away.max() <= rings
    moved = hexagonal_rings(np.diff(cells, axis=0))
    assert (moved[away[:-1] < rings] == 1).all()


@given(cells=st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=20))
def test_rings_are_the_fewest_moves(cells):
    def moves(column, row):
        # Diagonal moves go along (1, -1): only unlike signs are covered by them.
        if column * row < 0:
            return max(abs(column), abs(row))
        return abs(column) + abs(row)

    assert hexagonal_rings(np.array(cells)).tolist() == [moves(*cell) for cell in cells]


def test_cells_of_a_walk_are_those_of_the_hexagonal_layout(berlin):
    cells = hexagonal_cells(berlin, 500.0)
    west, south, east, north = berlin.extent_m
    origin = np.array(((west + east) / 2, (south + north) / 2))
    axial = np.stack(np.meshgrid(np.arange(-9, 10), np.arange(-9, 10)), axis=-1).reshape(-1, 2)
    places = hexagonal_places(axial, 500.0) + origin
    for x, y in zip(cells.x_m, cells.y_m, strict=True):
        assert np.hypot(*(places - (x, y)).T).min() == pytest.approx(0.0, abs=1e-6)


def test_in_a_slot_the_user_goes_from_cell_to_cell_at_constant_speed():
    places = hexagonal_places(np.array([(0, 0), (1, 0), (1, 0), (1, 1)]), 600.0)
    place, speed, heading = walked(places, 60.0, fix_times(200.0, 1.0))
    for slot in range(4):
        assert place[slot * 60] == pytest.approx(places[slot])
    assert (speed[:60] == 10.0).all()
    assert (speed[60:120] == 0.0).all()
    assert speed[120:180] == pytest.approx(10.0)
    assert (heading[:120] == 90.0).all()
    assert (speed[181:] == 0.0).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fix_times(0.0, 1.0), "both must be above 0"),
        (lambda: round_trips(np.zeros((3, 2)), 1.0, np.zeros(1)), "two equal points"),
        (lambda: round_trips(np.eye(2), 1.0, np.zeros(1)), "does not end where it begins"),
        (lambda: round_trips(np.zeros((3, 2)), 0.0, np.zeros(1)), "must be above 0"),
        (lambda: waypoint(1, speed=(0.0, 1.0)), "the slowest must be above 0"),
        (lambda: waypoint(1, pause=(2.0, 1.0)), "above the longest"),
        (lambda: line_walk(rng(), 5, right=0.8, left=0.3), "their sum is at most 1"),
        (lambda: hexagonal_walk(rng(), 5, each=0.2), "at most 1/6"),
    ],
)
def test_what_makes_no_sense_is_refused(make, words):
    with pytest.raises(TraceError, match=words):
        make()
