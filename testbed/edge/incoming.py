"""The memory of one task as the target has it, and how CRIU gets it.

Either CRIU restores tasks without memory, which `edge.fill` then fills in (`lay_out`), or what is
here serves as CRIU's parent image and is restored at once (`compose`).
"""

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import images
from .fill import Run
from .pages import CHUNK, PAGE, Copy, Span, divide

MAP_PRIVATE, MAP_ANONYMOUS, MAP_LOCKED, MAP_HUGETLB = 0x02, 0x20, 0x2000, 0x40000
AREA_REGULAR, AREA_VSYSCALL, AREA_VDSO, AREA_VVAR = 1 << 0, 1 << 2, 1 << 3, 1 << 12
AREA_KERNELS = AREA_VSYSCALL | AREA_VDSO | AREA_VVAR
AREA_GUARD = 1 << 16
"""Not a mapping, but a note that part of one is out of bounds (``MADV_GUARD_INSTALL``)."""
IMAGE_HEAD = struct.Struct("<III")


class Memory:
    """One task's memory as the target has it: at the same time CRIU's parent image.

    What came first, in rising order, is the parent's pages file and is patched in place; pages
    whose addresses came later lie behind it and go into the child image.
    """

    def __init__(self, folder: Path, task: int, number: int) -> None:
        self._folder = folder
        self._task = task
        self._number = number
        self.copy = Copy(folder / f"pages-{number}.img")
        self._sealed: int | None = None

    def take(self, start: int, data: memoryview) -> None:
        """Take content for a range, known or not."""
        at = start
        for begin, end, offset in list(self.copy.known(start, start + len(data))):
            where = self.copy.place(begin, end) if offset is None else offset
            self.copy.view[where : where + end - begin] = data[at - start : end - start]
            at = end

    def take_all(
        self,
        spans: list[Span],
        blank: list[Span],
        data: memoryview,
        kept: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        """Take content for ``spans``, one after the other, zeros for ``blank``, and what was kept.

        In rising order, all alike: what comes in order can be inherited (`seal`).
        """
        pieces, taken = [(start, memoryview(content)) for start, content in kept], 0
        for start, end in spans:
            pieces.append((start, data[taken : taken + end - start]))
            taken += end - start
        zeros = memoryview(bytes(max((min(CHUNK, end - start) for start, end in blank), default=0)))
        for start, end in blank:
            pieces += [(at, zeros[: min(CHUNK, end - at)]) for at in range(start, end, CHUNK)]
        for start, content in sorted(pieces, key=lambda piece: piece[0]):
            self.take(start, content)

    def take_over(self, other: "Memory") -> None:
        """Begin as a copy of another task's memory: it was forked from that."""
        if self._sealed is None:
            self.copy.take_over(other.copy)

    def seal(self) -> None:
        """End of the first round: what is here becomes the parent image.

        CRIU reads a pages file from front to back in the order of addresses. What did not come in
        that order cannot be inherited; it goes into the child image.
        """
        if self._sealed is not None:
            return
        ranges, top = [], 0
        for start, end, offset in self.copy.segments():
            if offset != top:
                break
            ranges.append(images.Range(start, (end - start) // PAGE, images.PRESENT))
            top += end - start
        self._sealed = top
        path = self._folder / f"pagemap-{self._task}.img"
        images.write_pagemap(path, self._number, ranges)

    def compose(self, pagemap: bytes, folder: Path) -> None:
        """Write the child image that CRIU restores: mostly references to the parent.

        Raises
        ------
        KeyError
            If a page the frozen task has was never sent.
        """
        pages_id, wanted = images.read_pagemap(pagemap)
        ranges: list[images.Range] = []
        with (folder / f"pages-{pages_id}.img").open("wb") as out:
            for start, end, offset in self._pieces(wanted, ranges):
                inherited = offset < (self._sealed or 0)
                flags = images.PARENT if inherited else images.PRESENT
                ranges.append(images.Range(start, (end - start) // PAGE, flags))
                if not inherited:
                    out.write(self.copy.view[offset : offset + end - start])
        images.write_pagemap(folder / f"pagemap-{self._task}.img", pages_id, ranges)

    def lay_out(
        self, pagemap: bytes, mm: bytes, folder: Path, stale: list[Span] | None = None
    ) -> tuple[list[Run], list[Span]]:
        """Write an image without the pages that can be filled in later.

        Returns those of them that are here, and those that will come.

        Parameters
        ----------
        pagemap, mm : bytes
            The frozen task's page map and its mappings, as CRIU wrote them.
        folder : Path
            The image that CRIU restores.
        stale : list of Span, optional
            What will come though it is here, in an older version. None: nothing will come.

        Raises
        ------
        KeyError
            If a page the frozen task has was never sent, and will not come.
        """
        pages_id, wanted = images.read_pagemap(pagemap)
        areas = Areas.read(mm)
        ranges: list[images.Range] = []
        runs: list[Run] = []
        absent: list[Span] = []
        with (folder / f"pages-{pages_id}.img").open("wb") as out:
            for begin, stop, place in self._places(wanted, ranges):
                for start, end, later in areas.cut(begin, stop):
                    if place is None and (stale is None or not later):
                        raise KeyError(f"page {start:#x} of task {self._task} was never sent")
                    flags = images.LAZY if later else images.PRESENT
                    ranges.append(images.Range(start, (end - start) // PAGE, flags))
                    if place is None:
                        absent.append((start, end))
                        continue
                    here = place - begin
                    if not later:
                        out.write(self.copy.view[here + start : here + end])
                        continue
                    for a, b, comes in divide(start, end, stale or []):
                        if comes:
                            absent.append((a, b))
                        else:
                            runs.append((a, b, self.copy.address + here + a))
        images.write_pagemap(folder / f"pagemap-{self._task}.img", pages_id, ranges)
        return runs, absent

    def runs(self, spans: Iterable[Span]) -> list[Run]:
        """Where the content of pages lies that have come."""
        return [
            (start, end, self.copy.address + offset)
            for span in spans
            for start, end, offset in self.copy.known(*span)
            if offset is not None
        ]

    def _pieces(
        self, wanted: list[images.Range], ranges: list[images.Range]
    ) -> Iterator[tuple[int, int, int]]:
        """Start, end and place of every page; ranges without pages go straight to ``ranges``."""
        for start, end, offset in self._places(wanted, ranges):
            if offset is None:
                raise KeyError(f"page {start:#x} of task {self._task} was never sent")
            yield start, end, offset

    def _places(
        self, wanted: list[images.Range], ranges: list[images.Range]
    ) -> Iterator[tuple[int, int, int | None]]:
        """As `_pieces`; the place is None where nothing has come yet."""
        for r in wanted:
            if r.flags & (images.PRESENT | images.PARENT):
                yield from self.copy.known(r.start, r.start + r.pages * PAGE)
            else:
                ranges.append(r)


@dataclass(frozen=True)
class Areas:
    """A task's mappings in rising order, and whether CRIU lets each be filled later."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    later: tuple[bool, ...]

    @classmethod
    def read(cls, mm: bytes) -> "Areas":
        """From the content of an ``mm`` image."""
        from pycriu.images import mm_pb2  # noqa: PLC0415 - on edges only, and slow at first

        _, _, size = IMAGE_HEAD.unpack_from(mm)
        entry = mm_pb2.mm_entry()
        entry.ParseFromString(mm[IMAGE_HEAD.size : IMAGE_HEAD.size + size])
        mappings = (a for a in entry.vmas if not a.status & AREA_GUARD)
        areas = sorted((a.start, a.end, _can_be_later(a)) for a in mappings)
        return cls(*zip(*areas, strict=True)) if areas else cls((), (), ())

    def cut(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Cut a range at the borders of mappings; say of each piece whether it can be later."""
        while start < end:
            number = bisect_right(self.starts, start) - 1
            if number < 0 or start >= self.ends[number]:
                raise KeyError(f"page {start:#x} lies in no mapping of the frozen task")
            stop = min(end, self.ends[number])
            yield start, stop, self.later[number]
            start = stop


def _can_be_later(area: Any) -> bool:
    """CRIU's own rule (``vma_entry_can_be_lazy``)."""
    return (
        bool(area.flags & MAP_ANONYMOUS)
        and bool(area.flags & MAP_PRIVATE)
        and not area.flags & (MAP_LOCKED | MAP_HUGETLB)
        and not area.status & AREA_KERNELS
    )
