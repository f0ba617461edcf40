import math

from hypothesis import given
from hypothesis import strategies as st

from testbed.services.ledger import DATAGRAM_S, HEADER, Answer, Ledger, Row


def sent(ledger, *sequences):
    for sequence in sequences:
        ledger.send(sequence, sequence / 10)


def errors(rows):
    return [(row.sequence, row.error) for row in rows]


@given(st.integers(0, 10**9), st.integers(1, 30))
def test_consecutive_counts_are_right_from_wherever_they_start(start, requests):
    ledger = Ledger()
    sent(ledger, *range(1, requests + 1))
    for n in range(1, requests + 1):
        (row,) = ledger.receive(Answer(n, start + n), n / 10 + 0.01)
        assert not row.error
    assert not ledger.end(100.0)
    assert ledger.all_right
    assert ledger.summary()["answered"] == requests


@given(st.lists(st.integers(0, 40), min_size=2, max_size=20))
def test_exactly_the_counts_that_do_not_follow_are_wrong(counts):
    ledger = Ledger()
    sent(ledger, *range(len(counts)))
    for n, count in enumerate(counts):
        (row,) = ledger.receive(Answer(n, count), 1.0)
        assert bool(row.error) == (n > 0 and count != counts[n - 1] + 1)


def test_a_repeated_and_a_skipped_count_are_named():
    ledger = Ledger()
    sent(ledger, 1, 2, 3)
    ledger.receive(Answer(1, 5), 1.0)
    assert errors(ledger.receive(Answer(2, 5), 1.0)) == [(2, "count 5 instead of 6")]
    assert errors(ledger.receive(Answer(3, 7), 1.0)) == [(3, "count 7 instead of 6")]
    assert not ledger.all_right


def test_an_answer_to_a_later_request_shows_the_earlier_ones_lost():
    ledger = Ledger()
    sent(ledger, 1, 2, 3)
    rows = ledger.receive(Answer(3, 1), 1.0)
    assert [row.sequence for row in rows] == [1, 2, 3]
    assert [bool(row.error) for row in rows] == [True, True, False]
    assert ledger.lost == 2


def test_an_answer_given_twice_is_wrong():
    ledger = Ledger()
    sent(ledger, 1)
    ledger.receive(Answer(1, 1), 1.0)
    assert "which was not asked" in ledger.receive(Answer(1, 2), 1.0)[0].error
    assert ledger.wrong == 1


def test_what_is_not_answered_is_lost_at_the_end():
    ledger = Ledger()
    sent(ledger, 1, 2)
    ledger.receive(Answer(1, 1), 1.0)
    assert errors(ledger.end(4.0)) == [(2, "no answer")]
    assert ledger.longest_gap_s == 3.0
    assert not ledger.all_right


def test_nothing_asked_is_not_all_right():
    assert not Ledger().all_right


@given(st.integers(0, 5), st.integers(0, 8))
def test_after_a_broken_connection_only_what_was_out_may_be_missing(out, jump):
    ledger = Ledger()
    sent(ledger, 1)
    ledger.receive(Answer(1, 10), 1.0)
    sent(ledger, *range(2, 2 + out))
    assert len(ledger.break_off("gone")) == out
    sent(ledger, 50, 51)
    (row,) = ledger.receive(Answer(50, 10 + jump), 2.0)
    assert bool(row.error) != (1 <= jump <= 1 + out)
    (row,) = ledger.receive(Answer(51, 10 + jump + 1), 2.0)
    assert not row.error


@given(lost=st.integers(0, 5), jump=st.integers(0, 8))
def test_a_lost_datagram_may_have_been_counted_or_not(lost, jump):
    ledger = Ledger(datagrams=True)
    sent(ledger, *range(1, 3 + lost))
    ledger.receive(Answer(1, 10), 1.0)
    *gone, row = ledger.receive(Answer(2 + lost, 10 + jump), 2.0)
    assert len(gone) == lost == ledger.lost
    assert bool(row.error) != (1 <= jump <= 1 + lost)
    assert not ledger.all_right or not lost


def test_a_datagram_is_waited_for_some_time_only():
    ledger = Ledger(datagrams=True)
    sent(ledger, 1, 2)
    assert not ledger.expire(DATAGRAM_S - 1)
    assert [row.sequence for row in ledger.expire(DATAGRAM_S + 2)] == [1, 2]
    assert not ledger.outstanding


def test_a_row_has_a_cell_for_each_column():
    row = Row(3, 1.0, 1.25, 0.001, 9)
    cells = dict(zip(HEADER, row.cells(1000.0), strict=True))
    assert cells == {
        "sequence": "3",
        "sent_epoch_s": "1001.000000",
        "answered_epoch_s": "1001.250000",
        "delay_s": "0.250000",
        "processing_s": "0.001000",
        "count": "9",
        "correct": "1",
        "error": "",
    }
    assert all(math.isnan(float(cell)) for cell in Row(3, error="x").cells(5.0)[1:5])
