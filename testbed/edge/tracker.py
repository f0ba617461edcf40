"""Which pages a running task has written, told by the kernel (`tracker.c`), from outside.

A mapping that is new must be watched before it can be looked at, and for that the task must stand
still for a moment. Else nothing stops it. Where a task cannot be watched, or not any more, it says
so and the caller compares content instead: no page is ever passed over.
"""

import ctypes
import fcntl
import hashlib
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import urgency
from .pages import Span, joined, private_spans

SOURCES = tuple(Path(__file__).with_name(name) for name in ("tracker.c", "userfaultfd.h"))
"""The first is what is compiled; it needs the others beside it."""
_DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()[:8]
PROGRAM = Path(f"/usr/local/libexec/testbed-tracker-{_DIGEST}")
"""Where it is compiled to: one of other sources would not be understood."""
WRITTEN, UNKNOWN = 1, 2
LOST = 2**64 - 1
_ENTRY = struct.Struct("=QQQ")
_COUNT = struct.Struct("=Q")


_SCAN = 0xC0606610
_FILE, _PRESENT, _SWAPPED, _ZERO = 4, 8, 16, 32
_REGIONS = 1024


class NotTrackedError(RuntimeError):
    """A task cannot be watched from outside; the message says why."""


@dataclass(frozen=True)
class Look:
    """What one look found.

    written : pages with content of their own, new or written since the last look.
    unknown : pages that cannot be watched: their content decides.
    """

    written: tuple[Span, ...]
    unknown: tuple[Span, ...]


class WriteProtect:
    """Watches one task by userfaultfd write protection and ``PAGEMAP_SCAN``.

    Parameters
    ----------
    pid : int
        The task, as this host sees it; it stops for less than a millisecond.
    program : Path
        The compiled tracker.

    Raises
    ------
    NotTrackedError
        If it cannot be watched: kernel, architecture, a filter on its system calls.
    """

    def __init__(self, pid: int, program: Path = PROGRAM) -> None:
        self.pid = pid
        try:
            self._process = subprocess.Popen(
                [str(program), str(pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        except OSError as error:
            raise NotTrackedError(f"the tracker cannot be started: {error}") from error
        if self._read(_COUNT.size) != _COUNT.pack(0):
            raise NotTrackedError(f"task {pid} cannot be watched: {self._last_words()}")

    def new(self) -> int:
        """How many mappings of the task nobody watches yet, because they are new or were moved."""
        self._say(b"n")
        return self._count()

    def watch(self) -> None:
        """Watch these, too. The task must stand still."""
        self._say(b"w")
        self._count()

    def ask(self, *, still: bool = False) -> None:
        """Have it look now; `answer` brings what it found.

        ``still``: the task stands still, so that what is new can be watched, too.
        """
        self._say(b"b" if still else b"l")

    def answer(self) -> Look:
        """What the look found.

        Raises
        ------
        NotTrackedError
            If the task has gone or lives in another address space (``exec``) now.
        """
        entries = list(_ENTRY.iter_unpack(self._read(self._count() * _ENTRY.size)))
        return Look(
            *(
                tuple(joined((a, b) for a, b, k in entries if k == kind))
                for kind in (WRITTEN, UNKNOWN)
            )
        )

    def look(self, *, still: bool = False) -> Look:
        """Ask and wait for the answer."""
        self.ask(still=still)
        return self.answer()

    def put_first(self) -> None:
        """Have it served before ordinary work of this host."""
        urgency.put_first(self._process.pid)

    def close(self) -> None:
        """Watch no longer; the task's memory is as it was without."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()
        self._process.wait()

    def _say(self, command: bytes) -> None:
        if self._process.stdin is None:  # pragma: no cover - a pipe was asked for
            raise NotTrackedError("no pipe")
        try:
            self._process.stdin.write(command)
        except (OSError, ValueError) as error:
            raise NotTrackedError(f"task {self.pid}: its tracker has gone") from error

    def _count(self) -> int:
        head = self._read(_COUNT.size)
        if len(head) < _COUNT.size:
            raise NotTrackedError(f"task {self.pid}: its tracker has gone")
        count: int = _COUNT.unpack(head)[0]
        if count == LOST:
            raise NotTrackedError(f"task {self.pid}: {self._last_words()}")
        return count

    def _read(self, size: int) -> bytes:
        if self._process.stdout is None:  # pragma: no cover - a pipe was asked for
            raise NotTrackedError("no pipe")
        parts, left = [], size
        while left:
            data = os.read(self._process.stdout.fileno(), left)
            if not data:
                break
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def _last_words(self) -> str:
        self._process.kill()
        said = self._process.stderr.read() if self._process.stderr else b""
        self.close()
        return said.decode(errors="replace").strip() or "the tracker ended without a word"


def own_pages(pid: int, maps: str) -> Iterator[Span]:
    """Every private page with content of its own that a task has, told by ``PAGEMAP_SCAN``.

    Parameters
    ----------
    pid : int
        The task, as this host sees it.
    maps : str
        The text of its ``maps``.
    """
    found = (ctypes.c_uint64 * (3 * _REGIONS))()
    unwanted = _FILE | _ZERO
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        for start, end in private_spans(maps, readable=False):
            at = start
            while at < end:
                words = (96, 0, at, end, 0, ctypes.addressof(found), _REGIONS, 0)
                kinds = (unwanted, unwanted, _PRESENT | _SWAPPED, _PRESENT)
                request = bytearray(struct.pack("=12Q", *words, *kinds))
                count = fcntl.ioctl(pagemap, _SCAN, request)
                for n in range(count):
                    yield found[3 * n], found[3 * n + 1]
                at = struct.unpack_from("=Q", request, 32)[0]
