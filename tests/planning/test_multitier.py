import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import ScenarioError
from testbed.planning.multitier import pm_op_tier, pm_tier
from testbed.planning.planner import SystemView
from testbed.planning.setting import Setting
from testbed.prediction.predictor import Candidate
from testbed.scenario import TIERS

DELAYS_S = {"local": 0.04, "regional": 0.2, "cloud": 0.3}
TOLERANT_S, STRICT_S = 0.25, 0.05
CELLS = [f"cell-{n:02d}" for n in range(12)]
cells = st.sampled_from(CELLS)
sites = st.sampled_from([*CELLS, "region-0", "region-1", "region-2", "cloud"])
candidates = st.lists(
    st.builds(
        Candidate,
        site=cells,
        probability=st.floats(0, 1),
        eta_s=st.floats(0, 60),
        step=st.integers(1, 3),
    ),
    max_size=6,
).map(tuple)
views = st.builds(
    SystemView,
    user=st.just("alice"),
    serving_cell=cells,
    service_site=sites,
    candidates=candidates,
    speed_mps=st.one_of(st.just(float("nan")), st.floats(0, 40)),
    lowest_tier=st.sampled_from(TIERS),
    tolerated_s=st.floats(0, 1),
)


def setting(tiers, **changes):
    return dataclasses.replace(Setting(tiers, DELAYS_S), **changes)


def view(cell, site, *seen, tolerated_s=TOLERANT_S, speed_mps=10.0):
    found = tuple(Candidate(*one) for one in seen)
    return SystemView("alice", cell, site, found, speed_mps, "local", tolerated_s)


@given(data=st.data(), seen=views, slow_mps=st.sampled_from([0.0, 2.0]))
def test_service_and_radio_are_always_somewhere(data, tiers, seen, slow_mps):
    planner = data.draw(st.sampled_from([pm_tier, pm_op_tier]))(setting(tiers, slow_mps=slow_mps))
    plan = planner.plan(seen)
    tier = planner.tier(seen)
    assert plan.radio_at == seen.serving_cell
    assert plan.service_at in {tiers.site_of(seen.serving_cell, tier), seen.service_site}
    assert plan.prepare_at == "" or tiers.tier_of(plan.prepare_at) == tier
    assert plan.prepare_at != plan.service_at
    assert plan.reason.startswith(f"{tier} tier: ")
    assert planner.plan(seen) == plan


@given(seen=views, more_s=st.floats(0, 1))
def test_who_tolerates_more_delay_is_never_on_a_lower_tier(tiers, seen, more_s):
    planner = pm_tier(setting(tiers))
    patient = dataclasses.replace(seen, tolerated_s=seen.tolerated_s + more_s)
    assert TIERS.index(planner.tier(patient)) >= TIERS.index(planner.tier(seen))


@given(seen=views)
def test_the_delay_is_kept_where_any_tier_keeps_it(tiers, seen):
    tier = pm_tier(setting(tiers)).tier(seen)
    able = [t for t in TIERS[TIERS.index(seen.lowest_tier) :] if DELAYS_S[t] <= seen.tolerated_s]
    assert tier == (able[-1] if able else seen.lowest_tier)


@given(seen=views)
def test_a_faster_user_is_never_on_a_lower_tier(tiers, seen):
    planner = pm_tier(setting(tiers, slow_mps=2.0))
    walking = planner.tier(dataclasses.replace(seen, speed_mps=1.0))
    driving = planner.tier(dataclasses.replace(seen, speed_mps=10.0))
    assert TIERS.index(driving) >= TIERS.index(walking)
    assert walking == seen.lowest_tier


def test_a_tolerant_service_is_on_the_regional_server_and_moves_with_the_region_only(tiers):
    planner = pm_tier(setting(tiers))
    assert planner.plan(view("cell-01", "")).service_at == "region-0"
    within = planner.plan(view("cell-03", "region-0", ("cell-02", 0.9, 5.0)))
    assert (within.service_at, within.radio_at, within.prepare_at) == ("region-0", "cell-03", "")
    near = planner.plan(view("cell-03", "region-0", ("cell-04", 0.9, 5.0)))
    assert (near.service_at, near.prepare_at) == ("region-0", "region-1")
    across = planner.plan(view("cell-04", "region-0"))
    assert (across.service_at, across.radio_at) == ("region-1", "cell-04")


def test_a_strict_service_stays_on_the_low_tier(tiers):
    plan = pm_tier(setting(tiers)).plan(view("cell-04", "cell-03", tolerated_s=STRICT_S))
    assert plan.service_at == plan.radio_at == "cell-04"


def test_a_region_two_cells_ahead_is_prepared_in_time(tiers):
    seen = view("cell-02", "region-0", ("cell-03", 0.9, 4.0), ("cell-04", 0.8, 15.0, 2))
    assert pm_tier(setting(tiers)).plan(seen).prepare_at == "region-1"


def test_a_corner_of_a_region_is_passed_over(tiers):
    corner = view("cell-04", "region-0", ("cell-03", 0.9, 6.0))
    assert pm_tier(setting(tiers)).plan(corner).service_at == "region-1"
    plan = pm_op_tier(setting(tiers)).plan(corner)
    assert (plan.service_at, plan.radio_at, plan.prepare_at) == ("region-0", "cell-04", "")


def test_around_the_limit_of_speed_a_service_does_not_go_up_and_down(tiers):
    planner = pm_tier(setting(tiers, slow_mps=2.0))
    for speed_mps in (1.9, 1.5, 1.41):
        assert planner.tier(view("cell-01", "region-0", speed_mps=speed_mps)) == "regional"
        assert planner.tier(view("cell-01", "cell-01", speed_mps=speed_mps)) == "local"
    assert planner.tier(view("cell-01", "region-0", speed_mps=1.3)) == "local"
    assert planner.tier(view("cell-01", "region-0", speed_mps=float("nan"))) == "regional"


def test_where_there_is_no_choice_it_is_said(tiers):
    for delays in ({}, {"local": 0.04}):
        with pytest.raises(ScenarioError, match=r"planning\.tiers: .*there is no choice"):
            pm_tier(Setting(tiers, delays))
