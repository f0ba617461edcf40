import ctypes
import json
import mmap
import os
import queue
import tempfile
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_fill import (
    PLACES,
    SPACE,
    STEPS,
    WAIT,
    Model,
    content,
    needs_userfaultfd,
    unhurried,
    waiting_task,
)

from testbed.edge.feed import Feed
from testbed.edge.fill import Filler, Pending
from testbed.edge.pages import PAGE

TASK = 7


@given(
    st.lists(st.tuples(PLACES, st.integers(1, 8)), max_size=6),
    st.lists(st.tuples(PLACES, PLACES, st.integers(1, 6)), max_size=3),
    st.sets(PLACES),
)
def test_what_has_come_is_found_wherever_its_place_has_moved_to(made, moves, came):
    model = {page: page for start, n in made for page in range(start, start + n)}
    absent = Pending([(p * PAGE, (p + 1) * PAGE, p * PAGE) for p in model])
    for start, to, n in moves:
        if set(range(start, start + n)) & set(range(to, to + n)):
            continue
        absent.drop(to * PAGE, (to + n) * PAGE)
        model = {p: w for p, w in model.items() if not to <= p < to + n}
        absent.drop(start * PAGE, (start + n) * PAGE, (to - start) * PAGE)
        model = {p + to - start if start <= p < start + n else p: w for p, w in model.items()}
    news = [(p * PAGE, (p + 1) * PAGE, (1000 + p) * PAGE) for p in sorted(came)]
    taken = absent.swap(news)
    found = {at // PAGE: (w + at - a) // PAGE for a, b, w in taken for at in range(a, b, PAGE)}
    assert found == {p: 1000 + w for p, w in model.items() if w in came}
    left = {at // PAGE: (w + at - a) // PAGE for a, b, w in absent.runs for at in range(a, b, PAGE)}
    assert left == {p: w for p, w in model.items() if w not in came}


class Source:
    """Sends pages in its own order, asked ones first."""

    def __init__(self, order):
        self.order, self.asked, self.questions = list(order), queue.SimpleQueue(), []

    def ask(self, task, page):
        assert task == TASK
        self.questions.append(page)
        self.asked.put(page)

    def next(self):
        while True:
            try:
                page = self.asked.get_nowait()
            except queue.Empty:
                return self.order.pop(0)
            if page in self.order:
                self.order.remove(page)
                return page


def run(script, here, late, begin=lambda: None):
    """What a task and its children say of their memory, some of which comes late.

    ``begin`` returns when the first of it may come.
    """
    store = mmap.mmap(-1, SPACE * PAGE)
    where = ctypes.addressof(ctypes.c_char.from_buffer(store))
    for n in here:
        store[n * PAGE : (n + 1) * PAGE] = content(n)
    with tempfile.TemporaryDirectory() as folder, waiting_task(folder, script) as (task, fill):
        base = int(task.stdout.readline())
        source = Source(base + n * PAGE for n in late)
        feed = Feed(source.ask)
        runs = [(base + n * PAGE, base + (n + 1) * PAGE, where + n * PAGE) for n in here]
        absent = [(base + n * PAGE, base + (n + 1) * PAGE) for n in late]
        fill.begin_with(feed.fillers({TASK: runs}, {TASK: absent}, fill))
        assert feed.owed == len(late) * PAGE

        def send():
            begin()
            while source.order:
                page = source.next()
                n = (page - base) // PAGE
                store[n * PAGE : (n + 1) * PAGE] = content(n)
                feed.came(TASK, [(page, page + PAGE, where + n * PAGE)])

        sender = threading.Thread(target=send)
        sender.start()
        said, _ = task.communicate("go\n", timeout=20)
        sender.join()
        tally = fill.end(10)
    assert feed.owed == 0
    return [json.loads(line) for line in said.splitlines()], tally


@needs_userfaultfd
@unhurried
@given(st.permutations(range(SPACE)), st.integers(0, SPACE), st.integers(0, SPACE), st.data())
def test_memory_is_right_whatever_the_task_does_while_it_still_comes(order, first, last, data):
    here, late = order[: min(first, last)], order[min(first, last) : max(first, last)]
    model, expected, script = Model({*here, *late}), [], []
    for name, *words in data.draw(st.lists(STEPS, max_size=12)):
        if name == "child":
            expected.append(model.said())
        else:
            getattr(model, name)(*words)
        call = f"{name}({', '.join(map(str, words))})"
        script.append(f"if writable({words[0]}): {call}" if name == "put" else call)
    said, tally = run("\n".join(script), here, late)
    assert said == [*expected, model.said()]
    assert tally.problems == []


@needs_userfaultfd
def test_what_comes_at_the_very_end_is_filled_in_too(monkeypatch):
    fill_rest, nothing_left = Filler._fill_rest, threading.Event()

    def and_then_hear_more(filler):
        fill_rest(filler)
        nothing_left.set()
        while filler._feed.owed:
            time.sleep(0.001)
        filler._take_in()

    monkeypatch.setattr(Filler, "_fill_rest", and_then_hear_more)
    said, _ = run("", [], range(SPACE), nothing_left.wait)
    assert said == [Model(range(SPACE)).said()]


@needs_userfaultfd
def test_a_page_that_moved_is_asked_for_by_the_address_it_had():
    said, _ = run("move(2, 5, 1); child()", [0, 1], range(2, SPACE))
    expected = Model(range(SPACE))
    for n in range(2, 7):
        expected.pages[2 * SPACE + 1 + n - 2] = expected.pages.pop(n)
    assert said == [expected.said()] * 2


@needs_userfaultfd
def test_a_question_that_cannot_be_asked_ends_the_service_before_it_reads_zeros():
    ended = threading.Event()

    def ask(task, page):
        assert os.path.exists(f"/proc/{holder.pid}")  # noqa: PTH110
        raise ConnectionError(f"page {page:#x} of {task}: nobody is there")

    with tempfile.TemporaryDirectory() as folder, waiting_task(folder, WAIT) as (holder, fill):
        base = int(holder.stdout.readline())

        def spoil():
            holder.kill()
            ended.set()

        fill.tally.spoil = spoil
        fill.begin_with(Feed(ask).fillers({TASK: []}, {TASK: [(base, base + PAGE)]}, fill))
        said, _ = holder.communicate("go\non\n", timeout=20)
        tally = fill.end(10)
    assert ended.is_set()
    assert said == ""
    assert "nobody is there" in tally.problems[0]


def test_what_is_owed_is_counted_down():
    feed = Feed(lambda task, page: pytest.fail(f"{task} asked for {page}"))
    feed.owed = 3 * PAGE
    feed.came(TASK, [(0, 2 * PAGE, 0)])
    assert feed.owed == PAGE
