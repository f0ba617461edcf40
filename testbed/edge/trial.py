"""Trying a feature of the kernel in a child process whose traces end with it."""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

CHILD_TIMEOUT_S = 10.0
NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
NEWPID, NEWNET = 0x20000000, 0x40000000
_MS_REC_PRIVATE = 0x4000 | 0x40000

Feature = dict[str, Any]


class NotTriedError(Exception):
    """A feature could not be tried here; the message says why."""


def feature(works: bool | None, detail: str = "") -> Feature:  # noqa: FBT001
    """One entry of ``features``."""
    return {"works": works, "detail": detail}


def attempt(trial: Callable[[], str]) -> Feature:
    """Run a trial in a child process and say how it went.

    The trial returns a detail (it works), raises `NotTriedError` (unknown) or anything else (it
    does not work). Its namespaces, mounts, devices and open files end with the child.
    """
    if not hasattr(os, "fork") or sys.platform != "linux":
        return feature(None, "only tried on Linux")
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(out)
            signal.alarm(int(CHILD_TIMEOUT_S))
            try:
                answer = feature(True, trial())  # noqa: FBT003
            except NotTriedError as error:
                answer = feature(None, str(error))
            except Exception as error:  # noqa: BLE001 - every failure is an answer here
                answer = feature(False, str(error) or type(error).__name__)  # noqa: FBT003
            os.write(into, json.dumps(answer).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as answers:
        text = answers.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else feature(None, "the trial was killed or hung")


def libc() -> ctypes.CDLL:
    """The C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """Pass on a C function's result, or raise `OSError` with what failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Move this (child) process into new namespaces."""
    if os.geteuid() != 0:
        raise NotTriedError("needs root")
    check(libc().unshare(flags), "unshare")


def private_mounts() -> None:
    """Give this (child) process mounts that nobody else sees."""
    unshare(NEWNS)
    check(libc().mount(b"none", b"/", None, _MS_REC_PRIVATE, None), "make mounts private")


def tell(command: Sequence[str]) -> str:
    """Run a command inside a trial; a failure becomes the trial's detail."""
    if shutil.which(command[0]) is None:
        raise NotTriedError(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    if done.returncode:
        raise OSError((done.stderr or done.stdout).strip().replace("\n", " "))
    return done.stdout
