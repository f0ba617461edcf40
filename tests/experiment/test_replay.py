from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import ScenarioError
from testbed.experiment.replay import Cargo, Carrier, replay, replay_user, watch_all
from testbed.experiment.watch import Decider, deciders
from testbed.experiment.world import World
from testbed.planning.planner import Plan
from testbed.scenario import Scenario

MB = 1e6
CARGO = Cargo(ahead_bytes=100 * MB, changing_bytes_per_s=2 * MB, frozen_bytes=1 * MB, rate_bps=80e6)
"""10 MB a second, of which 2 are lost to changes: 12.5 s ahead, 0.125 s frozen."""
AHEAD_S, FROZEN_S, LONG_S = 12.5, 0.125, 1e6
SCENARIO = {
    "name": "replayed",
    "seed": 3,
    "map": {"source": "berlin"},
    "cells": {"separation": "350 m"},
    "tiers": {"regional": {"separation": "1000 m"}},
    "radio": {"hysteresis": 2.0},
    "hosts": {
        "l1": {"role": "server", "tier": "local"}, "l2": {"role": "server", "tier": "local"},
        "r1": {"role": "server", "tier": "regional"}, "r2": {"role": "server", "tier": "regional"},
        "bs": {"role": "base-station"}, "car": {"role": "user"},
    },
    "links": [
        {"between": ["car", "bs"], "delay": "5 ms"},
        {"between": ["bs", "l*"], "delay": "15 ms"},
        {"between": ["bs", "r*"], "delay": "95 ms"},
        {"between": ["l1", "l2"], "delay": "15 ms"},
        {"between": ["l*", "r*"], "delay": "80 ms"},
        {"between": ["r1", "r2"], "delay": "80 ms"},
    ],
    "services": {"faces": {"kind": "face-detection"}},
    "users": {
        "alice": {
            "host": "car",
            "service": "faces",
            "trace": {
                "source": "round-trip", "duration": "500 s", "speed": "12 m/s",
                "start": {"lat": 52.4287, "lon": 13.5205}, "end": {"lat": 52.4365, "lon": 13.5420},
            },
        }
    },
    "prediction": {"horizon": "40 s"},
    "planning": {"tiers": ["local", "regional"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World.load(Scenario.model_validate(SCENARIO), tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def tallies(world):
    """Each planner's, of a car that goes to and fro over several cells and regions."""
    seen = {"alice": watch_all(world, "alice")}
    return replay(world, CARGO, sightings=seen).set_index("planner")


def carrier(plan, **cargo):
    made = Carrier(Cargo(**{**CARGO.__dict__, **cargo}), "a", "a")
    made.follow(plan)
    return made


def test_a_service_that_was_sent_ahead_moves_when_the_radio_has():
    going = carrier(Plan("a", "a", "b", ""))
    going.work(AHEAD_S)
    assert (going.prepared, going.service_site, going.bound_for) == ("b", "a", "a")
    assert going.sent_bytes == pytest.approx(125 * MB)
    going.work(10.0)
    assert going.sent_bytes == pytest.approx(145 * MB)  # kept fresh
    going.follow(Plan("b", "b", "", ""))
    assert going.bound_for == "a"
    assert going.work(10.0) == pytest.approx(FROZEN_S)
    assert (going.service_site, going.migrations, going.ready, going.handovers) == ("b", 1, 1, 1)


def test_a_move_that_has_begun_is_finished_and_not_called_back():
    going = carrier(Plan("b", "b", "", ""))
    going.work(AHEAD_S / 2)
    assert going.bound_for == "b"
    going.follow(Plan("c", "c", "", ""))
    assert going.work(100.0) == pytest.approx(AHEAD_S / 2 + FROZEN_S)
    assert (going.service_site, going.migrations, going.ready) == ("b", 1, 0)
    assert going.work(100.0) == pytest.approx(AHEAD_S + FROZEN_S)
    assert going.service_site == "c"


def test_what_was_sent_ahead_in_vain_is_counted():
    going = carrier(Plan("a", "a", "b", ""))
    going.work(AHEAD_S)
    going.follow(Plan("a", "a", "c", ""))
    going.work(AHEAD_S)
    assert (going.prepared, going.given_up, going.migrations) == ("c", 1, 0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from("abc"), st.sampled_from(["", *"abc"]),
            st.floats(0, 30),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_bytes_never_exceed_what_the_link_takes(steps):
    going, passed_s = Carrier(CARGO, "a", "a"), 0.0
    for service, radio, ahead, time_s in steps:
        going.follow(Plan(service, radio, ahead, ""))
        left_s = time_s
        while left_s > 0:
            spent_s = going.work(left_s)
            assert 0 < spent_s <= left_s
            left_s -= spent_s
        passed_s += time_s
        assert going.sent_bytes <= passed_s * CARGO.rate_bps / 8 * (1 + 1e-9)
        assert going.service_site in "abc"


def test_the_planners_differ_as_they_should(tallies, world):
    assert tallies["handovers"].nunique() == 1
    nearest, pm = tallies.loc["nearest"], tallies.loc["pm"]
    assert nearest["ready"] == 0 < pm["ready"]
    assert pm["away_s"] < nearest["away_s"]
    assert tallies.loc["pm-op", "migrations"] <= pm["migrations"]
    for name in ("pm-tier", "pm-op-tier"):
        assert tallies.loc[name, "migrations"] < pm["migrations"]
        assert tallies.loc[name, "sent_bytes"] < nearest["sent_bytes"]
        assert tallies.loc[name, "round_trip_s"] == pytest.approx(0.2)
    assert nearest["round_trip_s"] == pm["round_trip_s"] == pytest.approx(0.04)
    assert tallies["time_s"].between(497, 500).all()


def test_a_service_that_tolerates_little_is_kept_low(world):
    strict = world.scenario.services["faces"].model_copy(update={"max_delay": 0.05})
    scenario = world.scenario.model_copy(update={"services": {"faces": strict}})
    low = World(**{**world.__dict__, "scenario": scenario})
    planner = deciders(low, planner="pm-tier")["alice"]
    cell = world.cells.names[0]
    assert planner.first(cell).service_at == cell
    assert deciders(world, planner="pm-tier")["alice"].first(cell).service_at != cell


class OnceThenStay:
    """Wants the service at the second cell for one fix, and then wherever it is or is going."""

    def __init__(self, cells):
        self.cells = cells

    def plan(self, view):
        here = view.service_site or self.cells[0]
        wanted = self.cells[1] if view.serving_cell == self.cells[1] else here
        return Plan(wanted, view.serving_cell, "", "test")


def test_a_planner_is_told_of_a_move_that_has_begun(world):
    """Else a plan to stay where the service was would send it straight back."""
    cells = world.cells.names[:2]
    sightings = [
        SimpleNamespace(
            time_s=float(t), serving_cell=cells[t == 1], candidates=(),
            state=SimpleNamespace(cruise_mps=10.0),
        )
        for t in range(40)
    ]  # fmt: skip
    decider = Decider(OnceThenStay(cells), "alice")
    carried, on_tier_s, _ = replay_user(sightings, decider, CARGO, world.tiers)
    assert (carried.service_site, carried.migrations) == (cells[1], 1)
    assert sum(on_tier_s.values()) == pytest.approx(39.0)


def test_planners_that_do_not_suit_a_scenario_are_refused(world):
    with pytest.raises(ScenarioError, match="there is no planner 'fastest'"):
        replay(world, CARGO, ["fastest"], sightings={"alice": []})


@settings(max_examples=5)
@given(st.floats(1e6, 1e9))
def test_cargo_that_is_larger_takes_longer_and_sends_more(ahead_bytes):
    small = carrier(Plan("b", "b", "", ""), ahead_bytes=ahead_bytes)
    large = carrier(Plan("b", "b", "", ""), ahead_bytes=2 * ahead_bytes)
    assert small.work(LONG_S) < large.work(LONG_S)
    assert small.sent_bytes < large.sent_bytes
