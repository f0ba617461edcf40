"""Processes that outlive the one that started them, found by a mark and ended.

Ansible's workers leave their parent's session and process group, so that ending the playbook does
not end them: they go on working at hosts that are about to be taken down.
"""

import os
import select
import signal
from contextlib import suppress
from pathlib import Path

PATIENCE_S = 5.0


def end_marked(mark: str) -> int:
    """End every process that carries `mark` in its environment, and wait until each is gone.

    A process forked meanwhile carries the mark as well; so this looks until it finds none.

    Returns
    -------
    int
        How many there were.
    """
    ended = 0
    while found := _marked(mark.encode()):
        for descriptor in found:
            _end(descriptor)
        ended += len(found)
    return ended


def _marked(mark: bytes) -> list[int]:
    """A pidfd of each process with the mark; the pidfd comes first, so that no pid is mistaken."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        with suppress(OSError):
            descriptor = os.pidfd_open(int(process.name))
            try:
                marked = mark in (process / "environ").read_bytes()
            except OSError:
                marked = False
            if marked:
                found.append(descriptor)
            else:
                os.close(descriptor)
    return found


def _end(descriptor: int) -> None:
    """Kill one process and wait for its end (a child of init is reaped by init)."""
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [], PATIENCE_S)
    finally:
        os.close(descriptor)
