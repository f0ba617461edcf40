import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import ScenarioError
from testbed.mobility.radio import received_dbm
from testbed.mobility.rates import BLUETOOTH_RADIO, BluetoothRates, WifiRates
from testbed.movement import Radio

TABLES = [
    *(
        WifiRates(standard, width, streams, short, 0.65)
        for standard, widths in (("802.11n", (20, 40)), ("802.11ac", (20, 40, 80, 160)))
        for width in widths
        for streams in (1, 2, 3, 4)
        for short in (False, True)
    ),
    BluetoothRates(),
]
levels = st.lists(st.floats(-120.0, 0.0), min_size=2, max_size=30)


@pytest.mark.parametrize(
    ("table", "mcs", "mbps", "from_dbm"),
    [
        # IEEE Std 802.11-2020: rates in tables 19-27 and 21-29 onwards, levels in 19-23 and 21-25.
        (WifiRates("802.11n", 20, 1), 0, 6.5, -82),
        (WifiRates("802.11n", 20, 1), 7, 65.0, -64),
        (WifiRates("802.11n", 40, 1), 7, 135.0, -61),
        (WifiRates("802.11n", 40, 4, short_guard=True), 7, 600.0, -61),
        (WifiRates("802.11n", 20, 2, short_guard=True), 4, 86.7, -70),
        (WifiRates("802.11ac", 20, 1), 8, 78.0, -59),
        (WifiRates("802.11ac", 20, 3), 9, 260.0, -57),
        (WifiRates("802.11ac", 40, 1), 9, 180.0, -54),
        (WifiRates("802.11ac", 80, 1, short_guard=True), 9, 433.3, -51),
        (WifiRates("802.11ac", 80, 2), 5, 468.0, -60),
        (WifiRates("802.11ac", 160, 2, short_guard=True), 9, 1733.3, -48),
    ],
)
def test_rates_and_levels_are_those_of_the_standard(table, mcs, mbps, from_dbm):
    assert table.mcs(from_dbm) == mcs
    assert table.phy_rate_bps(from_dbm) / 1e6 == pytest.approx(mbps, abs=0.05)
    assert table.mcs(from_dbm - 0.01) < mcs


@pytest.mark.parametrize(
    ("table", "mcs"),
    [
        *((WifiRates("802.11ac", 20, streams), 9) for streams in (1, 2, 4)),
        (WifiRates("802.11ac", 80, 3), 6),
        (WifiRates("802.11ac", 160, 3), 9),
        (WifiRates("802.11n", 20, 1), 8),
    ],
)
def test_combinations_that_the_standard_leaves_out_are_not_used(table, mcs):
    assert mcs not in table.table["mcs"].tolist()
    assert len(table.table) == (8 if table.standard == "802.11n" else 9)


@given(table=st.sampled_from(TABLES), rssi=levels)
def test_a_stronger_signal_never_carries_less(table, rssi):
    rates = table.throughput_bps(np.sort(rssi))
    assert (np.diff(rates) >= 0).all()
    assert ((rates == 0) == (np.sort(rssi) < table.lowest_dbm)).all()


@given(rssi=levels)
def test_many_levels_at_once_give_what_each_gives_alone(rssi):
    table = WifiRates(width_mhz=80, streams=2)
    at_once = table.throughput_bps(np.array(rssi).reshape(-1, 1))
    assert at_once.shape == (len(rssi), 1)
    assert at_once[:, 0].tolist() == [float(table.throughput_bps(level)) for level in rssi]


def test_an_application_gets_the_stated_share():
    table = WifiRates(efficiency=0.5)
    assert table.throughput_bps(-60.0) == 0.5 * table.phy_rate_bps(-60.0)
    assert table.throughput_bps(-90.0) == 0.0
    assert table.mcs(-90.0) == -1


def test_a_scenario_s_radio_names_the_table():
    asked = {"standard": "802.11n", "width": 40, "streams": 2, "guard": "short"}
    table = WifiRates.from_radio(Radio(wifi={**asked, "efficiency": "60 %"}))
    assert table == WifiRates("802.11n", 40, 2, short_guard=True, efficiency=0.6)
    assert WifiRates.from_radio(Radio()) == WifiRates()
    assert "256-QAM 3/4" in WifiRates()._repr_html_()


def test_bluetooth_reaches_ten_metres():
    table = BluetoothRates()
    near, edge, beyond = (received_dbm(BLUETOOTH_RADIO, m) for m in (1.0, 9.99, 10.1))
    assert table.throughput_bps([near, edge, beyond]).tolist() == [2178.1e3, 723.2e3, 0.0]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"standard": "802.11ax"}, "there are: 802.11n, 802.11ac"),
        ({"standard": "802.11n", "width_mhz": 80}, "802.11n has 20, 40 MHz"),
        ({"streams": 5}, "1 to 4"),
        ({"efficiency": 0.0}, "above 0"),
    ],
)
def test_what_the_standard_does_not_have_is_refused(asked, words):
    with pytest.raises(ScenarioError, match=words):
        WifiRates(**asked)
