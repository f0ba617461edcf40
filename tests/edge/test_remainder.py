from hypothesis import given
from hypothesis import strategies as st

from testbed.edge.pages import PAGE, divide, joined
from testbed.edge.remainder import (
    FIRST_WINDOW,
    LARGEST_WINDOW,
    LEAST_WINDOW,
    QUEUE_S,
    Remainder,
    Window,
)

TASKS = (7, 8)
PLACES = st.integers(0, 60)
SPANS = st.lists(st.tuples(PLACES, st.integers(1, 12)), max_size=8).map(
    lambda made: [(a * PAGE, (a + n) * PAGE) for a, n in made]
)


def pages(spans):
    return {at for a, b in spans for at in range(a, b, PAGE)}


@given(st.tuples(SPANS, SPANS), st.data())
def test_every_page_is_handed_out_once_whatever_is_asked_for_meanwhile(made, data):
    remainder = Remainder(dict(zip(TASKS, made, strict=True)))
    left = {task: pages(spans) for task, spans in zip(TASKS, made, strict=True)}

    def note(task, spans, within):
        got = [at for a, b in spans for at in range(a, b, PAGE)]
        assert len(got) == len(set(got))
        assert set(got) == left[task] & within if within is not None else set(got) <= left[task]
        left[task] -= set(got)

    while remainder:
        kind = data.draw(st.sampled_from(["next", "take", "around"]))
        task, place = data.draw(st.sampled_from(TASKS)), data.draw(PLACES)
        if kind == "next":
            task, spans = remainder.next(4 * PAGE)
            assert 0 < sum(b - a for a, b in spans) <= 4 * PAGE
            note(task, spans, None)
        elif kind == "take":
            within = pages([(place * PAGE, (place + 5) * PAGE)])
            note(task, remainder.take(task, place * PAGE, (place + 5) * PAGE), within)
        else:
            block = place // 4 * 4 * PAGE
            spans = remainder.around(task, place * PAGE, 4 * PAGE)
            note(task, spans, pages([(block, block + 4 * PAGE)]))
    assert not any(left.values())
    assert remainder.next(PAGE)[1] == []


def test_after_a_question_its_neighbours_come_first():
    remainder = Remainder({7: [(0, 100 * PAGE)], 8: [(0, 100 * PAGE)]})
    assert remainder.next(2 * PAGE) == (7, [(0, 2 * PAGE)])
    assert remainder.around(8, 42 * PAGE + 5, 4 * PAGE) == [(40 * PAGE, 44 * PAGE)]
    assert remainder.next(8 * PAGE) == (8, [(44 * PAGE, 52 * PAGE)])


@given(SPANS, PLACES, st.integers(1, 30))
def test_a_range_is_divided_at_the_borders_of_spans(made, start, length):
    spans, end = joined(made), start + length
    pieces = list(divide(start * PAGE, end * PAGE, spans))
    assert [a for a, _, __ in pieces] == [start * PAGE, *(b for _, b, __ in pieces[:-1])]
    assert pieces[-1][1] == end * PAGE
    inside = pages((a, b) for a, b, within in pieces if within)
    assert inside == pages(spans) & pages([(start * PAGE, end * PAGE)])


def test_the_window_grows_while_nothing_queues_and_shrinks_when_it_does():
    window, now_s = Window(), 0.0
    for _ in range(200):  # a link that takes everything in 10 ms
        while window.is_open:
            window.sent(64 << 10, now_s)
        now_s += 0.01
        while window:
            window.taken(now_s)
    assert window.size == LARGEST_WINDOW
    for _ in range(200):  # and now stands full
        while window.is_open:
            window.sent(64 << 10, now_s)
        now_s += 0.01 + 2 * QUEUE_S
        while window:
            window.taken(now_s)
    assert window.size == LEAST_WINDOW


def test_a_window_that_is_not_used_does_not_grow():
    window = Window()
    for second in range(100):
        window.sent(1 << 10, second)
        window.taken(second + 0.01)
    assert window.size == FIRST_WINDOW
