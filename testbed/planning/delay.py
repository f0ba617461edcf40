"""How long a task takes from end to end: Ngo's four delays (IV.A, equation 4).

processing
    Measured at the present server, by the ratio of the servers' speeds.
transmission
    The task over the narrower of radio link and wired path. The result's way back is left out: it
    is much smaller (as in the paper).
propagation
    The round trip between base station and server. That over the air is left out (as in the paper).
queueing
    What is measured beyond the other three. The paper takes it for the same before and after, so it
    falls out of equation 4; here it is carried along to give the whole delay. It therefore holds
    what the other three leave out, too: the radio's own delay, and the way back of a result.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from testbed.roads.arrays import Floats


@dataclass(frozen=True)
class Delay:
    """The four parts of a task's delay, seconds."""

    processing_s: float
    transmission_s: float
    propagation_s: float
    queueing_s: float = 0.0

    @property
    def network_s(self) -> float:
        """All but the processing."""
        return self.transmission_s + self.propagation_s + self.queueing_s

    @property
    def total_s(self) -> float:
        """From sending a task to having its result."""
        return self.processing_s + self.network_s


def processing_s(measured_s: ArrayLike, speed: ArrayLike, other_speed: ArrayLike) -> Floats:
    """``d_proc * C_s / C_s'``: a task on another server, seconds (Ngo, IV.A).

    Parameters
    ----------
    measured_s : float or array
        What it takes at a server with `speed`, seconds.
    speed, other_speed : float or array
        Computational power of that server, and of the other one.
    """
    return np.asarray(np.multiply(measured_s, speed) / np.asarray(other_speed, float))


def transmission_s(
    task_bytes: ArrayLike, radio_rate_bps: ArrayLike, wired_rate_bps: ArrayLike
) -> Floats:
    """``S / min(B_ub, B_bs)``: sending a task, seconds (Ngo, IV.A); infinite without a link."""
    rate_bps = np.minimum(radio_rate_bps, wired_rate_bps)
    with np.errstate(divide="ignore", invalid="ignore"):
        taken = 8 * np.asarray(task_bytes, float) / rate_bps
    return np.asarray(np.where(rate_bps > 0, taken, np.inf))


def queueing_s(measured_s: float, delay: Delay) -> float:
    """What a measured delay has beyond processing, transmission and propagation; at least 0.

    Parameters
    ----------
    measured_s : float
        From sending a task to having its result, seconds.
    delay : Delay
        The estimate for the same time and place; its own queueing is left out of account.
    """
    return max(0.0, measured_s - (delay.total_s - delay.queueing_s))


def estimate_delay(
    *,
    measured_processing_s: float,
    speed: float,
    other_speed: float,
    task_bytes: float,
    radio_rate_bps: float,
    wired_rate_bps: float,
    rtt_s: float,
    queueing_s: float = 0.0,
) -> Delay:
    """The delay of a user's tasks by some base station at some server.

    Parameters
    ----------
    measured_processing_s : float
        What a task takes at a server of `speed`, seconds.
    speed, other_speed : float
        Of the server where that was measured, and of the one that is asked about.
    task_bytes : float
        Size of a task.
    radio_rate_bps : float
        Between user and base station, bits per second: `RateTable.throughput_bps` of the RSSI.
    wired_rate_bps, rtt_s : float
        Between base station and server: bits per second, and round trip in seconds.
    queueing_s : float
        Carried along, seconds.
    """
    return Delay(
        processing_s=float(processing_s(measured_processing_s, speed, other_speed)),
        transmission_s=float(transmission_s(task_bytes, radio_rate_bps, wired_rate_bps)),
        propagation_s=rtt_s,
        queueing_s=queueing_s,
    )


def delay_change_s(here: Delay, there: Delay) -> float:
    """Ngo's equation 4: what a task gains by going there, seconds; below 0 if it loses.

    Both are delays then (at t'): `here` is the present base station and server.
    """
    return here.total_s - there.total_s
