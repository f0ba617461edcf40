"""Waking on time: a timer accurate to microseconds, and the kernel's leave to be prompt."""

import contextlib
import ctypes
import os
import time

from testbed.errors import LabError

_PR_SET_TIMERSLACK = 29
_TFD_NONBLOCK, _TFD_CLOEXEC, _TFD_TIMER_ABSTIME = os.O_NONBLOCK, os.O_CLOEXEC, 1
_libc = ctypes.CDLL(None, use_errno=True)


class Timer:
    """A timerfd on the monotonic clock, accurate to microseconds (epoll's own timeout: 1 ms)."""

    def __init__(self) -> None:
        self.fd: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self.fd < 0:
            raise LabError("cannot make a timer (timerfd_create)")
        self._spec = (ctypes.c_long * 4)()  # interval s and ns, value s and ns
        self._pointer = ctypes.byref(self._spec)
        self._set_s = 0.0

    def set(self, at_s: float) -> None:
        """Fire at ``at_s`` seconds of the monotonic clock; 0 turns it off."""
        if at_s != self._set_s:
            whole_s = int(at_s)
            self._spec[2], self._spec[3] = whole_s, int((at_s - whole_s) * 1e9)
            _libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, self._pointer, None)
            self._set_s = at_s

    def clear(self) -> None:
        """Read away that it fired."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)
        self._set_s = -1.0


def hurry(scheduling: str) -> str:
    """Ask the kernel to wake this process on time; return what it granted."""
    _libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    if scheduling == "fifo":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            return "fifo"
    if scheduling != "none":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -20)
            return "nice"
    return "none"
