import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.edge.images import (
    COMPAT_PAGES,
    FLAGS,
    IN_PARENT,
    LAZY,
    MAGIC,
    PAGES,
    PAGES_ID,
    PARENT,
    PRESENT,
    VADDR,
    Range,
    read_pagemap,
    write_pagemap,
)

flags = st.sampled_from([0, PARENT, LAZY, PRESENT, PRESENT | LAZY])
ranges = st.lists(
    st.builds(
        Range,
        start=st.integers(0, 2**64 - 1),
        pages=st.integers(1, 2**32 - 1),
        flags=flags,
    ),
    max_size=20,
)


def varint(value):
    """The slow way, from protobuf's description of it."""
    out = []
    while True:
        value, low = divmod(value, 128)
        out.append(low + (128 if value else 0))
        if not value:
            return bytes(out)


def message(fields):
    body = b"".join(varint(number * 8) + varint(value) for number, value in fields.items())
    return struct.pack("<I", len(body)) + body


def boundaries(data):
    """Where a message ends: a page map that is cut there is a shorter page map."""
    at, found = len(MAGIC), []
    while at < len(data):
        at += 4 + struct.unpack_from("<I", data, at)[0]
        found.append(at)
    return found


def written(folder, pages_id, wanted):
    path = folder / "pagemap-1.img"
    write_pagemap(path, pages_id, wanted)
    return path.read_bytes()


@given(pages_id=st.integers(0, 2**32 - 1), wanted=ranges)
def test_a_page_map_is_read_as_it_was_written(tmp_path_factory, pages_id, wanted):
    data = written(tmp_path_factory.getbasetemp(), pages_id, wanted)
    assert read_pagemap(data) == (pages_id, wanted)


@given(pages_id=st.integers(1, 2**32 - 1), wanted=ranges)
def test_what_is_written_is_what_criu_reads(tmp_path_factory, pages_id, wanted):
    data = written(tmp_path_factory.getbasetemp(), pages_id, wanted)
    expected = MAGIC + message({PAGES_ID: pages_id})
    for r in wanted:
        expected += message({VADDR: r.start, COMPAT_PAGES: r.pages, FLAGS: r.flags, PAGES: r.pages})
    assert data == expected


@given(wanted=ranges, cut=st.integers(0, 10**6))
def test_a_page_map_that_is_cut_short_is_refused(tmp_path_factory, wanted, cut):
    data = written(tmp_path_factory.getbasetemp(), 1, wanted)
    cut %= len(data)
    if cut in boundaries(data):
        assert read_pagemap(data[:cut])[1] == wanted[: boundaries(data).index(cut)]
        return
    with pytest.raises(ValueError):
        read_pagemap(data[:cut])


@pytest.mark.parametrize("rest", [b"\x05", b"\x05\x00\x00", b"\x01\x00\x00\x00", b"\xff" * 4])
def test_half_a_message_is_refused(tmp_path, rest):
    data = written(tmp_path, 1, [Range(0x7F0000000000, 3, PRESENT)])
    with pytest.raises(ValueError):
        read_pagemap(data + rest)


def test_a_number_that_runs_over_the_end_of_its_message_is_refused():
    whole = message({VADDR: 4096, COMPAT_PAGES: 200, FLAGS: PRESENT, PAGES: 200})
    (length,) = struct.unpack_from("<I", whole)
    lying = struct.pack("<I", length - 1) + whole[4:]
    assert read_pagemap(MAGIC + message({PAGES_ID: 1}) + whole)[1] == [Range(4096, 200, PRESENT)]
    with pytest.raises(ValueError):
        read_pagemap(MAGIC + message({PAGES_ID: 1}) + lying)


@pytest.mark.parametrize("fields", [{PAGES: 1, FLAGS: PRESENT}, {VADDR: 4096, FLAGS: PRESENT}])
def test_a_range_without_address_or_size_is_refused(fields):
    with pytest.raises(ValueError):
        read_pagemap(MAGIC + message({PAGES_ID: 1}) + message(fields))


@pytest.mark.parametrize("data", [b"", MAGIC[:7], b"\x00" * 64, MAGIC[::-1] + b"\x02\x00\x00\x00"])
def test_what_is_no_page_map_is_refused(data):
    with pytest.raises(ValueError, match="magic"):
        read_pagemap(data)


@pytest.mark.parametrize("rest", [b"", message({}), message({PAGES_ID + 1: 1})])
def test_a_page_map_needs_a_head(rest):
    with pytest.raises(ValueError, match="head"):
        read_pagemap(MAGIC + rest)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({VADDR: 4096, COMPAT_PAGES: 2}, Range(4096, 2, PRESENT)),
        ({VADDR: 4096, COMPAT_PAGES: 2, IN_PARENT: 1}, Range(4096, 2, PARENT)),
        ({VADDR: 4096, COMPAT_PAGES: 2, IN_PARENT: 0}, Range(4096, 2, PRESENT)),
        ({VADDR: 4096, COMPAT_PAGES: 2, FLAGS: PRESENT | LAZY}, Range(4096, 2, PRESENT | LAZY)),
        ({VADDR: 4096, FLAGS: PRESENT, PAGES: 2**33}, Range(4096, 2**33, PRESENT)),
        ({VADDR: 4096, COMPAT_PAGES: 7, FLAGS: PRESENT, PAGES: 2}, Range(4096, 2, PRESENT)),
        ({VADDR: 4096, COMPAT_PAGES: 7, FLAGS: PRESENT, PAGES: 0}, Range(4096, 7, PRESENT)),
    ],
)
def test_page_maps_of_older_and_newer_criu_are_read_alike(fields, expected):
    assert read_pagemap(MAGIC + message({PAGES_ID: 5}) + message(fields)) == (5, [expected])
