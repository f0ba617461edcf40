"""What a user's radio sees: signal strength of every base station, and when it changes over.

Log-distance path loss with log-normal shadowing that is correlated in space
(Gudmundson 1991: correlation falls exponentially with distance), and a handover by
relative signal strength with hysteresis that must hold for a time to trigger.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from testbed.movement import Radio
from testbed.roads.arrays import Floats
from testbed.roads.cells import Cells

_NEAREST_M = 1.0
_WAVES = 128


def received_dbm(radio: Radio, distance_m: float) -> float:
    """Mean received power at a distance, dBm; closer than 1 m counts as 1 m."""
    return radio.power - 10 * radio.exponent * math.log10(max(_NEAREST_M, distance_m))


@dataclass(frozen=True, eq=False)
class SignalModel:
    """Signal strength of the base stations at any place; the same place is always the same.

    Each base station has its own shadowing field over the plane, made of random waves whose
    lengths are drawn so that correlation falls as ``exp(-distance / correlation)``. So strengths
    depend on nothing but the place: not on how often or in which order one asks.

    Attributes
    ----------
    cells : Cells
        The base stations.
    radio : scenario.Radio
        Received power at 1 m, path-loss exponent, shadowing and its correlation distance.
    seed : int
        Decides the shadowing.
    heard : int
        So many nearest base stations are heard.
    """

    cells: Cells
    radio: Radio
    seed: int
    heard: int = 19

    @cached_property
    def _waves(self) -> tuple[Floats, Floats, Floats]:
        """Wave vectors in x and y (1/m) and phases (radians), each of shape (C, waves)."""
        generator = np.random.default_rng(self.seed)
        shape = (len(self.cells), _WAVES)
        # The spectrum of exp(-r/L) in the plane is (1 + k^2 L^2)^(-3/2); its radial distribution
        # 1 - (1 + k^2 L^2)^(-1/2) is inverted here.
        number = np.sqrt((1 - generator.random(shape)) ** -2 - 1) / self.radio.correlation
        direction = generator.random(shape) * 2 * np.pi
        phase = generator.random(shape) * 2 * np.pi
        return number * np.cos(direction), number * np.sin(direction), phase

    def measure(self, x_m: float, y_m: float) -> dict[str, float]:
        """RSSI of the base stations heard at a place, dBm, nearest first.

        Parameters
        ----------
        x_m, y_m : float
            The place on the map's plane, metres.
        """
        count = min(self.heard, len(self.cells))
        distance, index = self.cells.tree.query((x_m, y_m), k=range(1, count + 1))
        rssi = self.radio.power - 10 * self.radio.exponent * np.log10(
            np.maximum(_NEAREST_M, distance)
        )
        if self.radio.shadowing:
            east, north, phase = (wave[index] for wave in self._waves)
            shadow = np.sqrt(2 / _WAVES) * np.cos(east * x_m + north * y_m + phase).sum(axis=1)
            rssi = rssi + self.radio.shadowing * shadow
        names = self.cells.names
        return {names[i]: float(dbm) for i, dbm in zip(index.tolist(), rssi, strict=True)}


@dataclass(frozen=True)
class RadioState:
    """How a user is connected at one time.

    Attributes
    ----------
    serving : str
        The base station that serves, or to which the user is being handed over; empty for none.
    connected : bool
        Whether there is a link now.
    in_handover_until_s : float or None
        When the handover that is going on ends; ``None`` where none is.
    """

    serving: str
    connected: bool
    in_handover_until_s: float | None = None


@dataclass(eq=False)
class HandoverRule:
    """Relative signal strength with hysteresis (survey on mobility prediction; Ngo, V.A).

    A handover may take time, in which the user has no link (break before make; Ngo sets 500 ms).

    =========  ==========================================================  ==========
    state      what is seen                                                then
    =========  ==========================================================  ==========
    no cell    any base station                                            the strongest serves
    serving    none stronger by ``hysteresis_db``                          serving
    serving    one stronger by ``hysteresis_db``                           triggered by it
    triggered  the same no longer stronger by ``hysteresis_db``            serving
    triggered  it held for ``time_to_trigger_s``                           it serves
    serving,   the serving one is not seen any more                        the strongest serves
    triggered
    handover   less than ``handover_s`` since another began to serve       handover
    handover   ``handover_s`` passed                                       serving
    =========  ==========================================================  ==========

    Several may be triggered at once; of those due, the strongest wins. The first base station
    serves at once, every other one after a handover. While one is going on, nothing triggers.

    Attributes
    ----------
    hysteresis_db : float
        How much stronger another base station must be, dB.
    time_to_trigger_s : float
        For how long, seconds.
    serving : str
        The base station the user is connected to; empty before the first update.
    handover_s : float
        How long a handover takes, seconds.
    """

    hysteresis_db: float
    time_to_trigger_s: float
    serving: str = ""
    handover_s: float = 0.0
    _until_s: float = field(default=-math.inf, init=False, repr=False)
    _since_s: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_radio(cls, radio: Radio) -> "HandoverRule":
        """The rule a scenario asks for."""
        return cls(radio.hysteresis, radio.time_to_trigger, handover_s=radio.handover_time)

    def update(self, time_s: float, rssi_dbm: dict[str, float]) -> str:
        """Take in the strengths seen now, and tell which base station serves from now on.

        Parameters
        ----------
        time_s : float
            Now, seconds; must not go back.
        rssi_dbm : dict of str to float
            Strength of each base station seen; where none is seen, nothing changes.
        """
        if not rssi_dbm or time_s < self._until_s:
            return self.serving
        if self.serving not in rssi_dbm:
            return self._serve(time_s, _strongest(rssi_dbm))
        needed = rssi_dbm[self.serving] + self.hysteresis_db
        stronger = {
            cell: dbm for cell, dbm in rssi_dbm.items() if cell != self.serving and dbm > needed
        }
        self._since_s = {cell: self._since_s.get(cell, time_s) for cell in stronger}
        due = {
            cell: stronger[cell]
            for cell, since_s in self._since_s.items()
            if time_s - since_s >= self.time_to_trigger_s
        }
        return self._serve(time_s, _strongest(due)) if due else self.serving

    def observe(self, time_s: float, rssi_dbm: dict[str, float]) -> RadioState:
        """Take in the strengths seen now (see `update`), and tell how the user is connected."""
        self.update(time_s, rssi_dbm)
        return self.state(time_s)

    def state(self, time_s: float) -> RadioState:
        """How the user is connected at a time not before the last update, seconds."""
        if time_s < self._until_s:
            return RadioState(self.serving, connected=False, in_handover_until_s=self._until_s)
        return RadioState(self.serving, connected=bool(self.serving))

    def _serve(self, time_s: float, cell: str) -> str:
        if self.serving:
            self._until_s = time_s + self.handover_s
        self.serving = cell
        self._since_s = {}
        return cell


def _strongest(rssi_dbm: dict[str, float]) -> str:
    return max(sorted(rssi_dbm), key=lambda cell: rssi_dbm[cell])
