"""Served first: whoever works while a service stands still does not queue behind other work.

Other services of an edge go on computing during a move. A migration that waits for its turn among
them stands still for tens of milliseconds more, at every step anew.
"""

import contextlib
import gc
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

LOWEST_REALTIME, NICEST = 1, -19
MOST_ANCESTORS = 8


def put_first(pid: int = 0) -> None:
    """Have a thread (this one unless told) served before all ordinary work of this host.

    By real-time priority, the lowest; where the host keeps that from us, by niceness; where not
    even that is allowed, it queues as before.
    """
    try:
        os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(LOWEST_REALTIME))
    except OSError:
        try:
            os.setpriority(os.PRIO_PROCESS, pid, NICEST)
        except OSError:
            return


def put_back(pid: int = 0) -> None:
    """Have a thread queue as all others do."""
    try:
        os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, pid, 0)
    except OSError:
        return


def hurry() -> None:
    """This thread is served first, and its process does not stop to collect garbage."""
    put_first()
    gc.disable()


def calm_down() -> None:
    """The end of `hurry`."""
    gc.enable()
    put_back()


def threads(pid: int) -> list[int]:
    """Ids of all threads of a task.

    Raises
    ------
    FileNotFoundError
        If it has ended.
    """
    return [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]


@contextlib.contextmanager
def lifted(pids: Iterable[int]) -> Iterator[None]:
    """Serve tasks with all their threads first for this block; then they queue as they did."""
    before = []
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in threads(pid):
                was = os.sched_getscheduler(thread), os.sched_getparam(thread)
                before.append((thread, was, os.getpriority(os.PRIO_PROCESS, thread)))
                put_first(thread)
    try:
        yield
    finally:
        for thread, (policy, parameter), niceness in before:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(thread, policy, parameter)
                os.setpriority(os.PRIO_PROCESS, thread, niceness)


def carrier() -> int:
    """Pid of the SSH server's process that carries this one's standard streams; 0 if none does."""
    pid = os.getppid()
    for _ in range(MOST_ANCESTORS):
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return 0
        name, _, rest = text.partition("(")[2].rpartition(")")
        if name.startswith("sshd"):
            return pid
        pid = int(rest.split()[1])
    return 0
