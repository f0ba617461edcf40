import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.mobility.radio import HandoverRule, RadioState, SignalModel, received_dbm
from testbed.movement import Radio
from testbed.roads.cells import hexagonal_cells

QUIET = Radio(shadowing=0.0)


@pytest.fixture(scope="module")
def cells(berlin):
    return hexagonal_cells(berlin, 300.0)


def test_power_falls_by_the_exponent_per_decade():
    assert received_dbm(QUIET, 1.0) == -30.0
    assert received_dbm(QUIET, 100.0) == pytest.approx(-100.0)
    assert received_dbm(QUIET, 0.0) == -30.0


def test_without_shadowing_the_nearest_is_the_strongest(cells):
    signal = SignalModel(cells, QUIET, seed=1)
    for x, y in np.random.default_rng(1).uniform(-700, 700, size=(50, 2)).tolist():
        rssi = signal.measure(x, y)
        assert max(rssi, key=lambda c: rssi[c]) == cells.nearest(x, y)
        nearest = cells.distance_m(cells.nearest(x, y), x, y)
        assert max(rssi.values()) == pytest.approx(received_dbm(QUIET, nearest))
        assert len(rssi) == signal.heard


def test_a_place_always_has_the_same_signal_whatever_was_asked_before(cells):
    one, other = (SignalModel(cells, Radio(), seed=5) for _ in range(2))
    one.measure(300.0, -20.0)
    assert one.measure(10.0, 20.0) == other.measure(10.0, 20.0)
    assert one.measure(10.0, 20.0) != SignalModel(cells, Radio(), seed=6).measure(10.0, 20.0)


def test_shadowing_has_the_deviation_and_correlation_asked_for(cells):
    radio = Radio(shadowing=3.0, correlation="50 m")
    loud = SignalModel(cells, radio, seed=2, heard=len(cells))
    quiet = SignalModel(cells, QUIET, seed=2, heard=len(cells))

    def shadows(x, y):
        with_shadow, without = loud.measure(x, y), quiet.measure(x, y)
        return np.array([with_shadow[c] - without[c] for c in cells.names])

    places = np.random.default_rng(3).uniform(-800, 800, size=(200, 2))
    here = np.array([shadows(x, y) for x, y in places])
    assert here.std() == pytest.approx(3.0, rel=0.06)
    for away_m in (10.0, 50.0, 150.0):
        there = np.array([shadows(x + away_m, y) for x, y in places])
        correlation = (here * there).mean() / here.var()
        assert correlation == pytest.approx(np.exp(-away_m / 50.0), abs=0.06)


def rows():
    """Every row of the rule's table: (time, strengths, what serves afterwards)."""
    return [
        (0.0, {}, ""),
        (0.0, {"a": -80.0, "b": -90.0}, "a"),  # no cell: the strongest
        (1.0, {"a": -80.0, "b": -79.0}, "a"),  # stronger, but not by the hysteresis
        (2.0, {"a": -80.0, "b": -70.0}, "a"),  # triggered
        (2.5, {"a": -80.0, "b": -79.0}, "a"),  # no longer
        (3.0, {"a": -80.0, "b": -70.0}, "a"),  # triggered again
        (3.9, {"a": -80.0, "b": -70.0}, "a"),  # not long enough
        (4.0, {"a": -80.0, "b": -70.0}, "b"),  # long enough
        (4.5, {"a": -60.0, "b": -80.0, "c": -65.0}, "b"),  # two triggered
        (5.5, {"a": -66.0, "b": -80.0, "c": -65.0}, "c"),  # both due: the strongest
        (6.0, {}, "c"),  # nothing seen, nothing changes
        (7.0, {"a": -70.0, "b": -60.0}, "b"),  # the serving one is gone
    ]


def test_the_rule_walks_its_whole_table():
    rule = HandoverRule(hysteresis_db=3.0, time_to_trigger_s=1.0)
    for time_s, rssi, serving in rows():
        assert rule.update(time_s, rssi) == serving, time_s
        assert rule.serving == serving


def test_equal_strengths_are_settled_by_name():
    rule = HandoverRule(hysteresis_db=0.0, time_to_trigger_s=0.0)
    assert rule.update(0.0, {"z": -70.0, "b": -70.0}) == "b"
    assert rule.update(1.0, {"z": -70.0, "b": -70.0}) == "b"


def test_without_time_to_trigger_the_change_is_at_once():
    rule = HandoverRule.from_radio(Radio(hysteresis=2.0, time_to_trigger=0.0))
    rule.update(0.0, {"a": -80.0, "b": -90.0})
    assert rule.update(1.0, {"a": -80.0, "b": -77.0}) == "b"


def test_a_handover_leaves_no_link_for_its_time_and_nothing_triggers_in_it():
    rule = HandoverRule.from_radio(Radio(time_to_trigger=0.0, handover_time="500 ms"))
    a, b = {"a": -70.0, "b": -80.0}, {"a": -80.0, "b": -70.0}
    walked = [
        (0.0, a, RadioState("a", connected=True)),  # the first serves at once
        (1.0, b, RadioState("b", connected=False, in_handover_until_s=1.5)),
        (1.4, a, RadioState("b", connected=False, in_handover_until_s=1.5)),  # not back yet
        (1.5, b, RadioState("b", connected=True)),  # over
        (2.0, a, RadioState("a", connected=False, in_handover_until_s=2.5)),
        (3.0, {}, RadioState("a", connected=True)),
        (4.0, {"c": -60.0}, RadioState("c", connected=False, in_handover_until_s=4.5)),
    ]
    for time_s, rssi, state in walked:
        assert rule.observe(time_s, rssi) == state
    assert rule.state(4.6) == RadioState("c", connected=True)


def test_before_any_base_station_is_seen_there_is_no_link():
    rule = HandoverRule.from_radio(Radio())
    assert rule.observe(0.0, {}) == RadioState("", connected=False)


def test_as_before_a_handover_takes_no_time_where_none_is_asked_for():
    rule = HandoverRule.from_radio(Radio(time_to_trigger=0.0))
    rule.observe(0.0, {"a": -70.0, "b": -80.0})
    assert rule.observe(1.0, {"a": -80.0, "b": -70.0}) == RadioState("b", connected=True)


@given(
    noise=st.lists(
        st.tuples(st.floats(-1.49, 1.49), st.floats(-1.49, 1.49)), min_size=1, max_size=50
    )
)
def test_noise_below_the_hysteresis_never_hands_over(noise):
    rule = HandoverRule(hysteresis_db=3.0, time_to_trigger_s=0.0)
    rule.update(0.0, {"a": -70.0, "b": -70.1})
    for time_s, (one, other) in enumerate(noise, start=1):
        assert rule.update(float(time_s), {"a": -70.0 + one, "b": -70.0 + other}) == "a"
