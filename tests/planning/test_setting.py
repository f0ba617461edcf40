import math
from pathlib import Path

import pytest

from testbed.errors import ScenarioError
from testbed.planning.follow import Nearest, Predictive
from testbed.planning.multitier import MultiTier
from testbed.planning.setting import Setting, make_planner, planner_names, round_trip_s
from testbed.scenario import Handoff, Planning, read_scenario

SCENARIOS = Path(__file__).parents[2] / "data" / "scenarios"


@pytest.fixture(scope="module")
def msmf():
    return read_scenario(SCENARIOS / "msmf.yml")


def test_all_planners_of_msmf_are_installed_and_can_be_made(msmf, tiers):
    setting = Setting.of(msmf, tiers)
    made = {name: make_planner(name, setting) for name in planner_names()}
    assert isinstance(made["nearest"], Nearest)
    assert made["pm"] == Predictive(20.0, 0.5)
    assert made["pm-op"] == Predictive(20.0, 0.5, 10.0)
    assert isinstance(made["pm-tier"], MultiTier)
    assert made["pm-tier"].inner == made["pm"]
    assert made["pm-op-tier"].inner == made["pm-op"]


def test_an_unknown_planner_is_answered_with_the_nearest(msmf, tiers):
    with pytest.raises(ScenarioError, match="there is no planner 'pm-opt'; did you mean 'pm-op'"):
        make_planner("pm-opt", Setting.of(msmf, tiers))


def test_the_protocol_names_a_planner_where_nothing_else_does():
    assert Planning().named(Handoff()) == "pm"
    assert Planning().named(Handoff(protocol="reactive")) == "nearest"
    assert Planning(planner="pm-op").named(Handoff(protocol="reactive")) == "pm-op"


def test_the_paper_s_delays_are_those_of_the_links(msmf):
    round_trips = [round_trip_s(msmf, tier) for tier in ("local", "regional", "cloud")]
    assert round_trips == pytest.approx([0.04, 0.2, 0.3])


def test_the_longest_way_to_the_nearest_server_counts():
    berlin = read_scenario(SCENARIOS / "berlin.yml")
    assert round_trip_s(berlin, "local") == pytest.approx(2 * (0.005 + 0.001))


def test_without_links_to_a_tier_it_is_infinitely_far(msmf):
    without = msmf.model_copy(update={"links": msmf.links[:2]})
    assert round_trip_s(without, "local") == pytest.approx(0.04)
    assert round_trip_s(without, "regional") == math.inf


def test_what_a_service_tolerates_is_said_or_follows_from_its_kind(msmf, tiers):
    setting = Setting.of(msmf, tiers)
    assert list(setting.round_trip_s) == ["local", "regional"]
    assert setting.tolerated_s(0.01, "cloud") == 0.01
    assert setting.tolerated_s(None, "local") == pytest.approx(0.04)
    assert setting.tolerated_s(None, "regional") == pytest.approx(0.2)
    assert setting.tolerated_s(None, "cloud") == math.inf
