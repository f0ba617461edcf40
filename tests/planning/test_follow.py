import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.planning.follow import Nearest, Predictive
from testbed.planning.planner import Plan, SystemView
from testbed.prediction.predictor import Candidate

SITES = ["north", "south", "east", "west"]
sites = st.sampled_from(SITES)
candidates = st.lists(
    st.builds(
        Candidate,
        site=sites,
        probability=st.floats(0, 1),
        eta_s=st.floats(0, 120),
    ),
    max_size=5,
).map(lambda found: tuple(sorted(found, key=lambda c: -c.probability)))
views = st.builds(
    SystemView,
    user=st.just("alice"),
    serving_cell=sites,
    service_site=sites,
    candidates=candidates,
)
predictive = st.builds(Predictive, lead_s=st.floats(0, 60), certainty=st.floats(0, 1))
planners = st.one_of(st.just(Nearest()), predictive)


def view(*seen, serving="north", service="north"):
    return SystemView("alice", serving, service, tuple(Candidate(*one) for one in seen))


@given(planners, views)
def test_service_and_radio_belong_to_the_serving_cell(planner, seen):
    plan = planner.plan(seen)
    assert plan.service_at == plan.radio_at == seen.serving_cell
    assert plan.reason


@given(planners, views)
def test_the_same_view_gives_the_same_plan(planner, seen):
    assert planner.plan(seen) == planner.plan(seen)


@given(views)
def test_nearest_prepares_nothing(seen):
    assert Nearest().plan(seen).prepare_at == ""


@given(predictive, views)
def test_only_what_is_likely_near_and_elsewhere_is_prepared(planner, seen):
    ahead = planner.plan(seen).prepare_at
    if ahead:
        assert ahead != seen.serving_cell
        assert seen.service_site == seen.serving_cell
        best = next(c for c in seen.candidates if c.site != seen.serving_cell)
        assert ahead == best.site
        assert best.probability >= planner.certainty
        assert best.eta_s <= planner.lead_s


@given(views, st.floats(0, 60), st.floats(0, 1))
def test_more_lead_and_less_certainty_never_prepare_less(seen, lead_s, certainty):
    strict = Predictive(lead_s, certainty).plan(seen).prepare_at
    loose = Predictive(lead_s + 10, certainty * 0.9).plan(seen).prepare_at
    assert not strict or loose == strict


def test_the_best_candidate_is_prepared_when_it_is_near_and_likely():
    plan = Predictive(20, 0.5).plan(view(("south", 0.7, 12.4), ("east", 0.2, 3)))
    assert plan == Plan("north", "north", "south", "south in 12 s with 70%")


@pytest.mark.parametrize(
    ("candidate", "prepared"),
    [
        (("south", 0.5, 20.0), True),
        (("south", 0.499, 20.0), False),
        (("south", 0.5, 20.001), False),
        (("south", 1.0, 0.0), True),
    ],
)
def test_the_limits_themselves_are_enough(candidate, prepared):
    plan = Predictive(20, 0.5).plan(view(candidate))
    assert bool(plan.prepare_at) is prepared
    assert ("not yet" in plan.reason) is not prepared


def test_a_less_likely_candidate_is_never_taken_for_a_better_one():
    plan = Predictive(20, 0.3).plan(view(("south", 0.6, 25), ("east", 0.4, 5)))
    assert plan.prepare_at == ""
    assert "south in 25 s with 60%: not yet" in plan.reason


def test_the_serving_cell_itself_is_no_candidate():
    plan = Predictive(20, 0.1).plan(view(("north", 0.9, 1), ("south", 0.1, 5)))
    assert plan.prepare_at == "south"
    assert Predictive(20, 0.1).plan(view(("north", 0.9, 1))).reason == "no other site is in sight"


def test_before_anything_is_prepared_the_service_catches_up_with_the_radio():
    plan = Predictive(20, 0.5).plan(view(("east", 0.9, 5), serving="south", service="north"))
    assert plan == Plan("south", "south", "", "the radio has moved; the service follows")
