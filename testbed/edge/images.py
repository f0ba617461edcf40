"""CRIU's page maps, read and written without CRIU.

``pagemap-PID.img`` lists ranges of a task's memory; the pages marked present follow one another
in ``pages-ID.img``. Format: two magic words, then messages (protobuf), each behind its length.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MAGIC = struct.pack("<II", 0x54564319, 0x56084025)
PARENT, LAZY, PRESENT = 1, 2, 4
VADDR, COMPAT_PAGES, IN_PARENT, FLAGS, PAGES = 1, 2, 3, 4, 5
PAGES_ID = 1
VARINT_LAST = 0x7F


@dataclass(frozen=True)
class Range:
    """``pages`` pages from address ``start`` on, and how the image holds them."""

    start: int
    pages: int
    flags: int


def read_pagemap(data: bytes) -> tuple[int, list[Range]]:
    """Number of the pages image and the ranges, from the content of a page map.

    Raises
    ------
    ValueError
        If the content is not a page map or is cut short.
    """
    if not data.startswith(MAGIC):
        raise ValueError("not a CRIU page map (wrong magic)")
    messages = list(_messages(data))
    if not messages or PAGES_ID not in messages[0]:
        raise ValueError("a CRIU page map without a head")
    ranges = []
    for m in messages[1:]:
        pages = m.get(PAGES) or m.get(COMPAT_PAGES)
        if VADDR not in m or not pages:
            raise ValueError("a CRIU page map with a range that has no address or no pages")
        ranges.append(Range(m[VADDR], pages, m.get(FLAGS, _old_flags(m))))
    return messages[0][PAGES_ID], ranges


def write_pagemap(path: Path, pages_id: int, ranges: Iterable[Range]) -> None:
    """Write a page map that CRIU 4 reads (both fields for the number of pages)."""
    parts = [MAGIC, _framed(_field(PAGES_ID, pages_id))]
    parts += [
        _framed(
            _field(VADDR, r.start)
            + _field(COMPAT_PAGES, r.pages)
            + _field(FLAGS, r.flags)
            + _field(PAGES, r.pages)
        )
        for r in ranges
    ]
    path.write_bytes(b"".join(parts))


def write_image(path: Path, magic: int, entry: Mapping[int, int]) -> None:
    """Write an image of one message that holds nothing but numbers, by field number."""
    message = b"".join(_field(number, value) for number, value in entry.items())
    path.write_bytes(struct.pack("<I", magic) + _framed(message))


def _old_flags(message: dict[int, int]) -> int:
    return PARENT if message.get(IN_PARENT) else PRESENT


def _framed(message: bytes) -> bytes:
    return struct.pack("<I", len(message)) + message


def _field(number: int, value: int) -> bytes:
    out = bytearray([number << 3])
    while value > VARINT_LAST:
        out.append(value & VARINT_LAST | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _messages(data: bytes) -> Iterator[dict[int, int]]:
    """Each message as field number to value; page maps hold nothing but numbers."""
    at = len(MAGIC)
    while at < len(data):
        if at + 4 > len(data):
            raise ValueError(f"a CRIU image cut short at byte {len(data)}")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        end = at + length
        if end > len(data):
            raise ValueError(f"a CRIU image cut short at byte {len(data)}")
        fields: dict[int, int] = {}
        while at < end:
            key, at = varint(data, at)
            fields[key >> 3], at = varint(data, at)
            if at > end:
                raise ValueError("a CRIU page map with a number that runs over its message")
        yield fields


def varint(data: bytes, at: int) -> tuple[int, int]:
    """One of protobuf's numbers, and where the next thing begins.

    Raises
    ------
    ValueError
        If the content ends within it.
    """
    value = shift = 0
    while True:
        if at >= len(data):
            raise ValueError(f"a CRIU image cut short at byte {len(data)}")
        byte = data[at]
        at += 1
        value |= (byte & VARINT_LAST) << shift
        if byte <= VARINT_LAST:
            return value, at
        shift += 7
