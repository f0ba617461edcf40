"""What a link of some strength carries: IEEE 802.11n and 802.11ac, and Bluetooth.

A receiver may use the highest modulation and coding scheme (MCS) whose *minimum sensitivity* its
signal reaches: the level at which at most one packet in ten is lost (IEEE Std 802.11-2020, tables
19-23 for 802.11n and 21-25 for 802.11ac). Below the lowest there is no link. So a rate is a step
function of the received power, as Ngo (IV.A) reads it from such a table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from testbed.errors import ScenarioError
from testbed.movement import Radio, Wifi
from testbed.roads.arrays import Floats, Ints

_SYMBOL_S = 3.2e-6
_LONG_S, _SHORT_S = 0.8e-6, 0.4e-6
_SUBCARRIERS: Mapping[int, int] = MappingProxyType({20: 52, 40: 108, 80: 234, 160: 468})
"""Channel width in MHz to subcarriers that carry data (HT and VHT)."""
_WIDEST_MHZ: Mapping[str, int] = MappingProxyType({"802.11n": 40, "802.11ac": 160})
_SCHEMES = (
    ("BPSK 1/2", 1, 1 / 2, -82), ("QPSK 1/2", 2, 1 / 2, -79), ("QPSK 3/4", 2, 3 / 4, -77),
    ("16-QAM 1/2", 4, 1 / 2, -74), ("16-QAM 3/4", 4, 3 / 4, -70), ("64-QAM 2/3", 6, 2 / 3, -66),
    ("64-QAM 3/4", 6, 3 / 4, -65), ("64-QAM 5/6", 6, 5 / 6, -64), ("256-QAM 3/4", 8, 3 / 4, -59),
    ("256-QAM 5/6", 8, 5 / 6, -57),
)  # fmt: skip
"""By MCS: name, bits per subcarrier, code rate, and least level in dBm at 20 MHz."""
_PER_DOUBLING_DB = 3
"""Each doubling of the width takes in twice the noise."""
_HT_SCHEMES = 8
_LEFT_OUT = frozenset({(20, 1, 9), (20, 2, 9), (20, 4, 9), (80, 3, 6), (160, 3, 9)})
"""Width, streams and MCS that 802.11ac leaves out (tables 21-29 to 21-60)."""


class RateTable(Protocol):
    """Something that turns received power into throughput."""

    @property
    def lowest_dbm(self) -> float:
        """The level below which there is no link, dBm."""

    def throughput_bps(self, rssi_dbm: ArrayLike) -> Floats:
        """What an application gets, bits per second, in the argument's shape; 0: no link."""


@dataclass(frozen=True)
class WifiRates:
    """Rates of IEEE 802.11n (HT) or 802.11ac (VHT).

    Attributes
    ----------
    standard : str
        ``802.11n`` (20 or 40 MHz, MCS 0 to 7 of each stream) or ``802.11ac`` (20 to 160 MHz,
        MCS 0 to 9).
    width_mhz : int
        The channel's width, MHz.
    streams : int
        Spatial streams, 1 to 4.
    short_guard : bool
        Guard interval of 400 ns instead of 800 ns.
    efficiency : float
        Share of the physical rate that an application gets. The rest goes into preambles, waiting,
        acknowledgements and headers; 0.65 is assumed for a lone station with aggregated frames.
    """

    standard: str = "802.11ac"
    width_mhz: int = 20
    streams: int = 1
    short_guard: bool = False
    efficiency: float = 0.65

    def __post_init__(self) -> None:
        """Refuse what the standard does not have."""
        widest = _WIDEST_MHZ.get(self.standard)
        if widest is None:
            raise ScenarioError(
                f"wifi standard {self.standard!r}: unknown; there are: {', '.join(_WIDEST_MHZ)}"
            )
        if self.width_mhz not in _SUBCARRIERS or self.width_mhz > widest:
            widths = ", ".join(str(w) for w in _SUBCARRIERS if w <= widest)
            raise ScenarioError(
                f"wifi width of {self.width_mhz} MHz: {self.standard} has {widths} MHz"
            )
        if self.streams not in range(1, 5):
            raise ScenarioError(f"{self.streams} spatial streams: there are 1 to 4")
        if not 0 < self.efficiency <= 1:
            raise ScenarioError(f"an efficiency of {self.efficiency}: above 0, at most 1")

    @classmethod
    def from_radio(cls, radio: Radio) -> "WifiRates":
        """The table a scenario asks for."""
        wifi: Wifi = radio.wifi
        return cls(wifi.standard, wifi.width, wifi.streams, wifi.guard == "short", wifi.efficiency)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per MCS in use: ``mcs, scheme, least_dbm, phy_rate_bps, throughput_bps``."""
        symbol_s = _SYMBOL_S + (_SHORT_S if self.short_guard else _LONG_S)
        wider_db = _PER_DOUBLING_DB * int(np.log2(self.width_mhz // 20))
        rows = []
        for mcs, (scheme, bits, code_rate, least_dbm) in enumerate(_SCHEMES):
            if self.standard == "802.11n" and mcs >= _HT_SCHEMES:
                continue
            if self.standard == "802.11ac" and (self.width_mhz, self.streams, mcs) in _LEFT_OUT:
                continue
            per_symbol = _SUBCARRIERS[self.width_mhz] * bits * code_rate * self.streams
            rate = per_symbol / symbol_s
            rows.append((mcs, scheme, least_dbm + wider_db, rate, rate * self.efficiency))
        columns = ["mcs", "scheme", "least_dbm", "phy_rate_bps", "throughput_bps"]
        return pd.DataFrame(rows, columns=columns)

    @property
    def lowest_dbm(self) -> float:
        """The level below which there is no link, dBm."""
        return float(self.table["least_dbm"].iloc[0])

    def _row(self, rssi_dbm: ArrayLike) -> Ints:
        levels = self.table["least_dbm"].to_numpy(dtype=float)
        return np.asarray(np.searchsorted(levels, np.asarray(rssi_dbm, float), side="right") - 1)

    def mcs(self, rssi_dbm: ArrayLike) -> Ints:
        """MCS (of each stream) in use at a received power, in the argument's shape; -1: none."""
        row = self._row(rssi_dbm)
        return np.where(row < 0, -1, self.table["mcs"].to_numpy()[row])

    def phy_rate_bps(self, rssi_dbm: ArrayLike) -> Floats:
        """Rate on the air, bits per second, in the argument's shape; 0 where there is no link."""
        row = self._row(rssi_dbm)
        return np.where(row < 0, 0.0, self.table["phy_rate_bps"].to_numpy()[row])

    def throughput_bps(self, rssi_dbm: ArrayLike) -> Floats:
        """What an application gets, bits per second, in the argument's shape; 0: no link."""
        return self.phy_rate_bps(rssi_dbm) * self.efficiency

    def _repr_html_(self) -> str:
        shown = self.table.assign(
            phy_rate_bps=self.table["phy_rate_bps"] / 1e6,
            throughput_bps=self.table["throughput_bps"] / 1e6,
        )
        shown.columns = pd.Index(["MCS", "scheme", "from dBm", "PHY Mbit/s", "throughput Mbit/s"])
        return str(shown.to_html(index=False, float_format=lambda value: f"{value:.1f}"))


BLUETOOTH_RADIO = Radio(power=-36.0, exponent=3.4)
"""Path loss of a Bluetooth device of power class 2: 4 dBm sent, 40 dB lost over the first metre at
2.4 GHz; indoors its signal falls to the -70 dBm a receiver must hear after 10 m, the range that
class is known for."""


@dataclass(frozen=True)
class BluetoothRates:
    """Rates of Bluetooth BR/EDR for data in one direction (Bluetooth Core Specification, vol. 2).

    A receiver must hear -70 dBm (part A, 4.1). The faster modulations of EDR need 13 and 21 dB over
    a disturber where the basic rate needs 11 dB (part A, 4.2), so they begin 2 and 10 dB higher.
    Rates are those of the five-slot packets DH5, 2-DH5 and 3-DH5 (part B, 6.7), headers taken off.
    """

    @property
    def lowest_dbm(self) -> float:
        """The level below which there is no link, dBm."""
        return _BLUETOOTH[0][0]

    def throughput_bps(self, rssi_dbm: ArrayLike) -> Floats:
        """What an application gets, bits per second, in the argument's shape; 0: no link."""
        levels, rates = np.array(_BLUETOOTH).T
        row = np.searchsorted(levels, np.asarray(rssi_dbm, float), side="right") - 1
        return np.where(row < 0, 0.0, rates[row])


_BLUETOOTH = ((-70.0, 723.2e3), (-68.0, 1448.5e3), (-60.0, 2178.1e3))
