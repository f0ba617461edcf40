"""What a service leaves on an edge when it goes on: pages that need not come again with it.

A visit is a folder named by the service, with its ``pages``, none of zeros and none twice, the
``digests`` of them, and the ``layers`` of its image. Whatever becomes of these files costs bytes at
most: a page is taken from a visit only if it has, then, the digest that the source has found.
"""

import contextlib
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from .offered import DIGEST_BYTES, Kept, digest_of
from .pages import PAGE, ZEROS, Copy, Span, joined
from .spec import Spec

VISITS = Path("/var/lib/testbed/visits")
MOST_BYTES = 1 << 30
"""All visits of an edge together; the oldest go first."""
SPARE_SHARE = 0.1
"""So much of disk and memory stays free: on a host that has less, no visit is kept."""
PAGES_AT_ONCE = 64
MEMINFO = Path("/proc/meminfo")

_keeping: dict[str, threading.Thread] = {}


def keep(spec: Spec, copies: Sequence[Copy]) -> None:
    """Keep the pages of a service that has left, in the background: nobody waits for it.

    Parameters
    ----------
    spec : Spec
        The service's container.
    copies : sequence of Copy
        The memory of its tasks; closed when they are kept.
    """
    thread = threading.Thread(target=_keep, args=[spec, copies])
    _keeping[spec.name] = thread
    thread.start()


def forget(name: str) -> None:
    """Keep nothing of a service any more."""
    _await(name)
    with _alone():
        shutil.rmtree(VISITS / name, ignore_errors=True)


def kept_bytes() -> dict[str, int]:
    """How much is kept of each service; what is being kept in this moment is waited for."""
    for name in list(_keeping):
        _await(name)
    return {folder.name: size for folder, size in _by_age()}


class Visit:
    """The pages that this edge still has of a service's last visit.

    If it was never here: of another service of the same image, whichever was here last.
    """

    def __init__(self, spec: Spec) -> None:
        self.digests = b""
        self._pages = -1
        for folder in _fitting(spec):
            with contextlib.suppress(OSError):
                digests = (folder / "digests").read_bytes()
                self._pages = os.open(folder / "pages", os.O_RDONLY)
                os.posix_fadvise(self._pages, 0, 0, os.POSIX_FADV_WILLNEED)
                self.digests = digests
                return

    def read(self, kept: Sequence[Kept]) -> tuple[list[tuple[int, bytes]], list[Span]]:
        """Address and content of pages that the source has found here; addresses of those gone."""
        there: list[tuple[int, bytes]] = []
        gone: list[Span] = []
        for start, end, number in kept:
            data = b""
            with contextlib.suppress(OSError):
                data = os.pread(self._pages, end - start, number * PAGE)
            bad = self._bad(data, number, (end - start) // PAGE)
            gone += [(start + n * PAGE, start + (n + 1) * PAGE) for n in bad]
            at = 0
            for stop in [*(n * PAGE for n in bad), end - start]:
                if at < stop:
                    there.append((start + at, data[at:stop]))
                at = stop + PAGE
        return there, joined(gone)

    def close(self) -> None:
        """Read no more."""
        if self._pages >= 0:
            os.close(self._pages)
            self._pages = -1

    def _bad(self, data: bytes, first: int, count: int) -> list[int]:
        """Which of ``count`` pages are not what was told of them."""
        told = memoryview(self.digests)[first * DIGEST_BYTES :]
        with memoryview(data) as view:
            return [
                n
                for n in range(count)
                if digest_of(view[n * PAGE : (n + 1) * PAGE])
                != told[n * DIGEST_BYTES : (n + 1) * DIGEST_BYTES]
            ]


def _keep(spec: Spec, copies: Sequence[Copy]) -> None:
    try:
        with contextlib.suppress(OSError), _alone():
            shutil.rmtree(VISITS / spec.name, ignore_errors=True)
            if _make_room(sum(copy.top for copy in copies)):
                _fill(VISITS / f".{spec.name}", spec, copies)
    finally:
        for copy in copies:
            copy.close()


def _fill(folder: Path, spec: Spec, copies: Sequence[Copy]) -> None:
    """Write a visit beside the others, and have it be one when it is whole."""
    folder.mkdir()
    try:
        (folder / "layers").write_text("\n".join(spec.layers), encoding="utf-8")
        with (folder / "pages").open("wb") as content, (folder / "digests").open("wb") as digests:
            _write(copies, content, digests)
        folder.rename(VISITS / spec.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(copies: Sequence[Copy], content: BinaryIO, digests: BinaryIO) -> None:
    seen = {digest_of(ZEROS)}
    for page in _pages(copies):
        digest = digest_of(page)
        if digest not in seen:
            seen.add(digest)
            content.write(page)
            digests.write(digest)


def _pages(copies: Sequence[Copy]) -> Iterator[memoryview]:
    """Every page; whoever takes them rests as long as it works, since others compute here."""
    began_s = time.monotonic()
    for copy in copies:
        for start, end, offset in copy.segments():
            for number, at in enumerate(range(offset, offset + end - start, PAGE), start=1):
                with copy.view[at : at + PAGE] as page:
                    yield page
                if number % PAGES_AT_ONCE == 0:
                    time.sleep(time.monotonic() - began_s)
                    began_s = time.monotonic()


def _make_room(wanted: int) -> bool:
    """Let the oldest visits go until there is room for one more; False if there cannot be."""
    disk, visits = shutil.disk_usage(VISITS), _by_age()
    kept = sum(size for _, size in visits)
    room = min(MOST_BYTES, kept + disk.free - int(SPARE_SHARE * disk.total))
    fits = wanted <= room and _has_memory()
    for folder, size in visits:
        if kept + wanted * fits > room:
            shutil.rmtree(folder, ignore_errors=True)
            kept -= size
    return fits


def _has_memory() -> bool:
    words = [line.split() for line in MEMINFO.read_text(encoding="ascii").splitlines()]
    amounts = {name: int(amount) for name, amount, *_ in words}
    return amounts["MemAvailable:"] > SPARE_SHARE * amounts["MemTotal:"]


def _by_age() -> list[tuple[Path, int]]:
    """All visits and how large they are, the oldest first."""
    found = []
    for folder in VISITS.glob("[!.]*"):
        with contextlib.suppress(OSError):
            said = (folder / "pages").stat()
            found.append((said.st_mtime_ns, folder, said.st_size))
    return [(folder, size) for _, folder, size in sorted(found)]


def _fitting(spec: Spec) -> Iterator[Path]:
    """The visits that may have a service's pages, the best first."""
    yield VISITS / spec.name
    for folder, _ in reversed(_by_age()):
        with contextlib.suppress(OSError):
            if (folder / "layers").read_text(encoding="utf-8") == "\n".join(spec.layers):
                yield folder


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Be the only one on this edge that changes what is kept."""
    VISITS.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (VISITS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for interrupted in VISITS.glob(".*"):
            if interrupted.is_dir():
                shutil.rmtree(interrupted, ignore_errors=True)
        yield


def _await(name: str) -> None:
    if thread := _keeping.get(name):
        thread.join()
