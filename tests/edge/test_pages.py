import contextlib
import ctypes
import itertools
import mmap
import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.edge import images, incoming, pages
from testbed.edge.pages import (
    PAGE,
    Copy,
    address_of,
    blank_pages,
    changed,
    joined,
    own_pages,
    read_task,
    take_out,
)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc of Linux")
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
BASE = 0x7F5A_0000_0000
"""Addresses in these tests are pages counted from here."""
SPACE = 24


def page(number):
    """Content of one page; equal numbers, equal content."""
    return number.to_bytes(2, "little") * (PAGE // 2)


def span(first, count):
    return BASE + first * PAGE, BASE + (first + count) * PAGE


def pages_of(spans):
    """Numbers of the pages in spans, each as often as it is named."""
    return [(at - BASE) // PAGE for start, end in spans for at in range(start, end, PAGE)]


def runs(numbers):
    """Rising page numbers as (first, count)."""
    found = []
    for number in sorted(numbers):
        if found and sum(found[-1]) == number:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((number, 1))
    return found


@st.composite
def contents(draw, space=SPACE):
    """One stretch of memory: first page and a small number for each page's content."""
    first = draw(st.integers(0, space - 1))
    return first, draw(st.lists(st.integers(0, 2), min_size=1, max_size=space - first))


@contextlib.contextmanager
def empty_copy(pages_of_room=4 * SPACE):
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder) / "copy", capacity=pages_of_room * PAGE)
        try:
            yield copy
        finally:
            copy.close()


def take(copy, first, values):
    return copy.update(span(first, 0)[0], b"".join(map(page, values)))


# -- the copy


@unhurried
@given(st.lists(contents(), max_size=12))
def test_an_update_names_exactly_the_pages_that_are_new_or_differ(updates):
    model = {}
    with empty_copy() as copy:
        for first, values in updates:
            now = {first + n: value for n, value in enumerate(values)}
            named = pages_of(take(copy, first, values))
            assert sorted(named) == [n for n, value in now.items() if model.get(n) != value]
            model |= now
        for number, value in model.items():
            assert bytes(copy.read(*span(number, 1))) == page(value)
        assert copy.top == len(model) * PAGE


@unhurried
@given(updates=st.lists(contents(), max_size=8), asked=contents())
def test_what_is_known_covers_a_range_once_and_without_a_gap(updates, asked):
    have = {first + n for first, values in updates for n in range(len(values))}
    with empty_copy() as copy:
        for first, values in updates:
            take(copy, first, values)
        start, end = span(asked[0], len(asked[1]))
        at = start
        for begin, stop, offset in copy.known(start, end):
            assert begin == at < stop
            assert {n in have for n in pages_of([(begin, stop)])} == {offset is not None}
            at = stop
        assert at == end


@unhurried
@given(st.lists(contents(), max_size=8))
def test_segments_rise_do_not_overlap_and_have_their_own_room(updates):
    with empty_copy() as copy:
        for first, values in updates:
            take(copy, first, values)
        segments = copy.segments()
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(segments))
        room = sorted((offset, offset + end - start) for start, end, offset in segments)
        assert [start for start, _ in room] == [0, *(end for _, end in room)][: len(room)]


def test_what_is_unknown_or_in_two_pieces_is_not_read():
    with empty_copy() as copy:
        take(copy, 2, [1])
        take(copy, 1, [1])
        assert bytes(copy.read(*span(2, 1))) == page(1)
        for first, count in ((0, 1), (1, 2), (2, 2), (20, 1)):
            with pytest.raises(KeyError):
                copy.read(*span(first, count))


def test_one_changed_byte_is_one_page_wherever_it_stands():
    with empty_copy() as copy:
        old = bytearray(b"".join(map(page, range(9))))
        copy.update(BASE, bytes(old))
        assert copy.update(BASE, bytes(old)) == []
        for at in (0, PAGE - 1, PAGE, 4 * PAGE + 77, 9 * PAGE - 1):
            old[at] ^= 0x80
            assert pages_of(copy.update(BASE, bytes(old))) == [at // PAGE]


def test_a_copy_leaves_no_file_behind(tmp_path):
    copy = Copy(tmp_path / "copy", capacity=PAGE)
    assert copy.path.exists()
    copy.close()
    assert list(tmp_path.iterdir()) == []


# -- comparing


def in_memory(values):
    """A buffer whose pages have these contents."""
    return b"".join(map(page, values))


@unhurried
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=200))
def test_pages_that_differ_are_those_that_a_plain_comparison_finds(pairs):
    old, new = in_memory(a for a, _ in pairs), in_memory(b for _, b in pairs)
    spans = changed(address_of(old), address_of(new), len(old))
    numbers = [n for start, end in spans for n in range(start // PAGE, end // PAGE)]
    assert numbers == [n for n, (a, b) in enumerate(pairs) if a != b]
    assert all(a[1] < b[0] for a, b in itertools.pairwise(spans))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=12))
def test_joined_spans_cover_the_same_and_do_not_touch(pieces):
    spans = joined([span(first, count) for first, count in pieces])
    assert pages_of(spans) == sorted({first + n for first, count in pieces for n in range(count)})
    assert all(a[1] < b[0] for a, b in itertools.pairwise(spans))


def test_only_readable_private_mappings_that_are_not_the_kernel_s_are_looked_at():
    maps = """\
5590-5591 r--p 00000000 fe:00 12 /usr/bin/a program with spaces
5591-5592 -w-p 00000000 00:00 0
5592-5593 ---p 00000000 00:00 0
5593-5594 rw-s 00000000 00:05 9 /dev/zero (deleted)
5594-5595 rw-p 00000000 00:00 0
7ff0-7ff1 rw-p 00000000 00:00 0 [heap]
7ff1-7ff2 rw-p 00000000 00:00 0 [stack]
7ff2-7ff3 r--p 00000000 00:00 0 [vvar]
7ff3-7ff4 r--p 00000000 00:00 0 [vvar_vclock]
7ff4-7ff5 r-xp 00000000 00:00 0 [vdso]
ffff-10000 --xp 00000000 00:00 0 [vsyscall]
"""
    starts = [start for start, _ in pages.private_spans(maps)]
    assert starts == [0x5590, 0x5594, 0x7FF0, 0x7FF1]


# -- tasks


@contextlib.contextmanager
def anonymous(count):
    """Private memory of this process, and its address."""
    with mmap.mmap(-1, count * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        # Neither the neighbours nor huge pages are to blur what was touched.
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        here = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(here)
        del here
        yield memory, address


@on_linux
@unhurried
@given(st.dictionaries(st.integers(0, 63), st.integers(1, 999), max_size=20))
def test_the_pages_that_a_task_has_written_are_found_and_read_back_exactly(written):
    with anonymous(64) as (memory, address):
        for number, value in written.items():
            memory[number * PAGE : (number + 1) * PAGE] = page(value)
        whole = (address, address + 64 * PAGE)
        found = list(own_pages(os.getpid(), whole))
        assert [((a - address) // PAGE, (b - a) // PAGE) for a, b in found] == runs(written)
        seen = {}
        last = 0
        for start, data in read_task(os.getpid()):
            assert start >= last
            assert len(data) % PAGE == 0
            last = start + len(data)
            for at in range(max(start, whole[0]), min(last, whole[1]), PAGE):
                seen[(at - address) // PAGE] = data[at - start : at - start + PAGE]
        assert seen == {number: page(value) for number, value in written.items()}


@on_linux
def test_a_file_s_pages_are_not_a_task_s_own_until_it_writes_to_them(tmp_path):
    file = tmp_path / "mapped"
    file.write_bytes(in_memory(range(1, 5)))
    with (
        file.open("rb") as open_file,
        mmap.mmap(
            open_file.fileno(),
            4 * PAGE,
            flags=mmap.MAP_PRIVATE,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
        ) as memory,
    ):
        here = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(here)
        del here
        assert sum(memory[n * PAGE] for n in range(4)) == 10  # present now, but the file's
        assert list(own_pages(os.getpid(), (address, address + 4 * PAGE))) == []
        memory[2 * PAGE] = 77
        found = list(own_pages(os.getpid(), (address, address + 4 * PAGE)))
        assert found == [(address + 2 * PAGE, address + 3 * PAGE)]


@on_linux
def test_a_large_region_comes_in_chunks_that_join(monkeypatch):
    monkeypatch.setattr(pages, "CHUNK", 3 * PAGE)
    with anonymous(10) as (memory, address):
        memory[:] = in_memory(range(1, 11))
        ours = [
            (start, data)
            for start, data in read_task(os.getpid())
            if address <= start < address + 10 * PAGE
        ]
        assert all(len(data) <= 3 * PAGE for _, data in ours)
        assert b"".join(data for _, data in ours) == in_memory(range(1, 11))


@on_linux
def test_a_task_that_is_not_there_is_an_error_and_leaves_no_descriptor_open():
    before = [path.name for path in Path("/proc/self/fd").iterdir()]
    with pytest.raises(OSError):
        list(read_task(2**22 + 1))
    assert [path.name for path in Path("/proc/self/fd").iterdir()] == before


# -- from the source to the target


class Pair:
    """Source and target of one task's memory, without the network between them."""

    def __init__(self, folder):
        self.base, self.img = folder / "base", folder / "img"
        self.base.mkdir()
        self.img.mkdir()
        self.sent = Copy(folder / "sent", capacity=8 * SPACE * PAGE)
        self.memory = incoming.Memory(self.base, 1000, 3)

    def send(self, first, values):
        """What `testbed.edge.source.Move` does with a piece of memory that it has read."""
        start, data = span(first, 0)[0], in_memory(values)
        fresh = self.sent.update(start, data)
        parts = [memoryview(data)[a - start : b - start] for a, b in fresh]
        spans, parts, blank = take_out(fresh, parts, blank_pages)
        self.memory.take_all(spans, blank, memoryview(b"".join(parts)))

    def freeze(self, ranges, pages_id=7):
        """Compose the child image for these ranges of the frozen task."""
        path = self.img.parent / "frozen"
        images.write_pagemap(path, pages_id, ranges)
        self.memory.compose(path.read_bytes(), self.img)

    def close(self):
        self.sent.close()
        self.memory.copy.close()


@contextlib.contextmanager
def pair():
    with tempfile.TemporaryDirectory() as folder:
        both = Pair(Path(folder))
        try:
            yield both
        finally:
            both.close()


def load(folder, task):
    """A page map and, for each page that it holds itself, the content: a pages file is read once,
    from its beginning, in the order of the page map."""
    pages_id, ranges = images.read_pagemap((folder / f"pagemap-{task}.img").read_bytes())
    with (folder / f"pages-{pages_id}.img").open("rb") as file:
        own = {}
        for r in ranges:
            if r.flags & images.PRESENT:
                for number in range(r.pages):
                    own[r.start + number * PAGE] = file.read(PAGE)
    return ranges, own


def restored(both):
    """Each page as CRIU would restore it."""
    _, parent = load(both.base, 1000)
    ranges, child = load(both.img, 1000)
    found = {}
    for r in ranges:
        for at in range(r.start, r.start + r.pages * PAGE, PAGE):
            if r.flags & images.PARENT:
                assert not r.flags & images.PRESENT
                found[(at - BASE) // PAGE] = parent[at]
            elif r.flags & images.PRESENT:
                found[(at - BASE) // PAGE] = child[at]
    return found


first_rounds = st.dictionaries(st.integers(0, SPACE - 1), st.integers(0, 3), max_size=SPACE)


@unhurried
@given(
    first=first_rounds,
    later=st.lists(contents(), max_size=8),
    last=st.dictionaries(st.integers(0, SPACE - 1), st.integers(0, 4), min_size=1),
    pieces=st.integers(1, 5),
)
def test_every_page_of_the_frozen_task_is_restored_exactly(first, later, last, pieces):
    with pair() as both:
        for start, count in runs(first):  # a look at a running task goes up
            both.send(start, [first[start + n] for n in range(count)])
        both.memory.seal()
        for start, values in later:
            both.send(start, values)
            both.memory.seal()
        ranges = []
        for start, count in runs(last):  # the frozen look, cut as CRIU may cut it
            for at in range(start, start + count, pieces):
                size = min(pieces, start + count - at)
                both.send(at, [last[at + n] for n in range(size)])
                ranges.append(images.Range(span(at, 0)[0], size, images.PRESENT))
        both.freeze(ranges)
        assert restored(both) == {number: page(value) for number, value in last.items()}


@unhurried
@given(first=first_rounds.filter(bool), rest=st.integers(0, 3))
def test_what_was_sent_in_the_first_round_is_not_written_again(first, rest):
    with pair() as both:
        for start, count in runs(first):
            both.send(start, [first[start + n] for n in range(count)])
        both.memory.seal()
        both.send(SPACE + 1, [1] * rest) if rest else None
        everything = runs([*first, *(SPACE + 1 + n for n in range(rest))])
        both.freeze([images.Range(*_range(r), images.PRESENT) for r in everything])
        assert (both.img / "pages-7.img").stat().st_size == rest * PAGE
        assert set(restored(both)) == set(pages_of([span(*r) for r in everything]))


def _range(run):
    return span(run[0], 0)[0], run[1]


def test_a_move_without_a_round_ahead_restores_as_well():
    with pair() as both:
        both.send(0, [1, 2, 3])
        both.send(9, [4])
        both.memory.seal()
        both.freeze([images.Range(*_range(r), images.PRESENT) for r in ((0, 3), (9, 1))])
        assert restored(both) == {0: page(1), 1: page(2), 2: page(3), 9: page(4)}


@pytest.mark.parametrize("lost", [(4, 1), (2, 3), (0, 9), (30, 1)])
def test_a_page_that_was_never_sent_stops_the_restore(lost):
    with pair() as both:
        both.send(0, [1, 2, 3])
        both.memory.seal()
        both.send(5, [4, 5])
        with pytest.raises(KeyError, match=r"page 0x[0-9a-f]+ of task 1000 was never sent"):
            both.freeze([images.Range(*_range(lost), images.PRESENT)])


def test_ranges_that_hold_no_pages_are_passed_on_as_they_are():
    with pair() as both:
        both.send(0, [1])
        both.memory.seal()
        asked = [
            images.Range(*_range((0, 1)), images.PRESENT),
            images.Range(*_range((3, 5)), images.LAZY),
            images.Range(*_range((9, 2)), 0),
        ]
        both.freeze(asked)
        ranges, _ = load(both.img, 1000)
        assert ranges[1:] == asked[1:]
        assert restored(both) == {0: page(1)}


def test_what_did_not_come_in_rising_order_is_restored_all_the_same():
    with pair() as both:
        both.send(5, [1, 2])
        both.send(0, [3])
        both.memory.seal()
        both.freeze(
            [
                images.Range(*_range((0, 1)), images.PRESENT),
                images.Range(*_range((5, 2)), images.PRESENT),
            ]
        )
        assert restored(both) == {0: page(3), 5: page(1), 6: page(2)}


def test_content_that_came_after_the_seal_reaches_the_parent_s_pages():
    with pair() as both:
        both.send(0, [1, 2])
        both.memory.seal()
        both.send(1, [3])
        both.freeze([images.Range(*_range((0, 2)), images.PRESENT)])
        ranges, child = load(both.img, 1000)
        assert (len(child), {r.flags for r in ranges}) == (0, {images.PARENT})
        assert restored(both) == {0: page(1), 1: page(3)}


# -- pages that need not be sent


def shown(spans, parts):
    """Every page by its address, with its content."""
    return {
        at: bytes(part[at - start : at - start + PAGE])
        for (start, end), part in zip(spans, parts, strict=True)
        for at in range(start, end, PAGE)
    }


@given(st.lists(st.lists(st.sampled_from("0az"), min_size=1, max_size=9), max_size=5))
def test_pages_of_zeros_are_told_apart_and_nothing_else_is_lost(runs):
    kinds = {"0": bytes(PAGE), "a": b"a" * PAGE, "z": bytes(PAGE - 1) + b"z"}
    spans, parts, at = [], [], 1 << 40
    for run in runs:
        spans.append((at, at + len(run) * PAGE))
        parts.append(memoryview(b"".join(kinds[kind] for kind in run)))
        at += (len(run) + 2) * PAGE
    left, content, blank = take_out(spans, parts, blank_pages)
    zeros = {a: bytes(PAGE) for start, end in blank for a in range(start, end, PAGE)}
    there = shown(left, content)
    assert not set(there) & set(zeros)
    assert there | zeros == shown(spans, parts)
    assert all(page != bytes(PAGE) for page in there.values())


def test_pages_of_zeros_between_others_are_inherited_like_these():
    with pair() as both:
        both.send(2, [7, 0, 0, 8, 0])
        both.send(9, [0, 3])
        both.memory.seal()
        ranges, own = load(both.base, 1000)
        assert sum(r.pages for r in ranges) == 7
        assert [own[BASE + n * PAGE][:1] for n in (2, 3, 4, 5, 6, 9, 10)] == [
            page(n)[:1] for n in (7, 0, 0, 8, 0, 0, 3)
        ]
