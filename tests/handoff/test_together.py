from dataclasses import replace

import pytest
from small_fleet import fleet, ngo_links, user

from testbed.errors import ScenarioError
from testbed.handoff.timing import Coordination, late
from testbed.handoff.together import handoff_durations, handoff_timings
from testbed.planning.fleet import FleetPlan, Placement

THERE = Placement("u", "bs-b", "b")
SOON = Coordination(0.0, 60.0, margin=0.0)


def plan(**places):
    return FleetPlan({name: Placement(name, *place) for name, place in places.items()})


def test_durations_by_hand():
    # 50 MB and 2.5 MB over 100 Mbit/s, 50 ms on the way each; checkpoints and restores take nothing
    found = handoff_durations(fleet(user()), THERE)
    assert found.pre_migration_s == pytest.approx(4.0 + 0.05)
    assert found.migration_s == pytest.approx(0.2 + 0.05)
    assert found.handover_s == 0.5


def test_half_of_the_link_takes_twice_as_long():
    found = handoff_durations(fleet(user()), THERE, 50e6)
    assert found.pre_migration_s == pytest.approx(8.05)
    assert found.migration_s == pytest.approx(0.45)


def test_what_is_not_needed_takes_no_time():
    of = fleet(user())
    radio_only = handoff_durations(of, replace(THERE, server="a"))
    assert (radio_only.pre_migration_s, radio_only.migration_s) == (0.0, 0.0)
    assert radio_only.handover_s == 0.5
    assert handoff_durations(of, replace(THERE, base_station="bs-a")).handover_s == 0.0


def test_a_plan_that_does_not_fit_the_fleet_is_refused():
    of = fleet(user())
    for wrong in ({"user": "x"}, {"base_station": "x"}, {"server": "x"}):
        with pytest.raises(ScenarioError, match="'x'"):
            handoff_durations(of, replace(THERE, **wrong))
    cut = tuple(link for link in ngo_links() if (link.source, link.target) != ("a", "b"))
    with pytest.raises(ScenarioError, match="no link"):
        handoff_durations(fleet(user(), links=cut), THERE)


def test_who_stays_needs_no_triggers():
    of = fleet(user("u"), user("v"), user("w"))
    found = handoff_timings(
        of, plan(u=("bs-a", "a"), v=("bs-b", "b"), w=("bs-b", "b")), {"u": SOON, "v": SOON}
    )
    assert list(found) == ["v"]


def test_two_users_on_one_link_begin_sooner_than_one():
    of = fleet(user("u"), user("v"))
    both = {"u": ("bs-b", "b"), "v": ("bs-b", "b")}
    when = {"u": SOON, "v": SOON}
    alone = handoff_timings(of, plan(u=both["u"], v=("bs-a", "a")), when)["u"]
    shared = handoff_timings(of, plan(**both), when)
    # Alone (0.5 - 0.25) / 2 after 60, less 4.05; with half the link (0.5 - 0.45) / 2, less 8.05
    assert alone.pre_migrate_at_s == pytest.approx(60.125 - 4.05)
    assert shared["u"].pre_migrate_at_s == pytest.approx(60.025 - 8.05)
    assert shared["v"] == shared["u"]
    assert shared["u"].downtime_s == pytest.approx(0.5)


def test_a_handover_alone_shares_nothing():
    of = fleet(user("u"), user("v"))
    found = handoff_timings(of, plan(u=("bs-b", "a"), v=("bs-b", "a")), {"u": SOON, "v": SOON})
    assert {timing.hand_over_at_s for timing in found.values()} == {60.0}
    assert {timing.downtime_s for timing in found.values()} == {0.5}


def test_another_variant_is_timed_in_its_own_way():
    found = handoff_timings(fleet(user()), plan(u=("bs-b", "b")), {"u": SOON}, late)["u"]
    assert found.variant == "late"
    assert found.migrate_at_s == pytest.approx(60.0 - 0.25)
