"""System V objects: message queues, semaphores and shared memory belong to no process.

CRIU carries them with the IPC namespace they are in, as a whole. A holder's namespaces do not
travel. So where a service has such objects, CRIU is started beside the service's IPC namespace and
not in it: it dumps the namespace with them, and restores the service in one of its own.
"""

import ctypes
import os
import threading
from pathlib import Path

CLONE_NEWIPC = 0x08000000
LISTS = ("msg", "sem", "shm")
_libc = ctypes.CDLL(None, use_errno=True)


def used(pid: int) -> bool:
    """Whether there are System V objects where a process lives.

    Parameters
    ----------
    pid : int
        The process, as this host sees it.

    Raises
    ------
    OSError
        If its IPC namespace cannot be entered.
    """
    found: list[bool] = []
    problems: list[OSError] = []

    def look() -> None:
        try:
            found.append(_look(pid))
        except OSError as error:
            problems.append(error)

    # A namespace is entered by one thread; this one never comes back.
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return found[0]


def _look(pid: int) -> bool:
    namespace = os.open(f"/proc/{pid}/ns/ipc", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(namespace, CLONE_NEWIPC):
            number = ctypes.get_errno()
            raise OSError(number, f"IPC namespace of {pid}: {os.strerror(number)}")
    finally:
        os.close(namespace)
    return any(len(_lines(name)) > 1 for name in LISTS)


def _lines(name: str) -> list[str]:
    return Path(f"/proc/sysvipc/{name}").read_text(encoding="utf-8").splitlines()
