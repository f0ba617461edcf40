"""The clock of a run: seconds since its start, on this machine and against other machines' clocks.

A live run goes at wall-clock speed. Long idle stretches of a trace may be skipped: the run's time
then jumps ahead of the wall's, and every jump is written down, so that epoch times from logs can
still be turned into times of the run.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

LONGEST_SLEEP_S = 0.5
"""A sleeping thread looks up this often, for another thread may have let the clock jump."""


class Clock(Protocol):
    """The time of a run: the wall's on live grounds, virtual in the model."""

    def now_s(self) -> float:
        """Seconds since the start of the run."""

    def sleep_until(self, time_s: float) -> float:
        """Wait until ``time_s`` of the run and return how late it has become, seconds."""

    def jump(self, skipped_s: float) -> None:
        """Let the run's time leap ahead."""


class Jump(NamedTuple):
    """At ``at_s`` of the run its time went ``skipped_s`` ahead, in no wall time."""

    at_s: float
    skipped_s: float


class ClockEstimate(NamedTuple):
    """How far another machine's clock is ahead of ours, seconds, and how sure that is."""

    offset_s: float
    uncertainty_s: float


def estimate_offset(samples: Sequence[tuple[float, float, float]]) -> ClockEstimate:
    """How far a remote clock is ahead of the local one.

    The exchange with the shortest round trip bounds the offset best: the remote reading was taken
    somewhere within it, so the error is at most half of it.

    Parameters
    ----------
    samples : sequence of (sent_s, remote_s, received_s)
        Local time of sending, the remote clock's reading, local time of receiving, in seconds.

    Raises
    ------
    ValueError
        If there is no sample, or an answer was received before it was asked for.
    """
    if not samples:
        raise ValueError("no clock samples to estimate an offset from; ask the host at least once")
    sent_s, remote_s, received_s = min(samples, key=lambda sample: sample[2] - sample[0])
    round_trip_s = received_s - sent_s
    if round_trip_s < 0:
        raise ValueError(
            f"a clock sample was received {-round_trip_s:.6f} s before it was sent; "
            "take both local times from the same clock"
        )
    return ClockEstimate(remote_s - (sent_s + received_s) / 2, round_trip_s / 2)


def run_time_s(
    epoch_s: float, started_epoch_s: float, jumps: Sequence[Mapping[str, float]] = ()
) -> float:
    """Time of the run at an epoch time.

    Parameters
    ----------
    epoch_s : float
        Seconds since 1970 on the controller's clock.
    started_epoch_s : float
        When the run started, from its manifest.
    jumps : sequence of mappings
        The manifest's ``clock_jumps``, each with ``at_s`` and ``skipped_s``, in order.
    """
    time_s = epoch_s - started_epoch_s
    for jump in jumps:
        if time_s <= jump["at_s"]:
            break
        time_s += jump["skipped_s"]
    return time_s


class RunClock:
    """The wall clock of one run, started when it is made.

    It ticks with the monotonic clock, so that a step of the wall clock does not shift the run;
    `wall_step_s` says how large such a step was.

    Parameters
    ----------
    wall, monotonic : callables without arguments returning seconds
        Where epoch and monotonic time come from.
    sleep : callable
        Waits for the given seconds.
    """

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._wall, self._monotonic, self._sleep = wall, monotonic, sleep
        self._lock = threading.Lock()
        self._jumps: tuple[Jump, ...] = ()
        self._skipped_s = 0.0
        self._started_s = monotonic()
        self.started_epoch_s = wall()

    def now_s(self) -> float:
        """Seconds since the start of the run, skipped ones included."""
        with self._lock:
            return self._monotonic() - self._started_s + self._skipped_s

    def epoch_s(self, time_s: float | None = None) -> float:
        """Epoch time at ``time_s`` of the run (now where absent); within a jump, the jump's."""
        left_s = self.now_s() if time_s is None else time_s
        skipped_s = sum(
            min(jump.skipped_s, left_s - jump.at_s) for jump in self.jumps if left_s > jump.at_s
        )
        return self.started_epoch_s + left_s - skipped_s

    def from_epoch_s(self, epoch_s: float) -> float:
        """Time of the run at an epoch time of this machine."""
        return run_time_s(epoch_s, self.started_epoch_s, self.clock_jumps())

    def sleep_until(self, time_s: float) -> float:
        """Wait until ``time_s`` of the run and return how late it has become, seconds."""
        while (left_s := time_s - self.now_s()) > 0:
            self._sleep(min(left_s, LONGEST_SLEEP_S))
        return -left_s

    def jump(self, skipped_s: float) -> None:
        """Let the run's time leap ahead; only while no migration and no request is in flight.

        Raises
        ------
        ValueError
            If the leap is not forward.
        """
        if not skipped_s > 0:
            raise ValueError(f"a clock jump of {skipped_s} s; time can only be skipped forward")
        with self._lock:
            at_s = self._monotonic() - self._started_s + self._skipped_s
            self._jumps = (*self._jumps, Jump(at_s, skipped_s))
            self._skipped_s += skipped_s

    @property
    def jumps(self) -> tuple[Jump, ...]:
        """Every jump so far, in order."""
        return self._jumps

    def clock_jumps(self) -> list[dict[str, float]]:
        """Every jump so far as the manifest stores it."""
        return [jump._asdict() for jump in self._jumps]

    def wall_step_s(self) -> float:
        """By how much the wall clock has been set forward since the start, seconds."""
        with self._lock:
            elapsed_s = self._monotonic() - self._started_s
        return self._wall() - self.started_epoch_s - elapsed_s
