from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.handoff.contention import Move, coordinate_all
from testbed.handoff.durations import ContainerSize, HostFactors, estimate_durations
from testbed.handoff.timing import Coordination, coordinated

INSTANT = HostFactors(0.0, 0.0)


def estimate(state_bytes, delta_bytes=0.0):
    size = ContainerSize(0.0, state_bytes, delta_bytes)

    def at(rate_bps):
        return estimate_durations(
            size, source=INSTANT, source_speed=1.0, target=INSTANT, target_speed=1.0,
            rate_bps=rate_bps, handover_s=0.5,
        )  # fmt: skip

    return at


def move(user, due_s, *, source="a", target="b", state_bytes=100e6, delta_bytes=0.0):
    when = Coordination(0.0, due_s, margin=0.0, alignment=0.0)
    return Move(user, source, target, 100e6, estimate(state_bytes, delta_bytes), when)


def test_alone_a_migration_has_the_whole_link():
    # 8 * 100e6 / 100e6 = 8 s ahead of the handover
    assert coordinate_all([move("u", 60.0)])["u"].pre_migrate_at_s == pytest.approx(52.0)


def test_two_at_once_share_the_link_and_begin_sooner():
    found = coordinate_all([move("u", 60.0), move("v", 62.0)])
    # At 50 Mbit/s each: 16 s ahead
    assert found["u"].pre_migrate_at_s == pytest.approx(44.0)
    assert found["v"].pre_migrate_at_s == pytest.approx(46.0)
    assert found["u"].hand_over_at_s == 60.0


def test_one_after_the_other_does_not_share():
    found = coordinate_all([move("u", 60.0), move("v", 68.5)])
    assert found["v"].pre_migrate_at_s == pytest.approx(60.5)


def test_a_share_can_make_a_third_one_meet():
    # Alone: u from 52, v from 53, w from 42 to 50. Sharing, u and v begin at 44 and 45: before w
    # is over. All three then have a third: 24 s ahead.
    found = coordinate_all([move("u", 60.0), move("v", 61.0), move("w", 50.0)])
    starts = {user: timing.pre_migrate_at_s for user, timing in found.items()}
    assert starts == pytest.approx({"u": 36.0, "v": 37.0, "w": 26.0})


@pytest.mark.parametrize(
    "other", [{"source": "c"}, {"target": "c"}, {"source": "b", "target": "a"}]
)
def test_another_link_or_direction_is_not_shared(other):
    found = coordinate_all([move("u", 60.0), move("v", 60.0, **other)])
    assert found["u"].pre_migrate_at_s == pytest.approx(52.0)


def test_nobody_s_pause_is_forgotten_either():
    alone = coordinate_all([move("u", 60.0, delta_bytes=12.5e6)])["u"]
    both = coordinate_all([move("u", 60.0, delta_bytes=12.5e6), move("v", 60.0)])["u"]
    # 8 * 12.5e6 / 100e6 = 1 s alone, 2 s with half the rate
    assert alone.downtime_s == pytest.approx(1.0)
    assert both.downtime_s == pytest.approx(2.0)


moves = st.lists(
    st.builds(
        move,
        st.just("u"),
        st.floats(0.0, 200.0),
        source=st.sampled_from("ab"),
        target=st.sampled_from("cd"),
        state_bytes=st.floats(1e5, 5e8),
        delta_bytes=st.floats(1e3, 5e7),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60)
@given(moves=moves)
def test_shares_of_all_that_are_under_way_fit_into_the_link(moves):
    moves = [replace(m, user=f"u{n}") for n, m in enumerate(moves)]
    found = coordinate_all(moves)
    for m in moves:
        timing = found[m.user]
        end_s = timing.migrate_at_s + timing.durations.migration_s
        met = [
            other
            for other in moves
            if (other.source, other.target) == (m.source, m.target)
            and found[other.user].pre_migrate_at_s < end_s
            and timing.pre_migrate_at_s
            < found[other.user].migrate_at_s + found[other.user].durations.migration_s
        ]
        fair = coordinated(m.estimate(m.rate_bps / len(met)), m.when)
        assert timing.durations.pre_migration_s >= fair.durations.pre_migration_s - 1e-9
