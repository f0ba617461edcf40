"""The pages of a checkpoint: which ones its images hold, and what is in them."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from testbed.checkpoints.formats import PAGEMAP_HEAD
from testbed.checkpoints.store import Store
from testbed.edge import images

Numbers = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

PAGE_SIZES = (4096, 16384, 65536)
AT_ONCE = 4096
"""Pages whose content is looked at together."""
MOST_PAGES = 2**27
_WORD = 8
_NOTHING = np.empty(0, np.uint64)


@dataclass(frozen=True)
class Pages:
    """Pages of one address space (or of one piece of shared memory), by page number.

    page_size : bytes. held : pages whose content is here, ascending, and ``words`` that content,
    a row for each in the same order. zero : of these, whether it is nothing but zeros.
    in_parent : pages left in the parent image. lazy : pages left to be asked for later.
    """

    page_size: int
    held: Numbers
    words: Words
    zero: npt.NDArray[np.bool_]
    in_parent: Numbers
    lazy: Numbers

    @classmethod
    def none(cls, page_size: int) -> Self:
        """No page at all."""
        words = np.empty((0, page_size // _WORD), np.uint64)
        return cls(page_size, _NOTHING, words, np.empty(0, np.bool_), _NOTHING, _NOTHING)

    def count(self, numbers: Numbers, start: int, end: int) -> int:
        """How many of these page numbers lie between two addresses."""
        low, high = np.searchsorted(numbers, _numbers(start, end, self.page_size))
        return int(high - low)

    def zeros(self, start: int, end: int) -> int:
        """Pages of zeros held between two addresses."""
        low, high = np.searchsorted(self.held, _numbers(start, end, self.page_size))
        return int(self.zero[low:high].sum())

    def read(self, start: int, end: int) -> bytes:
        """The memory between two addresses; empty where not all of it is here."""
        if start >= end:
            return b""
        first, last = start // self.page_size, (end - 1) // self.page_size
        at = int(np.searchsorted(self.held, np.uint64(first)))
        wanted = self.held[at : at + last - first + 1]
        if len(wanted) != last - first + 1 or not len(wanted) or int(wanted[-1]) != last:
            return b""
        content = self.words[at : at + len(wanted)].tobytes()
        return content[start - first * self.page_size :][: end - start]


def differing(
    now: Pages, now_at: Places, before: Pages, before_at: Places
) -> npt.NDArray[np.bool_]:
    """Whether pages of two checkpoints have other content, pair by pair of their places."""
    other = np.empty(len(now_at), np.bool_)
    for at in range(0, len(now_at), AT_ONCE):
        part = slice(at, at + AT_ONCE)
        here, there = now.words[now_at[part]], before.words[before_at[part]]
        other[part] = (here != there).any(axis=1)
    return other


def read_pages(store: Store, name: str, page_size: int) -> Pages:
    """The pages that a page map names.

    Raises
    ------
    CheckpointError
        If the page map or its pages are missing, cut short, or do not belong together.
    """
    pages_id, ranges = _read_map(store, name)
    if sum(this.pages for this in ranges) > MOST_PAGES:
        raise store.broken(name, "it names more pages than any machine has")
    by_kind: dict[str, list[images.Range]] = {"held": [], "parent": [], "lazy": []}
    for this in ranges:
        here, parent = this.flags & images.PRESENT, this.flags & images.PARENT
        by_kind["held" if here else "parent" if parent else "lazy"].append(this)
    spread = {kind: _spread(those, page_size) for kind, those in by_kind.items()}
    if any((those[1:] <= those[:-1]).any() for those in spread.values()):
        raise store.broken(name, "its addresses do not ascend")
    held: Numbers = spread["held"]
    content = f"pages-{pages_id}.img"
    needed, size = len(held) * page_size, store.size(content)
    if size < needed:
        raise store.broken(
            content, f"{size:,} bytes for {len(held):,} pages of {page_size:,} in {name}"
        )
    words = Pages.none(page_size).words
    if needed:
        flat = np.memmap(store.folder / content, np.uint64, "r", shape=(needed // _WORD,))
        words = flat.reshape(-1, page_size // _WORD)
    zero = np.empty(len(held), np.bool_)
    for at in range(0, len(held), AT_ONCE):
        zero[at : at + AT_ONCE] = ~words[at : at + AT_ONCE].any(axis=1)
    return Pages(page_size, held, words, zero, spread["parent"], spread["lazy"])


def find_page_size(store: Store, machine: str) -> int:
    """Bytes of a page on the machine that the checkpoint was taken on.

    No image says it. An x86-64 has pages of 4096 bytes; elsewhere the first page map whose pages
    are here tells.
    """
    if machine != "x86-64":
        for name in store.names("pagemap-*.img"):
            pages_id, ranges = _read_map(store, name)
            pages = sum(this.pages for this in ranges if this.flags & images.PRESENT)
            size = store.size(f"pages-{pages_id}.img")
            if pages and size % pages == 0 and size // pages in PAGE_SIZES:
                return size // pages
    return PAGE_SIZES[0]


def _read_map(store: Store, name: str) -> tuple[int, list[images.Range]]:
    store.only(name, PAGEMAP_HEAD)  # refuses what is no page map, in the words of all images
    try:
        return images.read_pagemap(store.read(name))
    except ValueError as error:
        raise store.broken(name, str(error)) from error


def _spread(ranges: list[images.Range], page_size: int) -> Numbers:
    """Every page number of some ranges."""
    if not ranges:
        return _NOTHING
    spread = [np.arange(r.start // page_size, r.start // page_size + r.pages) for r in ranges]
    return np.concatenate(spread).astype(np.uint64)


def _numbers(start: int, end: int, page_size: int) -> Numbers:
    return np.array([start // page_size, end // page_size], np.uint64)
