import json
import socket
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.services.ram.client import Checksums
from testbed.services.ram.content import PAGE_BYTES, Layout
from testbed.services.ram.server import Memory

SMALL = ("--memory-mb", "8")


def ask(port, *lines):
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        connection.makefile("rb") as reader,
    ):
        connection.sendall(b"".join(line + b"\n" for line in lines))
        return [reader.readline() for _ in lines]


def number(said, name):
    return json.loads(said.partition(b" ")[2])[name]


def test_every_checksum_is_right_while_the_memory_changes(serve, use):
    port = serve("ram", *SMALL, "--rewrite-mb-per-s", "20")
    run = use("ram", port, *SMALL, "--requests", "200", "--interval-s", "0.005",
              "--whole-every", "20")  # fmt: skip
    assert run.code == 0, run.errors
    assert [int(row["count"]) for row in run.rows] == list(range(1, 201))
    assert all(0 < float(row["processing_s"]) < float(row["delay_s"]) for row in run.rows)


def test_all_that_was_said_can_be_kept(serve, use, tmp_path):
    port = serve("ram", *SMALL)
    use("ram", port, *SMALL, "--requests", "3", "--answers", tmp_path / "answers")
    kept = [json.loads(line) for line in (tmp_path / "answers").read_text().splitlines()]
    assert [(one["sequence"], one["count"]) for one in kept] == [(1, 1), (2, 2), (3, 3)]
    assert all({"written", "checksum", "processing_s"} <= one.keys() for one in kept)


def test_memory_that_is_another_is_counted_wrong(serve, use):
    port = serve("ram", *SMALL, "--random-share", "0.5")
    run = use("ram", port, *SMALL, "--requests", "5")
    assert run.code == 1
    assert run.summary["wrong"] == 5
    assert all(error.startswith("checksum") for error in run.errors)


def test_a_single_page_of_an_earlier_time_is_noticed():
    layout = Layout.of(2.0, 0.5, 1.0)
    memory = Memory(layout, 0.0)
    old = bytes(memory._content)
    memory.rewrite(layout.moving + 3)
    codec = Checksums(layout)
    whole = f"0 {layout.pages}".encode()
    codec.stretch = lambda _: (0, layout.pages)
    assert codec.problem(1, memory.answer(whole)) == ""
    at = (layout.pages - layout.moving + 1) * PAGE_BYTES
    memory._content[at : at + PAGE_BYTES] = old[at : at + PAGE_BYTES]
    assert codec.problem(2, memory.answer(whole)).startswith("checksum")


def test_rewriting_that_jumps_back_is_noticed():
    layout = Layout.of(1.0, 0.5, 1.0)
    memory, codec = Memory(layout, 0.0), Checksums(layout)
    before = memory.answer(b"0 10")
    memory.rewrite(5)
    codec.problem(1, memory.answer(b"0 10"))
    assert codec.problem(2, before) == "0 pages rewritten, after 5"


@given(
    pages=st.integers(1, 40),
    share=st.floats(0, 1),
    steps=st.lists(st.integers(0, 60), min_size=1, max_size=4),
)
def test_the_client_always_knows_what_the_memory_holds(pages, share, steps):
    layout = Layout.of(pages * PAGE_BYTES / 1e6 + 1e-9, share, 0.01)
    memory, codec = Memory(layout, 0.0), Checksums(layout, whole_every=1)
    for step in steps:
        memory.rewrite(step if layout.moving else 0)
        assert codec.problem(1, memory.answer(b"0 %d" % layout.pages)) == ""


@pytest.mark.parametrize("requests", [1, 3, 17])
def test_the_stretches_cover_the_whole_memory(requests):
    layout = Layout(requests * 256 - 100, 0, 0)
    codec = Checksums(Layout(1, 0, 0))
    codec._layout = layout
    pages = [p for n in range(1, requests + 1) for p in range(*spread(codec.stretch(n)))]
    assert pages == list(range(layout.pages))
    assert codec.stretch(requests + 1) == codec.stretch(1)


def spread(stretch):
    return stretch[0], stretch[0] + stretch[1]


@pytest.mark.parametrize(("share", "least", "most"), [(1.0, 0.99, 1.01), (0.25, 0.24, 0.3)])
def test_the_content_compresses_as_asked(share, least, most):
    layout = Layout.of(1.0, 0.5, share)
    content = b"".join(layout.page(number, 1) for number in range(layout.pages))
    assert least < len(zlib.compress(content)) / len(content) < most


def test_memory_is_rewritten_at_its_rate_and_only_where_it_may_be(serve):
    port = serve("ram", *SMALL, "--rewrite-mb-per-s", "10", "--rewrite-share", "0.25")
    pages = int(8e6) // PAGE_BYTES
    still = f"1 0 {pages - pages // 4}".encode()
    (first,), began_s = ask(port, still), time.monotonic()
    time.sleep(0.5)
    (second,), took_s = ask(port, still), time.monotonic() - began_s
    assert number(first, "checksum") == number(second, "checksum")
    rewritten = (number(second, "written") - number(first, "written")) * PAGE_BYTES
    assert 0.4 * took_s * 10e6 < rewritten < 1.1 * took_s * 10e6


@pytest.mark.parametrize("share", ["-0.1", "1.1"])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="shares lie between 0 and 1"):
        Layout.of(1.0, float(share), 1.0)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"x 0 1", b"error not a sequence number"),
        (b"1", b"error write SEQUENCE FIRST PAGES"),
        (b"1 a b", b"error write SEQUENCE FIRST PAGES"),
        (b"1 -1 4", b"error write SEQUENCE FIRST PAGES"),
        (b"1 0 999999999999", b"error there are 1953 pages"),
        (b"1 1953 1", b"error there are 1953 pages"),
    ],
)
def test_a_wrong_line_is_an_error_and_not_counted(serve, line, error):
    port = serve("ram", *SMALL)
    said = ask(port, b"1 0 10", line, b"2 0 10")
    assert [number(said[0], "count"), number(said[2], "count")] == [1, 2]
    assert said[1].strip() == error
