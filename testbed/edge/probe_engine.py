"""Trials of what the fast path of a migration leans on, on a host that has CRIU.

Each has a second way that a migration takes by itself (`docs/architecture.md`); these trials tell
beforehand which it will be.
"""

import contextlib
import ctypes
import mmap
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from . import tracker
from .claim import pretend
from .trial import NotTriedError, check, libc, private_mounts

if TYPE_CHECKING:
    from .criu import Worker


def try_tracker() -> str:
    """Watch another process, let it write two pages, and be told exactly these."""
    if not tracker.PROGRAM.exists():
        raise NotTriedError(f"{tracker.PROGRAM} is not here; the edges' root file system has it")
    page = os.sysconf("SC_PAGESIZE")
    memory = mmap.mmap(-1, 8 * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = b"x" * len(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    turns, told = socket.socketpair()
    child = os.fork()
    if child == 0:
        turns.recv(1)
        memory[2 * page] = memory[5 * page] = 1
        turns.send(b"y")
        signal.pause()
    try:
        watch = tracker.WriteProtect(child, tracker.PROGRAM)
        watch.look(still=True)
        told.send(b"x")
        told.recv(1)
        looked = watch.look()
        watch.close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    found = [(a - start) // page for a, b in looked.written if start <= a < start + len(memory)]
    if found != [2, 5]:
        raise OSError(f"the tracker says that pages {found} of 8 were written, not 2 and 5")
    return "watches a process from outside and finds exactly what was written"


def try_claim() -> str:
    """Ask CRIU whether the byte of its cache is where `edge.claim` changes it."""
    with _criu() as worker:
        why_not = pretend(worker, Path("/"))
    if why_not:
        raise OSError(why_not)
    return "CRIU leaves out pages that the target has"


def try_lazy_restore() -> str:
    """Ask CRIU whether memory may come after the processes."""
    with _criu() as worker:
        if not worker.features()["lazy_pages"]:
            raise OSError("the kernel's userfaultfd lacks events that CRIU needs")
    return "CRIU hands over memory that is still to come"


@contextlib.contextmanager
def _criu() -> Iterator["Worker"]:
    """CRIU waiting for requests, with a folder of its own for its cache."""
    try:
        from .criu import Worker  # noqa: PLC0415 - needs CRIU's own package
    except ImportError:
        raise NotTriedError("CRIU's Python package is not here; the edges have it") from None
    private_mounts()
    check(libc().mount(b"tmpfs", b"/run", b"tmpfs", 0, b"size=4m"), "mount a folder for CRIU")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with subprocess.Popen(
        ["criu", "swrk", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ):
        theirs.close()
        with ours:
            yield Worker(ours)
