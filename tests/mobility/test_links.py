import numpy as np
import pytest

from testbed.errors import ScenarioError
from testbed.mobility.links import (
    AvailableLink,
    Cheapest,
    ConnectionManager,
    Fastest,
    Technology,
)
from testbed.mobility.radio import HandoverRule, SignalModel
from testbed.mobility.rates import BLUETOOTH_RADIO, BluetoothRates, WifiRates
from testbed.movement import Radio
from testbed.roads.cells import hexagonal_cells

WIFI_RADIO = Radio(power=-20.0, exponent=3.0, shadowing=0.0)
QUIET_BLUETOOTH = BLUETOOTH_RADIO.model_copy(update={"shadowing": 0.0})


@pytest.fixture(scope="module")
def cells(berlin):
    return hexagonal_cells(berlin, 100.0)


@pytest.fixture
def manager(cells):
    """Wi-Fi and Bluetooth at every base station; Bluetooth costs nothing."""

    def make(policy=None, *, handover_s=0.0, vertical_s=0.0):
        wifi = Technology(
            "wifi",
            SignalModel(cells, WIFI_RADIO, seed=1),
            WifiRates(),
            HandoverRule(3.0, 0.0, handover_s=handover_s),
            cost=1.0,
        )
        bluetooth = Technology(
            "bluetooth",
            SignalModel(cells, QUIET_BLUETOOTH, seed=2),
            BluetoothRates(),
            HandoverRule(3.0, 0.0, handover_s=handover_s),
        )
        return ConnectionManager((wifi, bluetooth), policy or Fastest(), vertical_s=vertical_s)

    return make


@pytest.fixture(scope="module")
def street(cells):
    """From one base station straight to a neighbour, a metre per second."""
    near = cells.tree.query((0.0, 0.0))[1]
    to = cells.tree.query((cells.x_m[near], cells.y_m[near]), k=2)[1][1]
    shares = np.linspace(0.0, 1.0, 101)
    ends = [(cells.x_m[i], cells.y_m[i], cells.names[i]) for i in (near, to)]
    (x0, y0, one), (x1, y1, other) = ends
    return one, other, list(zip(x0 + shares * (x1 - x0), y0 + shares * (y1 - y0), strict=True))


def drive(manager, way):
    return [manager.update(float(t), x, y) for t, (x, y) in enumerate(way)]


def test_one_view_lists_all_kinds_with_strength_rate_cost_and_margin(manager, street):
    one, _, way = street
    view = manager().update(0.0, *way[0])
    kinds = {link.kind for link in view.links}
    assert kinds == {"wifi", "bluetooth"}
    rates = [link.rate_bps for link in view.links]
    assert rates == sorted(rates, reverse=True)
    assert all(link.rate_bps > 0 and link.margin_db >= 0 for link in view.links)
    assert view.chosen.access_point == one
    assert (view.handoff, view.connected) == ("first", True)
    assert "bluetooth" in view._repr_html_()


def test_a_change_of_access_point_within_a_kind_is_horizontal_and_happens_once(manager, street):
    one, other, way = street
    views = drive(manager(handover_s=2.0), way)
    changes = [(t, v.handoff) for t, v in enumerate(views) if v.handoff != "none"]
    assert [kind for _, kind in changes] == ["first", "horizontal"]
    at = changes[1][0]
    assert 50 < at < 70
    assert [v.connected for v in views[at - 1 : at + 3]] == [True, False, False, True]
    assert (views[at - 1].chosen.access_point, views[at].chosen.access_point) == (one, other)


def test_leaving_bluetooth_s_range_is_a_vertical_handoff(manager, street):
    _, _, way = street
    views = drive(manager(Cheapest(needed_bps=100e3), vertical_s=3.0), way)
    changes = {t: v.handoff for t, v in enumerate(views) if v.handoff != "none"}
    assert list(changes.values()) == ["first", "vertical", "horizontal", "vertical"]
    _, away, _, back = changes
    assert [views[t].chosen.kind for t in (0, away, back)] == ["bluetooth", "wifi", "bluetooth"]
    assert 9 <= away <= 11
    assert 89 <= back <= 92
    assert [v.connected for v in views[away : away + 4]] == [False, False, False, True]
    assert views[away - 1].chosen.margin_db < 3.0 < views[0].chosen.margin_db


def test_noise_below_the_hysteresis_makes_nobody_go_to_and_fro(manager, street):
    _, _, way = street
    middle = way[50]
    chance = np.random.default_rng(4)
    changes = 0
    connection = manager()
    for t in range(500):
        x, y = np.array(middle) + chance.uniform(-2.0, 2.0, 2)
        changes += connection.update(float(t), x, y).handoff in {"horizontal", "vertical"}
    assert changes <= 1


def test_without_any_link_the_connection_is_lost_and_found_again(manager, street):
    _, _, way = street
    connection = manager()
    connection.update(0.0, *way[0])
    lost = connection.update(1.0, 1e6, 1e6)
    assert (lost.handoff, lost.chosen, lost.connected, lost.links) == ("lost", None, False, ())
    assert connection.update(2.0, 1e6, 1e6).handoff == "none"
    assert connection.update(3.0, *way[0]).handoff == "first"


def link(kind, rate_mbps, cost=0.0):
    return AvailableLink(kind, "a", -60.0, rate_mbps * 1e6, cost, 10.0)


def test_the_fastest_is_changed_to_only_where_it_is_faster_by_the_advantage():
    policy = Fastest(advantage=0.5)
    slow, little, much = link("a", 10), link("b", 14), link("b", 16)
    assert policy.choose([slow, little], slow) == slow
    assert policy.choose([slow, much], slow) == much
    assert policy.choose([slow, little], None) == little


def test_the_cheapest_that_carries_enough_is_chosen():
    policy = Cheapest(needed_bps=5e6, advantage=0.2)
    dear, cheap, weak = link("a", 100, cost=2), link("b", 7, cost=1), link("b", 5.5, cost=1)
    assert policy.choose([dear, cheap], dear) == cheap
    assert policy.choose([dear, weak], dear) == dear
    assert policy.choose([dear, weak], weak) == weak
    assert policy.choose([link("a", 2), link("b", 4)], None) == link("b", 4)


def test_kinds_are_named_once(manager):
    (wifi, _) = manager().technologies
    for kinds in ((), (wifi, wifi)):
        with pytest.raises(ScenarioError, match="name at least one, and each only once"):
            ConnectionManager(kinds)
