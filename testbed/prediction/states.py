"""What is known of a user's movement, gathered fix by fix into the state that predictors see."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from testbed.prediction.predictor import NAN, MovementState

RECENT_EDGES, RECENT_SITES, RECENT_RSSI = 12, 6, 12
RECENT_S = 60.0
RECENT_FIXES = 120
STANDING_MPS = 0.5
SMOOTH_S = 4.0
HEADING_M = 15.0
CRUISE_FIXES, CRUISE_S = 60, 120.0
NOWHERE: Mapping[str, float] = {}


@dataclass(eq=False)
class StateBuilder:
    """Gathers one user's fixes; every `update` gives the state at that fix.

    Attributes
    ----------
    user : str
        The user's name.
    """

    user: str
    _fixes: deque[tuple[float, float, float]] = field(default_factory=deque, repr=False)
    _edges: tuple[int, ...] = ()
    _sites: tuple[tuple[str, float], ...] = ()
    _rssi: tuple[tuple[float, Mapping[str, float]], ...] = ()
    _moving: deque[tuple[float, float]] = field(
        default_factory=lambda: deque(maxlen=CRUISE_FIXES), repr=False
    )

    def update(
        self,
        time_s: float,
        position_m: tuple[float, float],
        *,
        speed_mps: float = NAN,
        edge: int = -1,
        offset_m: float = 0.0,
        match_probability: float = 1.0,
        serving_site: str = "",
        rssi_dbm: Mapping[str, float] = NOWHERE,
    ) -> MovementState:
        """Take in the next fix.

        Parameters
        ----------
        time_s : float
            Its time, seconds; must not go back.
        position_m : (float, float)
            Its place on the map's plane, metres; not that of the match.
        speed_mps : float
            Its speed; ``nan`` where the source tells none: then that since the fix before.
        edge, offset_m, match_probability
            The online match; edge -1 where there is none.
        serving_site : str
            Where the user is connected now; empty where that is not known.
        rssi_dbm : mapping of str to float
            Strength of the base stations heard now, dBm.
        """
        fixes = self._fixes
        if fixes and time_s - fixes[-1][0] > RECENT_S:
            fixes.clear()
        fixes.append((time_s, *position_m))
        while fixes[0][0] < time_s - RECENT_S or len(fixes) > RECENT_FIXES:
            fixes.popleft()
        smooth_mps = self._smooth_mps()
        if math.isnan(speed_mps):
            speed_mps = 0.0 if math.isnan(smooth_mps) else smooth_mps
        if speed_mps > STANDING_MPS:
            self._moving.append((time_s, speed_mps))
        while self._moving and self._moving[0][0] < time_s - CRUISE_S:
            self._moving.popleft()
        if edge >= 0 and (not self._edges or self._edges[-1] != edge):
            self._edges = (*self._edges, edge)[-RECENT_EDGES:]
        if serving_site and (not self._sites or self._sites[-1][0] != serving_site):
            self._sites = (*self._sites, (serving_site, time_s))[-RECENT_SITES:]
        if rssi_dbm:
            self._rssi = (*self._rssi, (time_s, rssi_dbm))[-RECENT_RSSI:]
        moving = [speed for _, speed in self._moving]
        return MovementState(
            user=self.user,
            edge=edge,
            offset_m=offset_m,
            speed_mps=speed_mps,
            match_probability=match_probability,
            serving_site=serving_site,
            recent_edges=self._edges,
            cruise_mps=sum(moving) / len(moving) if moving else NAN,
            smooth_mps=smooth_mps,
            progress_mps=self._progress_mps(),
            heading_deg=self._heading_deg(),
            fixes=tuple(fixes),
            recent_sites=self._sites,
            recent_rssi=self._rssi,
        )

    def _smooth_mps(self) -> float:
        """Speed over the last few seconds, straight; ``nan`` at the first fix."""
        fixes = self._fixes
        now_s, x_m, y_m = fixes[-1]
        for i in range(len(fixes) - 2, -1, -1):
            then_s, then_x, then_y = fixes[i]
            if now_s - then_s >= SMOOTH_S or (i == 0 and now_s > then_s):
                return math.hypot(x_m - then_x, y_m - then_y) / (now_s - then_s)
        return NAN

    def _heading_deg(self) -> float:
        """Direction from where the user was some way back; ``nan`` while it hardly moved."""
        _, x_m, y_m = self._fixes[-1]
        for _, then_x, then_y in reversed(self._fixes):
            east, north = x_m - then_x, y_m - then_y
            if east * east + north * north >= HEADING_M**2:
                return math.degrees(math.atan2(east, north)) % 360.0
        return NAN

    def _progress_mps(self) -> float:
        """Speed over all recent fixes with stops, along chords that noise does not lengthen."""
        fixes = self._fixes
        elapsed_s = fixes[-1][0] - fixes[0][0]
        if elapsed_s <= SMOOTH_S:
            return NAN
        way_m, (last_s, last_x, last_y) = 0.0, fixes[0]
        for time_s, x_m, y_m in fixes:
            if time_s - last_s >= SMOOTH_S or time_s == fixes[-1][0]:
                way_m += math.hypot(x_m - last_x, y_m - last_y)
                last_s, last_x, last_y = time_s, x_m, y_m
        return way_m / elapsed_s
