"""What cannot be moved, or not by the fast path, found before anything is frozen."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from .tracker import NotTrackedError

PROC = Path("/proc")
ASYNC_IO = re.compile(r"/\[aio\]|anon_inode:\[io_uring\]")
"""A device may write into memory of such a task without any page fault."""
HUGE = re.compile(r"^\S+ \S+ \S+ \S+ \S+\s+(/anon_hugepage|/dev/hugepages/)", re.MULTILINE)
CAP_SYS_RESOURCE = 24
Status = dict[str, str]
"""Fields of ``/proc/PID/status``."""


class NotMovableError(RuntimeError):
    """No technique can carry the service as it is now; the message says why, and what helps."""


def reasons(pid: int, read: Path = PROC) -> list[str]:
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
    if ASYNC_IO.search(maps):
        found.append("it reads by asynchronous I/O, which leaves no trace in page tables")
    if HUGE.search(maps):
        found.append("it has huge pages of its own (hugetlb)")
    if status(pid, read).get("Seccomp", "0") != "0":
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


def require_movable(
    service: int, pids: Iterable[int], read: Path = PROC, *, leases: bool = True
) -> int:
    """Refuse a service that no technique can carry; return its first process as this host sees it.

    Parameters
    ----------
    service : int
        Its first process, as the container sees it.
    pids : iterable of int
        All its processes, as this host sees them.
    read : Path
        Where ``/proc`` is.
    leases : bool
        Whether any may hold a file lease (`hold_leases`).

    Raises
    ------
    NotMovableError
        If the first process has ended, another would be left behind, or CRIU may not look into one.
    """
    tasks: dict[int, Status] = {}
    for pid in pids:
        fields = status(pid, read)
        if fields.get("State", "Z")[0] not in "ZX":  # ended, or about to be buried
            tasks[pid] = fields
    first = next((pid for pid, fields in tasks.items() if _inside(fields) == service), None)
    if first is None:
        raise NotMovableError(f"the service's first process, {service}, has ended")
    found = [*_strays(first, tasks), *_strangers(tasks, read)]
    if leases:
        found += _broken_leases(tasks, read)
    if found:
        raise NotMovableError("; ".join(found))
    return first


def status(pid: int, read: Path = PROC) -> Status:
    """What the kernel tells of a task; empty where it has ended."""
    try:
        text = (read / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (x.partition(":") for x in text.splitlines())}


def _strays(first: int, tasks: dict[int, Status]) -> Iterable[str]:
    """Processes that do not descend from the first one: CRIU takes a tree, and nothing beside it.

    One whose parent has ended in this very moment counts as well: it is nobody's child any more.
    """
    whole = {first}
    while more := {p for p, f in tasks.items() if p not in whole and int(f["PPid"]) in whole}:
        whole |= more
    for pid, fields in tasks.items():
        if pid not in whole:
            yield (
                f"process {_inside(fields)} ({fields['Name']}) does not descend from the service's "
                "first process, and CRIU would leave it behind; let the service begin with an init "
                "that adopts orphans (tini -s), or none of it become a daemon"
            )


def _strangers(tasks: dict[int, Status], read: Path) -> Iterable[str]:
    """Processes of other users where CRIU may not ask for their limits, which it has to."""
    own = status(os.getpid(), read)
    if int(own["CapEff"], 16) >> CAP_SYS_RESOURCE & 1:
        return
    for fields in tasks.values():
        words = [*fields["Uid"].split()[:3], *fields["Gid"].split()[:3]]
        if set(words) != {"0"}:
            yield (
                f"process {_inside(fields)} ({fields['Name']}) runs as user {words[0]}, and on "
                "this host CRIU may carry root's processes only (no CAP_SYS_RESOURCE); run the "
                "service as root"
            )


def hold_leases(pids: Iterable[int], read: Path = PROC) -> bool:
    """Whether any of these processes holds a file lease.

    The kernel's list of locks waits for every processor, ten milliseconds perhaps: it is asked
    before a freeze, and within only where this says yes.
    """
    return bool({int(words[4]) for words in _leases(read)} & set(pids))


def _leases(read: Path) -> Iterator[list[str]]:
    for line in (read / "locks").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words[1] == "LEASE":
            yield words


def _broken_leases(tasks: dict[int, Status], read: Path) -> Iterable[str]:
    """File leases that somebody waits for: CRIU breaks them anew, and the owner is told twice."""
    for words in _leases(read):
        if words[2] == "BREAKING" and int(words[4]) in tasks:
            yield (
                f"process {_inside(tasks[int(words[4])])} holds a file lease that is being broken; "
                "the service can be moved once it has given the lease back"
            )


def _inside(fields: Status) -> int:
    return int(fields["NSpid"].split()[-1])
