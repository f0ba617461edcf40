import pytest

from testbed.edge.pace import GUESS_BYTES_PER_S, SWALLOWED_BYTES, Pace

BUFFERED = 4 << 20
FRAME = 256 << 10
MEMORY_BYTES_PER_S = 500e6


class Link:
    """A link of some rate behind a buffer, by a clock of its own."""

    def __init__(self, bytes_per_s):
        self.bytes_per_s = bytes_per_s
        self.now_s = self.full = 0.0
        self.pace = Pace()

    def rest(self, seconds):
        self.now_s += seconds
        self.full = max(0.0, self.full - seconds * self.bytes_per_s)

    def write(self, size):
        began_s = self.now_s
        self.rest(size / MEMORY_BYTES_PER_S)
        self.full += size
        if self.full > BUFFERED:
            self.rest((self.full - BUFFERED) / self.bytes_per_s)
        self.pace.note(size, began_s, self.now_s)

    def stream(self, total, between_s):
        """Frames one after the other, each made in so much time; then a rest."""
        for _ in range(0, total, FRAME):
            self.rest(between_s)
            self.write(FRAME)
        self.pace.pause()
        self.rest(10)


@pytest.mark.parametrize("rate", [2.5e6, 12.5e6, 40e6, 125e6])
@pytest.mark.parametrize("busy", [0.0, 0.3, 0.7])
def test_a_link_that_is_slower_than_its_sender_is_told_exactly(rate, busy):
    link = Link(rate)
    link.stream(100 << 20, between_s=busy * FRAME / rate)
    assert link.pace.bytes_per_s == pytest.approx(rate, rel=0.25)


def test_a_link_that_is_never_full_is_trusted_with_more():
    link = Link(2e9)
    link.stream(100 << 20, between_s=FRAME / 50e6)
    assert link.pace.bytes_per_s > 200e6


@pytest.mark.parametrize("rate", [2.5e6, 12.5e6])
def test_what_buffers_swallow_after_every_rest_does_not_make_a_link_fast(rate):
    link = Link(rate)
    link.stream(40 << 20, between_s=0.0)
    for _ in range(20):
        link.stream(1 << 20, between_s=0.0)
    assert link.pace.bytes_per_s == pytest.approx(rate, rel=0.25)


def test_before_anything_was_sent_there_is_a_guess_which_little_does_not_change():
    link = Link(1e9)
    assert link.pace.bytes_per_s == GUESS_BYTES_PER_S
    link.stream(SWALLOWED_BYTES // 2, between_s=0.0)
    assert link.pace.bytes_per_s == GUESS_BYTES_PER_S


def test_a_link_that_becomes_slower_is_noticed_at_once_and_a_faster_one_soon():
    link = Link(40e6)
    link.stream(60 << 20, between_s=0.0)
    link.bytes_per_s = 5e6
    link.stream(12 << 20, between_s=0.0)
    assert link.pace.bytes_per_s == pytest.approx(5e6, rel=0.25)
    link.bytes_per_s = 40e6
    link.stream(60 << 20, between_s=0.0)
    assert link.pace.bytes_per_s == pytest.approx(40e6, rel=0.25)
