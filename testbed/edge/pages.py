"""Pages of running and frozen tasks, and which of them changed since the last look.

The content delta: the source keeps a copy of what the target already has; a page is sent when it
differs from that copy (Ngo, section IV.B, delta checkpoint; here page by page, and read from the
running task, so that looking does not stop it).
"""

import ctypes
import mmap
import os
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PAGE = os.sysconf("SC_PAGESIZE")
CHUNK = 4 << 20
PRESENT_BIT, SWAPPED_BIT, FILE_BIT = 63, 62, 61
FANOUT = 8
ZEROS = bytes(PAGE)

Buffer = bytes | memoryview

Span = tuple[int, int]
"""Start and end address, end excluded, both at page boundaries."""

_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


def changed(old: int, new: int, size: int) -> list[Span]:
    """Offsets (start, end) of the pages that differ between two buffers of ``size`` bytes.

    Parameters
    ----------
    old, new : int
        Addresses of the buffers in this process.
    size : int
        Bytes, a multiple of the page size.
    """
    found: list[Span] = []
    _narrow(old, new, 0, size, found)
    return found


def address_of(buffer: bytes | memoryview) -> int:
    """Address of a buffer's first byte in this process; the caller keeps the buffer alive.

    A memory view must be writable (map files with ``mmap.ACCESS_COPY``).
    """
    if isinstance(buffer, bytes):
        return ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value or 0
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _narrow(old: int, new: int, start: int, end: int, found: list[Span]) -> None:
    if _memcmp(old + start, new + start, end - start) == 0:
        return
    pages = (end - start) // PAGE
    if pages == 1:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
        return
    step = max(1, pages // FANOUT) * PAGE
    for at in range(start, end, step):
        _narrow(old, new, at, min(at + step, end), found)


def blank_pages(data: Buffer) -> list[int]:
    """Numbers of the pages that hold nothing but zeros."""
    # Few pages begin with a word of zeros and go on otherwise.
    firsts = memoryview(data).cast("Q")[:: PAGE // 8].tolist()
    begin = [number for number, first in enumerate(firsts) if first == 0]
    return [n for n in begin if bytes(data[n * PAGE : (n + 1) * PAGE]) == ZEROS]


def take_out(
    spans: Sequence[Span], parts: Sequence[Buffer], find: Callable[[Buffer], list[int]]
) -> tuple[list[Span], list[Buffer], list[Span]]:
    """Take the pages that ``find`` names out of spans and their content.

    Returns what is left of both, and the spans that were taken out.
    """
    left: list[Span] = []
    content: list[Buffer] = []
    out: list[Span] = []
    for (start, end), part in zip(spans, parts, strict=True):
        at = 0
        for stop in [*(number * PAGE for number in find(part)), end - start]:
            if at < stop:
                left.append((start + at, start + stop))
                content.append(part[at:stop])
            if start + stop < end:
                out.append((start + stop, start + stop + PAGE))
            at = stop + PAGE
    return left, content, joined(out)


def private_spans(maps: str, *, readable: bool = True, vdso: bool = False) -> list[Span]:
    """Private mappings in the text of ``/proc/PID/maps``, without the kernel's own.

    Parameters
    ----------
    maps : str
        The text.
    readable : bool
        Leave out mappings that the task itself may not read.
    vdso : bool
        Take in the kernel's code that every task has.
    """
    spans = []
    for line in maps.splitlines():
        words = line.split(maxsplit=5)
        name = words[5] if len(words) > 5 else ""  # noqa: PLR2004
        kernels = name.startswith("[v") and not (vdso and name == "[vdso]")
        if words[1].endswith("p") and not kernels and (words[1][0] == "r" or not readable):
            start, end = (int(part, 16) for part in words[0].split("-"))
            spans.append((start, end))
    return spans


def own_pages(pid: int, span: Span) -> Iterator[Span]:
    """The parts of a private mapping that the task has written to (there, not the file's)."""
    start, end = span
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(start // PAGE * 8)
        words = memoryview(pagemap.read((end - start) // PAGE * 8)).cast("Q")
    open_at = None
    for number, word in enumerate(words):
        if (word >> PRESENT_BIT | word >> SWAPPED_BIT) & 1 and not word >> FILE_BIT & 1:
            if open_at is None:
                open_at = start + number * PAGE
        elif open_at is not None:
            yield open_at, start + number * PAGE
            open_at = None
    if open_at is not None:
        yield open_at, start + len(words) * PAGE


def read_task(pid: int) -> Iterator[tuple[int, bytes]]:
    """Address and content of a running task's own pages, in chunks, in rising order.

    A mapping that goes away while being read is passed over: the frozen look settles everything.
    """
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        for span in private_spans(Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")):
            for start, end in own_pages(pid, span):
                at = start
                while at < end:
                    try:
                        data = os.pread(memory, min(CHUNK, end - at), at)
                    except OSError:
                        break
                    whole = len(data) // PAGE * PAGE
                    if not whole:
                        break
                    yield at, data[:whole]
                    at += whole
    finally:
        os.close(memory)


@dataclass
class Copy:
    """What the other side has of one task's memory: a growing file, mapped, with an index.

    Every range lies where it first came; `place` says where.
    """

    path: Path
    capacity: int = 1 << 36
    top: int = 0
    _starts: list[int] = field(default_factory=list)
    _segments: list[tuple[int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Map the file."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.ftruncate(descriptor, self.capacity)
        self._map = mmap.mmap(descriptor, self.capacity)
        self._file = descriptor
        self._let_go = weakref.finalize(self, os.close, descriptor)
        self.view = memoryview(self._map)
        self.address = address_of(self.view)

    def known(self, start: int, end: int) -> Iterator[tuple[int, int, int | None]]:
        """Cut ``start..end`` into pieces (start, end, offset); offset is None where unknown."""
        while start < end:
            number = bisect_right(self._starts, start) - 1
            if number >= 0 and start < self._segments[number][1]:
                begin, stop, offset = self._segments[number]
                piece_end = min(end, stop)
                yield start, piece_end, offset + start - begin
            else:
                later = self._starts[number + 1] if number + 1 < len(self._starts) else end
                piece_end = min(end, later)
                yield start, piece_end, None
            start = piece_end

    def place(self, start: int, end: int) -> int:
        """Make room for an unknown range; return its offset.

        Raises
        ------
        OSError
            If there is none: writing through the mapping would end this process.
        """
        number = bisect_right(self._starts, start)
        offset = self.top
        self._reserve(offset, end - start)
        self._starts.insert(number, start)
        self._segments.insert(number, (start, end, offset))
        self.top += end - start
        return offset

    def update(self, start: int, data: bytes | memoryview) -> list[Span]:
        """Take in ``data`` for address ``start``; return the spans that were new or different."""
        base = address_of(data)
        news: list[Span] = []
        for begin, end, offset in list(self.known(start, start + len(data))):
            at = begin - start
            if offset is None:
                offset = self.place(begin, end)  # noqa: PLW2901 - now it has one
                fresh = [(begin, end)]
            else:
                pieces = changed(self.address + offset, base + at, end - begin)
                fresh = [(begin + a, begin + b) for a, b in pieces]
            for a, b in fresh:
                self.view[offset + a - begin : offset + b - begin] = data[a - start : b - start]
            news += fresh
        return news

    def read(self, start: int, end: int) -> memoryview:
        """Content of a range that lies in one piece.

        Raises
        ------
        KeyError
            If part of it is unknown.
        """
        pieces = list(self.known(start, end))
        if len(pieces) != 1 or pieces[0][2] is None:
            raise KeyError(f"{start:#x}..{end:#x} is not in one piece")
        offset = pieces[0][2]
        return self.view[offset : offset + end - start]

    def take_over(self, other: "Copy") -> None:
        """Begin as a copy of another task's memory; whatever was here is forgotten."""
        self._reserve(0, other.top)
        self.view[: other.top] = other.view[: other.top]
        self.top = other.top
        self._segments = other.segments()
        self._starts = [start for start, _, _ in self._segments]

    def segments(self) -> list[tuple[int, int, int]]:
        """Everything known as (start, end, offset), in rising order."""
        return list(self._segments)

    def close(self) -> None:
        """Forget everything."""
        self.view.release()
        self._let_go()
        self.path.unlink(missing_ok=True)

    def _reserve(self, offset: int, size: int) -> None:
        if not size:
            return
        try:
            os.posix_fallocate(self._file, offset, size)
        except OSError as error:
            raise OSError(
                error.errno,
                f"no room for {size} bytes of memory more beside {self.top} in {self.path.parent} "
                f"({os.strerror(error.errno or 0)}): remove other services from this edge, or give "
                "it more memory",
            ) from error


def joined(spans: Iterable[Span]) -> list[Span]:
    """Spans in rising order, touching ones made one."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and result[-1][1] >= start:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def divide(start: int, end: int, spans: list[Span]) -> Iterator[tuple[int, int, bool]]:
    """Cut ``start..end`` at the borders of spans; say of each piece whether it lies in one.

    Parameters
    ----------
    start, end : int
        The range.
    spans : list of Span
        In rising order, none touching another (`joined`).
    """
    number = bisect_right(spans, start, key=lambda span: span[1])
    while start < end:
        low, high = spans[number] if number < len(spans) else (end, end)
        if start < low:
            yield start, min(low, end), False
        elif start < high:
            yield start, min(high, end), True
            number += 1
        start = min(end, low if start < low else high)
