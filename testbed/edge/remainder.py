"""What is still to be sent of a service that lives at the target already, and how fast. Pure.

Pages the service asks for overtake all others. So what is on its way at once is kept small: it
would stand before them in the buffers of SSH, TCP and the link.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Mapping

from .pages import Span, joined

FIRST_WINDOW, LEAST_WINDOW, LARGEST_WINDOW = 256 << 10, 64 << 10, 4 << 20
QUEUE_S = 0.02
"""How long what is asked for may stand behind the rest."""


class Remainder:
    """Pages that are still to be sent; each is handed out once.

    Parameters
    ----------
    spans : mapping of int to iterable of Span
        For each task.
    """

    def __init__(self, spans: Mapping[int, Iterable[Span]]) -> None:
        self._spans = {task: joined(there) for task, there in spans.items()}
        self._cursor = (next(iter(self._spans), 0), 0)

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return any(self._spans.values())

    def take(self, task: int, start: int, end: int) -> list[Span]:
        """Hand out what is left of a range."""
        spans = self._spans.get(task, [])
        low = bisect_right(spans, start, key=lambda span: span[1])
        high = bisect_left(spans, end, key=lambda span: span[0])
        touched = spans[low:high]
        if not touched:
            return []
        first, last = touched[0][0], touched[-1][1]
        rest = [(first, start)] if first < start else []
        rest += [(end, last)] if end < last else []
        spans[low:high] = rest
        return [(max(a, start), min(b, end)) for a, b in touched]

    def around(self, task: int, address: int, size: int) -> list[Span]:
        """Hand out the block of ``size`` bytes that an address lies in; go on behind it."""
        start = address // size * size
        self._cursor = (task, start + size)
        return self.take(task, start, start + size)

    def next(self, size: int) -> tuple[int, list[Span]]:
        """Hand out about ``size`` bytes of one task, from where the last ones were."""
        task, at = self._cursor
        if not self._spans.get(task):
            task = next((task for task, spans in self._spans.items() if spans), task)
            at = 0
        spans = self._spans.get(task, [])
        if not spans:
            return task, []
        number = bisect_right(spans, at, key=lambda span: span[1])
        if number == len(spans):
            number, at = 0, 0
        begin = max(at, spans[number][0])
        stop, left = begin, size
        for a, b in spans[number:]:
            stop = min(b, max(a, begin) + left)
            left -= stop - max(a, begin)
            if left <= 0:
                break
        self._cursor = (task, stop)
        return task, self.take(task, begin, stop)


class Window:
    """How much may be on its way at once: more while nothing queues up, less when it does.

    As LEDBAT does (RFC 6817): what takes longer than the shortest time ever seen has stood in a
    queue.
    """

    def __init__(self) -> None:
        self.size = FIRST_WINDOW
        self._sent: deque[tuple[int, float]] = deque()
        self._on_the_way = 0
        self._shortest_s = float("inf")

    def __bool__(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._sent)

    @property
    def is_open(self) -> bool:
        """Whether more may be sent now."""
        return self._on_the_way < self.size

    def sent(self, size: int, at_s: float) -> None:
        """So many bytes were sent now."""
        self._sent.append((size, at_s))
        self._on_the_way += size

    def taken(self, at_s: float) -> None:
        """The other side has taken what was sent first of all that is on its way."""
        size, sent_s = self._sent.popleft()
        was_full = 2 * self._on_the_way > self.size
        self._on_the_way -= size
        self._shortest_s = min(self._shortest_s, at_s - sent_s)
        queued_s = at_s - sent_s - self._shortest_s
        if queued_s > QUEUE_S:
            self.size = max(LEAST_WINDOW, self.size - size // 2)
        elif was_full and queued_s < QUEUE_S / 2:
            self.size = min(LARGEST_WINDOW, self.size + size)
