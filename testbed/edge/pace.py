"""How fast a link takes bytes, told from how long it took to write into it.

Buffers on the way swallow the first megabytes after every pause, and go on being emptied while
nobody writes. So a stretch in which writing took most of the time tells the link's own rate: what
went, over all the time that passed. Where writing hardly took time, whoever makes the bytes is the
slower one: the link is faster than that, how much is found by trusting it with more.
"""

GUESS_BYTES_PER_S = 60e6
"""Before anything was sent. A slower link is noticed at once, a faster one after a while."""
SWALLOWED_BYTES = 6 << 20
"""More than what buffers on the way take at once after a pause."""
STRETCH_BYTES, STRETCH_S = 1 << 20, 0.2
BUSY_SHARE = 0.25
GROWTH = 1.5


class Pace:
    """The rate of one link, in one direction."""

    def __init__(self) -> None:
        self.bytes_per_s = GUESS_BYTES_PER_S
        self.pause()

    def pause(self) -> None:
        """Nothing is to be sent for a while: the time until it goes on tells nothing."""
        self._since_pause = 0
        self._begin_s: float | None = None
        self._size, self._writing_s = 0, 0.0

    def note(self, size: int, began_s: float, ended_s: float) -> None:
        """Take in that writing ``size`` bytes took from ``began_s`` to ``ended_s``."""
        if self._begin_s is None:
            self._begin_s = began_s
        self._since_pause += size
        self._size += size
        self._writing_s += ended_s - began_s
        took_s = ended_s - self._begin_s
        if self._size < STRETCH_BYTES and (took_s < STRETCH_S or self._size < STRETCH_BYTES // 16):
            return
        at_least = self._size / max(took_s, 1e-9)
        at_most = self._size / max(self._writing_s, 1e-9)
        if self._writing_s >= BUSY_SHARE * took_s:
            told = at_least
        else:
            told = min(at_most, max(at_least, GROWTH * self.bytes_per_s))
        if told < self.bytes_per_s or self._since_pause > SWALLOWED_BYTES:
            self.bytes_per_s = told
        self._begin_s, self._size, self._writing_s = ended_s, 0, 0.0
