import sys

import pytest

from testbed.edge import images
from testbed.edge.arriving import Arriving
from testbed.edge.feed import Feed
from testbed.edge.pages import PAGE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is kept in Linux' way")
TASK, START = 7, 1 << 20


def page(letter):
    return letter.encode() * PAGE


@pytest.fixture
def memory(tmp_path):
    arriving = Arriving(tmp_path, lambda: None, lambda *_: pytest.fail("asked the source"))
    yield arriving
    arriving.close()


def taken(memory, first, letters):
    spans = [(START + (first + n) * PAGE, START + (first + n + 1) * PAGE)
             for n in range(len(letters))]  # fmt: skip
    head = {"task": TASK, "spans": spans, "blank": []}
    memory.take(head, b"".join(page(letter) for letter in letters))
    return spans


def test_what_was_sent_ahead_is_restored_with_what_came_last(memory, tmp_path):
    taken(memory, 0, "abc")
    memory.seal()
    taken(memory, 1, "B")
    taken(memory, 3, "d")
    made = tmp_path / "made"
    images.write_pagemap(made, 1, [images.Range(START, 4, images.PRESENT)])
    small = {"pagemap-7.img": made.read_bytes(), "core-7.img": b"core"}
    memory.place(
        {
            "images": [(name, len(content)) for name, content in small.items()],
            "tasks": {"pagemap-7.img": TASK},
            "fill": False,
            "hot": {},
            "stale": None,
        },
        b"".join(small.values()),
    )
    assert not memory.is_filling
    assert (tmp_path / "img" / "core-7.img").read_bytes() == b"core"
    with (tmp_path / "img" / "parent" / "pages-1.img").open("rb") as parent:  # sparse, and huge
        assert parent.read(3 * PAGE) == page("a") + page("B") + page("c")
    assert (tmp_path / "img" / "pages-1.img").read_bytes() == page("d")


def test_what_is_owed_goes_down_as_it_comes(memory):
    with pytest.raises(RuntimeError, match="nothing was to come later"):
        memory.came({"task": TASK, "spans": []})
    assert memory.owed == 0
    memory._feed = Feed(lambda *_: None)
    memory._feed.owed = 3 * PAGE
    memory.came({"task": TASK, "spans": taken(memory, 0, "ab")})
    assert memory.owed == PAGE
    assert memory.problems == []


def test_a_forked_task_begins_with_what_its_parent_has(memory):
    taken(memory, 0, "ab")
    memory.fork({"task": TASK + 1, "parent": TASK})
    runs = memory._of(TASK + 1).runs([(START, START + 2 * PAGE)])
    assert (runs[0][0], runs[-1][1]) == (START, START + 2 * PAGE)
    assert memory._of(TASK + 1).copy.view[: 2 * PAGE] == page("a") + page("b")
