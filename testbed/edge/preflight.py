"""What the fast path cannot carry, found before anything is frozen."""

import re
from collections.abc import Iterable
from pathlib import Path

from .tracker import NotTrackedError

ASYNC_IO = re.compile(r"/\[aio\]|anon_inode:\[io_uring\]")
"""A device may write into memory of such a task without any page fault."""
HUGE = re.compile(r"^\S+ \S+ \S+ \S+ \S+\s+(/anon_hugepage|/dev/hugepages/)", re.MULTILINE)


def reasons(pid: int, read: Path = Path("/proc")) -> list[str]:
    """Why a task has to be compared by content and restored at once; empty where it need not.

    Parameters
    ----------
    pid : int
        The task, as this host sees it.
    read : Path
        Where ``/proc`` is.
    """
    found = []
    maps = (read / str(pid) / "maps").read_text(encoding="utf-8", errors="replace")
    status = (read / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    if ASYNC_IO.search(maps):
        found.append("it reads by asynchronous I/O, which leaves no trace in page tables")
    if HUGE.search(maps):
        found.append("it has huge pages of its own (hugetlb)")
    seccomp = re.search(r"^Seccomp:\s*(\d)", status, re.MULTILINE)
    if seccomp and seccomp[1] != "0":
        found.append("a filter (seccomp) decides on its system calls")
    return found


def require(pids: Iterable[int]) -> None:
    """Refuse tasks that the fast path cannot carry.

    Raises
    ------
    NotTrackedError
        With every reason; content can be compared instead.
    """
    found: dict[str, None] = {}
    for pid in pids:
        try:
            found |= dict.fromkeys(reasons(pid))
        except (FileNotFoundError, ProcessLookupError):
            continue
    if found:
        raise NotTrackedError("; ".join(found))
