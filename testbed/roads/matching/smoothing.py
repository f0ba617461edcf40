"""How noisy the fixes of a trace are, and where the user more likely was (compiled).

A Kalman filter with constant velocity and white-noise acceleration on the plane, and the
Rauch-Tung-Striebel smoother behind it (Bar-Shalom, Li and Kirubarajan 2001, sections 6.2.2 and
8.6). It takes the noise out of fixes that follow each other fast, and leaves sparse ones alone.
"""

from typing import Any

import numpy as np

from testbed.roads.arrays import Floats
from testbed.roads.matching.compiled import compiled

LONGEST_S = 20.0
"""Over longer gaps nothing is smoothed, seconds."""
OUTLIER = 4.0
"""An innovation of so many standard deviations is an outlier, and believed only so far."""


@compiled
def smooth(time_s: Any, x_m: Any, y_m: Any, breaks: Any, variance: float, unrest: float) -> Any:
    """Smoothed positions (K, 2) and the variance of each (K,), square metres.

    Parameters
    ----------
    time_s, x_m, y_m : numpy.ndarray, shape (K,)
        Fixes; time grows.
    breaks : numpy.ndarray of bool, shape (K,)
        Where the user is somewhere else at once; nothing is smoothed across.
    variance : float
        Of the noise on each axis, square metres.
    unrest : float
        Spectral density of the acceleration, m²/s³.
    """
    count = len(time_s)
    at, rest = np.empty((count, 2)), np.empty(count)
    if count == 0:
        return at, rest
    state, ahead = np.zeros((count, 2, 2)), np.zeros((count, 2, 2))
    cover, cover_ahead = np.empty((count, 3)), np.empty((count, 3))
    for k in range(count):
        if k == 0 or breaks[k] or time_s[k] - time_s[k - 1] > LONGEST_S:
            ahead[k, 0, 0], ahead[k, 1, 0] = x_m[k], y_m[k]
            pp, pv, vv = 1e6, 0.0, 400.0
        else:
            dt = time_s[k] - time_s[k - 1]
            pp, pv, vv = cover[k - 1, 0], cover[k - 1, 1], cover[k - 1, 2]
            pp = pp + 2.0 * dt * pv + dt * dt * vv + unrest * dt * dt * dt / 3.0
            pv = pv + dt * vv + unrest * dt * dt / 2.0
            vv = vv + unrest * dt
            for axis in range(2):
                ahead[k, axis, 0] = state[k - 1, axis, 0] + dt * state[k - 1, axis, 1]
                ahead[k, axis, 1] = state[k - 1, axis, 1]
        cover_ahead[k, 0], cover_ahead[k, 1], cover_ahead[k, 2] = pp, pv, vv
        off_x, off_y = x_m[k] - ahead[k, 0, 0], y_m[k] - ahead[k, 1, 0]
        noise = variance
        unlikely = (off_x * off_x + off_y * off_y) / (pp + variance)
        if unlikely > OUTLIER * OUTLIER:
            noise = variance * unlikely / (OUTLIER * OUTLIER)
        total = pp + noise
        gain_p, gain_v = pp / total, pv / total
        state[k, 0, 0] = ahead[k, 0, 0] + gain_p * off_x
        state[k, 1, 0] = ahead[k, 1, 0] + gain_p * off_y
        state[k, 0, 1] = ahead[k, 0, 1] + gain_v * off_x
        state[k, 1, 1] = ahead[k, 1, 1] + gain_v * off_y
        cover[k, 0] = (1.0 - gain_p) * pp
        cover[k, 1] = (1.0 - gain_p) * pv
        cover[k, 2] = vv - gain_v * pv
    for axis in range(2):
        at[count - 1, axis] = state[count - 1, axis, 0]
    rest[count - 1] = cover[count - 1, 0]
    late = state[count - 1].copy()
    lpp, lpv, lvv = cover[count - 1, 0], cover[count - 1, 1], cover[count - 1, 2]
    for k in range(count - 2, -1, -1):
        if breaks[k + 1] or time_s[k + 1] - time_s[k] > LONGEST_S:
            late = state[k].copy()
            lpp, lpv, lvv = cover[k, 0], cover[k, 1], cover[k, 2]
            at[k, 0], at[k, 1], rest[k] = late[0, 0], late[1, 0], lpp
            continue
        dt = time_s[k + 1] - time_s[k]
        pp, pv, vv = cover[k, 0], cover[k, 1], cover[k, 2]
        app, apv, avv = cover_ahead[k + 1, 0], cover_ahead[k + 1, 1], cover_ahead[k + 1, 2]
        # The gain is the cover times the motion's transpose over the cover ahead.
        m00, m01, m10, m11 = pp + dt * pv, pv, pv + dt * vv, vv
        det = app * avv - apv * apv
        g00 = (m00 * avv - m01 * apv) / det
        g01 = (m01 * app - m00 * apv) / det
        g10 = (m10 * avv - m11 * apv) / det
        g11 = (m11 * app - m10 * apv) / det
        for axis in range(2):
            dp = late[axis, 0] - ahead[k + 1, axis, 0]
            dv = late[axis, 1] - ahead[k + 1, axis, 1]
            late[axis, 0] = state[k, axis, 0] + g00 * dp + g01 * dv
            late[axis, 1] = state[k, axis, 1] + g10 * dp + g11 * dv
            at[k, axis] = late[axis, 0]
        d00, d01, d11 = lpp - app, lpv - apv, lvv - avv
        npp = pp + g00 * (g00 * d00 + g01 * d01) + g01 * (g00 * d01 + g01 * d11)
        npv = pv + g00 * (g10 * d00 + g11 * d01) + g01 * (g10 * d01 + g11 * d11)
        nvv = vv + g10 * (g10 * d00 + g11 * d01) + g11 * (g10 * d01 + g11 * d11)
        lpp, lpv, lvv = npp, npv, nvv
        rest[k] = max(lpp, 0.0)
    return at, rest


@compiled
def thin(at: Any, step_m: Any, breaks: Any) -> Any:
    """Indices of the fixes that lie at least their ``step_m`` from the kept one before.

    Where the trace ``breaks``, the fixes before and after are kept. The last fix is always kept;
    one that was kept less than half a step before makes room for it.
    """
    kept = np.empty(len(at), np.int64)
    count = 0
    for k in range(len(at)):
        if count and not breaks[k] and not (k + 1 < len(at) and breaks[k + 1]):
            last = kept[count - 1]
            away = np.hypot(at[k, 0] - at[last, 0], at[k, 1] - at[last, 1])
            if away < step_m[k]:
                continue
        kept[count] = k
        count += 1
    end = len(at) - 1
    if count and kept[count - 1] < end:
        last = kept[count - 1]
        away = np.hypot(at[end, 0] - at[last, 0], at[end, 1] - at[last, 1])
        if away < 0.5 * step_m[end] and count > 1 and not breaks[last]:
            count -= 1
        if away >= 0.5 * step_m[end] or count >= 1:
            kept[count] = end
            count += 1
    return kept[:count].copy()


@compiled
def jumps(time_s: Any, x_m: Any, y_m: Any, top_speed_mps: float, slack_m: float) -> Any:
    """Where fixes leave faster than anybody drives and stay away (a lone outlier is none)."""
    count = len(time_s)
    found = np.zeros(count, np.bool_)
    last = 0
    for k in range(1, count):
        away = np.hypot(x_m[k] - x_m[last], y_m[k] - y_m[last])
        if away > top_speed_mps * (time_s[k] - time_s[last]) + slack_m:
            if k + 1 < count:
                back = np.hypot(x_m[k + 1] - x_m[last], y_m[k + 1] - y_m[last])
                if back <= top_speed_mps * (time_s[k + 1] - time_s[last]) + slack_m:
                    continue
            found[k] = True
        last = k
    return found


def white_noise_m(time_s: Floats, x_m: Floats, y_m: Floats, *, least: int = 8) -> float:
    """Standard deviation of the noise on each axis, or NaN where fixes are too far apart in time.

    From third differences of the positions, in which steady driving cancels out: of white noise
    with variance v they have the variance 20 v. The median keeps outliers out. With fewer than
    ``least`` steps in time nothing is said.
    """
    step_s = np.diff(time_s)
    if len(step_s) < least:
        return float("nan")
    usual_s = float(np.median(step_s))
    even = np.abs(step_s - usual_s) < 0.2 * usual_s
    whole = even[:-2] & even[1:-1] & even[2:]
    if usual_s > LONGEST_STEP_S or 2 * whole.sum() < least:
        return float("nan")
    size = np.abs(np.concatenate((np.diff(x_m, 3)[whole], np.diff(y_m, 3)[whole])))
    return float(np.median(size) / 0.6745 / 20.0**0.5)


LONGEST_STEP_S = 3.0
