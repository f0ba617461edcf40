import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from testbed.planning.ahead import Stay, by_site, settled, stays_ahead
from testbed.planning.follow import Predictive
from testbed.planning.planner import Plan, SystemView
from testbed.prediction.predictor import Candidate

SITES = ["north", "south", "east", "west"]
THETA_S = 10.0
candidates = st.lists(
    st.builds(
        Candidate,
        site=st.sampled_from(SITES),
        probability=st.floats(0, 1),
        eta_s=st.floats(0, 60),
        step=st.integers(1, 3),
    ),
    max_size=8,
).map(lambda found: tuple(sorted(found, key=lambda c: (c.step, -c.probability))))
views = st.builds(
    SystemView,
    user=st.just("alice"),
    serving_cell=st.sampled_from(SITES),
    service_site=st.sampled_from(SITES),
    candidates=candidates,
)
PM_OP = Predictive(lead_s=20, certainty=0.5, short_stay_s=THETA_S)
PM = Predictive(lead_s=20, certainty=0.5)


def view(*seen, serving="north", service="north"):
    return SystemView("alice", serving, service, tuple(Candidate(*one) for one in seen))


@given(views)
def test_the_radio_is_always_where_the_user_is_and_the_service_somewhere(seen):
    plan = PM_OP.plan(seen)
    assert plan.radio_at == seen.serving_cell
    assert plan.service_at in {seen.serving_cell, seen.service_site}
    assert plan.prepare_at != plan.service_at
    assert plan.reason


@given(views)
def test_the_service_never_moves_into_a_stay_that_is_short(seen):
    stays = stays_ahead(seen.candidates, seen.serving_cell, PM_OP.certainty)
    assume(stays)
    plan = PM_OP.plan(seen)
    if stays[0].eta_s < THETA_S:
        assert plan.service_at == seen.service_site
    short = [stay for stay in stays if stay.stay_s < THETA_S]
    long = {stay.site for stay in stays if stay.stay_s >= THETA_S}
    assert plan.prepare_at not in {stay.site for stay in short} - long


@given(views)
def test_without_a_threshold_it_is_the_planner_without_the_optimisation(seen):
    assert Predictive(20, 0.5, 0.0).plan(seen) == PM.plan(seen)
    assert PM.plan(seen).service_at == seen.serving_cell


@given(views, st.floats(0, 60), st.floats(0, 60))
def test_a_longer_threshold_never_makes_the_service_move_more(seen, one_s, other_s):
    patient, hasty = max(one_s, other_s), min(one_s, other_s)
    if Predictive(20, 0.5, patient).plan(seen).service_at != seen.service_site:
        assert Predictive(20, 0.5, hasty).plan(seen).service_at != seen.service_site


@given(candidates, st.sampled_from(SITES), st.floats(0.01, 1))
def test_the_stays_ahead_are_likely_and_neighbours_differ(seen, here, certainty):
    stays = stays_ahead(seen, here, certainty)
    sites = [here, *(stay.site for stay in stays)]
    assert all(a != b for a, b in itertools.pairwise(sites))
    sure = [1.0, *(stay.probability for stay in stays)]
    assert all(after >= certainty * before for before, after in itertools.pairwise(sure))
    assert all(stay.stay_s >= 0 for stay in stays)
    assert not stays or stays[-1].stay_s == math.inf
    assert set(settled(stays, THETA_S)) <= set(stays)


def test_a_stay_lasts_until_the_next_site_serves():
    seen = (
        Candidate("south", 0.8, 5.0), Candidate("east", 0.2, 3.0),
        Candidate("west", 0.7, 9.0, 2), Candidate("north", 0.6, 30.0, 3),
    )  # fmt: skip
    assert stays_ahead(seen, "north", 0.5) == (
        Stay("south", 0.8, 5.0, 4.0), Stay("west", 0.7, 9.0, 21.0), Stay("north", 0.6, 30.0),
    )  # fmt: skip


def test_a_short_passage_is_passed_over_and_the_site_behind_it_prepared():
    ahead = [("south", 0.9, 5.0), ("west", 0.8, 9.0, 2)]
    assert PM_OP.plan(view(*ahead)).prepare_at == "west"
    assert PM.plan(view(*ahead)).prepare_at == "south"
    longer = [("south", 0.9, 5.0), ("west", 0.8, 15.0, 2)]
    assert PM_OP.plan(view(*longer)).prepare_at == "south"


def test_how_long_a_stay_is_counts_for_a_site_that_is_not_sure_to_come():
    ahead = [("south", 0.7, 5.0), ("west", 0.4, 9.0, 2)]
    assert PM_OP.plan(view(*ahead)) == Plan(
        "north", "north", "", "west in 9 s with 40%: not yet"
    )  # fmt: skip
    assert PM_OP.plan(view(*ahead[:1])).prepare_at == "south"


@given(views)
def test_only_what_is_likely_and_near_is_prepared(seen):
    ahead = PM_OP.plan(seen).prepare_at
    likely = [c for c in seen.candidates if c.site == ahead and c.probability >= PM_OP.certainty]
    assert not ahead or any(c.eta_s <= PM_OP.lead_s for c in likely)


def test_in_a_short_passage_the_radio_moves_and_the_service_stays():
    passing = view(("west", 0.9, 4.0), serving="south", service="north")
    plan = PM_OP.plan(passing)
    assert (plan.service_at, plan.radio_at, plan.prepare_at) == ("north", "south", "west")
    assert "forwarded to north" in plan.reason
    assert PM.plan(passing).service_at == "south"


def test_a_user_who_stays_after_all_is_followed():
    staying = view(("west", 0.9, 12.0), serving="south", service="north")
    assert PM_OP.plan(staying).service_at == "south"
    unsure = view(("west", 0.4, 4.0), serving="south", service="north")
    assert PM_OP.plan(unsure).service_at == "south"


def test_a_passage_that_leads_back_prepares_nothing():
    plan = PM_OP.plan(view(("north", 0.9, 4.0), serving="south", service="north"))
    assert (plan.service_at, plan.prepare_at) == ("north", "")
    assert "it is there" in plan.reason


@pytest.mark.parametrize(("eta_s", "service"), [(9.99, "north"), (10.0, "south")])
def test_the_threshold_itself_is_long_enough(eta_s, service):
    plan = PM_OP.plan(view(("west", 0.9, eta_s), serving="south", service="north"))
    assert plan.service_at == service


def test_cells_of_one_site_count_together():
    seen = (
        Candidate("a1", 0.3, 9.0), Candidate("b1", 0.4, 4.0), Candidate("a2", 0.3, 7.0),
        Candidate("a1", 0.2, 20.0, 2),
    )  # fmt: skip
    assert by_site(seen, lambda cell: cell[0]) == (
        Candidate("a", 0.6, 9.0), Candidate("b", 0.4, 4.0), Candidate("a", 0.2, 20.0, 2),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "prepared", "site"),
    [
        (Plan("", "", "", ""), "", ""),
        (Plan("a", "a", "", ""), "", ""),
        (Plan("a", "a", "b", ""), "", "b"),
        (Plan("a", "a", "b", ""), "b", ""),
        (Plan("b", "b", "c", ""), "", "b"),
        (Plan("b", "b", "c", ""), "b", "b"),
        (Plan("a", "x", "b", ""), "b", ""),
    ],
)
def test_what_is_to_be_done_next_about_a_service_at_a(plan, prepared, site):
    assert plan.next_site("a", prepared) == site
