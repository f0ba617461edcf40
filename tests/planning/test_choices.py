import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fleet import FAIR, GOOD, WEAK, fleet, fleets, ngo_links, user

from testbed.errors import ScenarioError
from testbed.handoff.durations import ContainerSize, HostFactors, estimate_durations
from testbed.planning.choices import (
    expected_delay,
    migration_times_s,
    reachable_choices,
    without_dominated,
)
from testbed.planning.fleet import BaseStation, Fleet, Heard, Placement, Resources, Server
from testbed.scenario import Link


def table(choices):
    """What each choice is worth: base station and server to delay, gain and downtime."""
    names = zip(
        [choices.fleet.base_stations[b].name for b in choices.base_station],
        [choices.fleet.servers[s].name for s in choices.server],
        strict=True,
    )
    values = zip(choices.delay_s, choices.gain_s, choices.downtime_s, strict=True)
    return dict(zip(names, values, strict=True))


def test_terms_of_equations_1_and_2_by_hand():
    found = table(reachable_choices(fleet(user())))
    # Then bs-a is heard at -75 dBm (10 Mbit/s) and bs-b at -60 dBm (50 Mbit/s); 1e6 bits take 0.1 s
    # by bs-a. By bs-b they take 0.02 s. Container: 8 * 2.5e6 / 100e6 + 0.05 = 0.25 s of migration
    # between edges, 20e6 / 75e6 + 0.15 = 0.416667 s to the cloud.
    assert found["bs-a", "a"] == pytest.approx((0.2 + 0.1, 0.0, 0.0))
    assert found["bs-a", "b"] == pytest.approx((0.2 + 0.1 + 0.1, -1.0, 0.25))
    assert found["bs-b", "a"] == pytest.approx((0.2 + 0.02 + 0.1, -0.2, 0.5))
    assert found["bs-b", "b"] == pytest.approx((0.2 + 0.02, 0.8, 0.5))  # max(0.25, 0.5)
    assert found["bs-a", "cloud"] == pytest.approx((0.1 + 0.1 + 0.3, -2.0, 0.416667))
    assert found["bs-b", "cloud"] == pytest.approx((0.1 + 0.02 + 0.3, -1.2, 0.5))


def test_profit_weighs_downtime_against_delay():
    by_bs_b = reachable_choices(fleet(user()), weight=2.0).profit_s[-2]
    assert by_bs_b == pytest.approx(0.8 - 2 * 0.5)


@pytest.mark.parametrize("heard", [Heard(WEAK, GOOD), Heard(GOOD, WEAK)])
def test_what_is_weak_now_or_then_is_not_chosen(heard):
    found = table(reachable_choices(fleet(user(heard={"bs-a": Heard(GOOD, GOOD), "bs-b": heard}))))
    assert {station for station, _ in found} == {"bs-a"}


def test_a_base_station_that_is_lost_is_compared_at_the_slowest_rate():
    lost = {"bs-a": Heard(GOOD, WEAK), "bs-b": Heard(FAIR, GOOD)}
    found = table(reachable_choices(fleet(user(heard=lost))))
    # Here: 0.2 + 1e6 / 10e6; there: 0.2 + 1e6 / 50e6; ten tasks gain 0.8
    assert found["bs-b", "b"][1] == pytest.approx(0.8)


def test_a_level_that_carries_nothing_is_not_chosen():
    class Deaf(type(fleet().rates)):
        def throughput_bps(self, rssi_dbm):
            return np.where(np.asarray(rssi_dbm) >= FAIR + 1, 50e6, 0.0)

    of = fleet(user())
    found = reachable_choices(replace(of, rates=Deaf()))
    assert {of.base_stations[b].name for b in found.base_station} == {"bs-b"}
    assert np.isfinite(found.profit_s).all()


def test_where_no_link_leads_is_not_chosen():
    without = [link for link in ngo_links() if {link.source, link.target} != {"a", "b"}]
    assert {s for _, s in table(reachable_choices(fleet(user(), links=tuple(without))))} == {
        "a",
        "cloud",
    }
    one_way = [link for link in ngo_links() if (link.source, link.target) != ("b", "bs-b")]
    found = table(reachable_choices(fleet(user(), links=tuple(one_way))))
    assert ("bs-b", "b") not in found
    assert ("bs-a", "b") in found


def test_side_by_side_nothing_lies_between():
    stations = (BaseStation("a"), BaseStation("bs-b"))
    rate_bps, rtt_s = fleet(user(station="a"), stations=stations).wired
    assert (rate_bps[0, 0], rtt_s[0, 0]) == (math.inf, 0.0)
    # From one place to the other the link between the servers leads: there and back 50 ms each
    assert (rate_bps[0, 1], rtt_s[0, 1]) == (100e6, pytest.approx(0.1))


def test_an_unshaped_link_has_no_limit():
    link = Link(source="bs-a", target="a"), Link(source="a", target="bs-a", delay_s=0.01)
    rate_bps, rtt_s = fleet(links=link).wired
    assert rate_bps[0, 0] == math.inf
    assert rtt_s[0, 0] == pytest.approx(0.01)


def test_migration_times_are_equation_5_s():
    servers = (
        Server("a", 1000.0, factors=HostFactors(2e-6, 9.0)),
        Server("b", 500.0, factors=HostFactors(9.0, 3e-6)),
        Server("cloud", 2000.0, factors=HostFactors(9.0, 1e-6), cloud=True),
    )
    size = ContainerSize(100e6, 50e6, 2.5e6)
    found = migration_times_s(fleet(replace(user(), container=size), servers=servers))
    expected = estimate_durations(
        size, source=servers[0].factors, source_speed=1000.0, target=servers[1].factors,
        target_speed=500.0, rate_bps=100e6, delay_s=0.05, handover_s=0.5,
    )  # fmt: skip
    # 2e-6 * 100e6 / 1000 + (8 * 2.5e6 / 100e6 + 0.05) + 3e-6 * 152.5e6 / 500 = 0.2 + 0.25 + 0.915
    assert expected.migration_s == pytest.approx(1.365)
    assert found[0] == pytest.approx([0.0, 1.365, 0.2 + 20 / 75 + 0.15 + 1e-6 * 152.5e6 / 2000])


@settings(max_examples=50)
@given(of=st.one_of(fleets(), fleets(feasible=True)))
def test_one_delay_asked_for_alone_is_that_of_the_choice(of):
    choices = reachable_choices(of)
    for row, delay_s in enumerate(choices.delay_s):
        place = Placement(
            of.users[choices.user[row]].name,
            of.base_stations[choices.base_station[row]].name,
            of.servers[choices.server[row]].name,
        )
        assert expected_delay(of, place).total_s == pytest.approx(delay_s)


def test_with_room_for_all_each_user_keeps_one_choice():
    kept = without_dominated(reachable_choices(fleet(user("u"), user("v", tasks=1000.0))))
    # Without scarcity only the best remains: to stay costs 0, to move gains 0.8 - 0.5
    assert [kept.fleet.servers[s].name for s in kept.server] == ["b", "b"]
    assert kept.user.tolist() == [0, 1]


def test_where_room_is_scarce_the_second_best_stays():
    full = Server("b", 1000.0, Resources(cores=1.0))
    servers = (*fleet().servers[:1], full, *fleet().servers[2:])
    needs = Resources(cores=1.0)
    kept = without_dominated(
        reachable_choices(fleet(user("u", needs=needs), user("v", needs=needs), servers=servers))
    )
    assert {kept.fleet.servers[s].name for s in kept.server} == {"a", "b"}


@settings(max_examples=150)
@given(of=st.one_of(fleets(), fleets(feasible=True)))
def test_every_choice_that_was_left_out_has_a_better_one_in_its_stead(of):
    choices = reachable_choices(of)
    kept = without_dominated(choices)
    rows = {
        (u, b, s): profit
        for u, b, s, profit in zip(
            choices.user, choices.base_station, choices.server, choices.profit_s, strict=True
        )
    }
    left = set(zip(kept.user, kept.base_station, kept.server, strict=True))
    roomy_station = ~choices.tight_stations
    roomy_server = ~choices.tight_resources.any(axis=1)
    for (u, b, s), profit in rows.items():
        assert (u, b, s) in left or any(
            rows[other] >= profit
            for other in left
            if other[0] == u
            and (other[1] == b or roomy_station[other[1]])
            and (other[2] == s or roomy_server[other[2]])
        )


def test_nobody_has_no_choices():
    nobody = Fleet((), fleet().base_stations, fleet().servers, ngo_links(), fleet().rates)
    assert len(without_dominated(reachable_choices(nobody))) == 0
    assert np.isfinite(reachable_choices(nobody).profit_s).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: fleet(user("u"), user("u")), "users: u twice"),
        (lambda: fleet(user(server="elsewhere")), "no server"),
        (lambda: fleet(user(station="elsewhere")), "no base station"),
        (lambda: fleet(servers=(Server("a", 0.0),)), "speed of 0"),
    ],
)
def test_a_fleet_that_cannot_be_is_refused(wrong, said):
    with pytest.raises(ScenarioError, match=said):
        wrong()
