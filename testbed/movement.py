"""What a scenario says about how users move and what their radio is like.

The words of `testbed.scenario` for `users.NAME.trace` and `radio`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from testbed.units import Duration, Length, Share, Speed


class Part(BaseModel):
    """A piece of a scenario file: it does not change, and knows all its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Box(Part):
    """A piece of the map, in degrees."""

    west: float
    south: float
    east: float
    north: float


class Point(Part):
    """A place on earth, in degrees (WGS 84)."""

    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)


class Wifi(Part):
    """Rates of the radio link by signal strength (`testbed.mobility.rates.WifiRates`).

    width : of the channel, MHz. streams : spatial ones. efficiency : share of the physical rate
    that an application gets.
    """

    standard: Literal["802.11n", "802.11ac"] = "802.11ac"
    width: Literal[20, 40, 80, 160] = 20
    streams: int = Field(default=1, ge=1, le=4)
    guard: Literal["long", "short"] = "long"
    efficiency: Share = Field(default=0.65, gt=0)

    @model_validator(mode="after")
    def _width_of_the_standard(self) -> "Wifi":
        if self.standard == "802.11n" and self.width > _WIDEST_802_11N_MHZ:
            raise ValueError(f"802.11n has no channels of {self.width} MHz; use 20 or 40")
        return self


class Radio(Part):
    """Log-distance path loss with shadowing, and a relative-RSSI handover rule.

    power : received power at 1 m, dBm.
    exponent : path-loss exponent.
    shadowing : standard deviation, dB; ``correlation`` is the distance over which it decays.
    hysteresis : how much stronger the next base station must be, dB, for ``time_to_trigger``.
    handover_time : how long a handover leaves the user without a link (Ngo, V.A: 500 ms).
    """

    power: float = -30.0
    exponent: float = Field(default=3.5, gt=0)
    shadowing: float = Field(default=2.0, ge=0)
    correlation: Length = 50.0
    hysteresis: float = Field(default=3.0, ge=0)
    time_to_trigger: Duration = 1.0
    handover_time: Duration = 0.0
    wifi: Wifi = Wifi()


class SumoTrip(Part):
    """A trip that SUMO drives through the scenario's map (``randomTrips``, ``duarouter``).

    seed : of this trip, so that several users take different ones; absent means the scenario's.
    """

    source: Literal["sumo"]
    speed_factor: float = Field(default=1.0, gt=0)
    minimum_distance: Length = 1000.0
    seed: int | None = None


class GeoLifeTrack(Part):
    """A labelled piece of a GeoLife 1.3 user's track.

    user : the data set's three-digit user. mode : ``car``, ``bus``... as in ``labels.txt``.
    file : the ``.plt`` file's stem; absent means the user's longest track in that mode on the map.
    """

    source: Literal["geolife"]
    user: str
    mode: str | None = None
    file: str | None = None
    skip_idle: Duration | None = None


class _Made(Part):
    """A trace that is made: how long it lasts (absent: the scenario's duration), fix by fix."""

    duration: Duration | None = Field(default=None, gt=0)
    step: Duration = Field(default=1.0, gt=0)


class RoundTrip(_Made):
    """Ngo's virtual mobile user (V.A): from one point to another and back, at constant speed.

    along : ``roads`` follows the map's, ``plane`` goes straight.
    """

    source: Literal["round-trip"]
    start: Point
    end: Point
    speed: Speed = 1.0
    along: Literal["roads", "plane"] = "roads"


class RandomWaypoint(_Made):
    """Straight to a random point at a random speed, a pause, and on.

    speed, pause : least and most. box : where; absent means the whole map.
    start : ``stationary`` begins as found long after, ``uniform`` at a random point.
    """

    source: Literal["random-waypoint"]
    speed: tuple[Speed, Speed] = (0.5, 1.5)
    pause: tuple[Duration, Duration] = (0.0, 60.0)
    box: Box | None = None
    start: Literal["stationary", "uniform"] = "stationary"

    @model_validator(mode="after")
    def _least_first(self) -> "RandomWaypoint":
        for name in ("speed", "pause"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name} from {least:g} to {most:g}: name the least first")
        return self


class RandomWalk(_Made):
    """From cell to cell by chance, one move per slot (the survey's Markov decision processes).

    lattice : ``line`` moves ``right`` (towards ``heading``) or ``left`` with these probabilities;
    ``hexagonal`` to ``each`` of six neighbours. rings : never farther from the start than so many
    cells. start : absent means the middle of the map, where cells of the same size have a centre.
    """

    source: Literal["random-walk"]
    lattice: Literal["line", "hexagonal"] = "hexagonal"
    slot: Duration = Field(default=60.0, gt=0)
    right: Share | None = None
    left: Share | None = None
    each: Share | None = None
    heading: float | None = None
    rings: int | None = Field(default=3, ge=1)
    start: Point | None = None

    @model_validator(mode="after")
    def _keys_of_the_lattice(self) -> "RandomWalk":
        other = ("each",) if self.lattice == "line" else ("right", "left", "heading")
        for name in other:
            if getattr(self, name) is not None:
                raise ValueError(f"{name} has no meaning on a {self.lattice} lattice; leave it out")
        right, left = self.sideways
        if right + left > 1 + _ROUNDING:
            raise ValueError(f"right and left are {right:g} and {left:g}; together at most 1")
        if self.outward > 1 / 6 + _ROUNDING:
            raise ValueError(f"each is {self.outward:g}; six of them are at most 1")
        return self

    @property
    def sideways(self) -> tuple[float, float]:
        """Probabilities of a move to the right and to the left; a half each where not named."""
        right = 0.5 if self.right is None else self.right
        return right, (min(0.5, 1 - right) if self.left is None else self.left)

    @property
    def outward(self) -> float:
        """Probability of a move to each of six neighbours; a seventh where not named."""
        return 1 / 7 if self.each is None else self.each


_WIDEST_802_11N_MHZ = 40
_ROUNDING = 1e-9

TraceSpec = Annotated[
    SumoTrip | GeoLifeTrack | RoundTrip | RandomWaypoint | RandomWalk,
    Field(discriminator="source"),
]
"""Every kind of ``users.NAME.trace``."""
