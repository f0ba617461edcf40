"""What a client writes down: requests, answers, and whether every count was right.

Standard library only: it lies beside `testbed.services.probe` on the user's host.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HEADER = (
    "sequence",
    "sent_epoch_s",
    "answered_epoch_s",
    "delay_s",
    "processing_s",
    "count",
    "correct",
    "error",
)
NAN = math.nan
DATAGRAM_S = 5.0
"""After this time a datagram is taken for lost."""


@dataclass(frozen=True)
class Answer:
    """What a service said: -1 for a number it did not say, ``problem`` where it is wrong.

    said : all of it, where it is to be kept.
    """

    sequence: int
    count: int
    processing_s: float = NAN
    problem: str = ""
    said: Mapping[str, Any] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Row:
    """One request and its answer; times on the monotonic clock, seconds."""

    sequence: int
    sent_s: float = NAN
    answered_s: float = NAN
    processing_s: float = NAN
    count: int = -1
    error: str = ""

    def cells(self, epoch_s: float) -> list[str]:
        """As written to the file; ``epoch_s`` is what the epoch is ahead of the clock."""
        times = (self.sent_s + epoch_s, self.answered_s + epoch_s)
        numbers = (*times, self.answered_s - self.sent_s, self.processing_s)
        said = ["nan" if math.isnan(number) else f"{number:.6f}" for number in numbers]
        return [str(self.sequence), *said, str(self.count), str(int(not self.error)), self.error]


@dataclass
class Ledger:
    """Which requests are out, what the next count must be, and whether all was right so far.

    datagrams : a lost request may have been counted or not, and no connection broke.
    """

    datagrams: bool = False
    outstanding: dict[int, float] = field(default_factory=dict)
    sent: int = 0
    answered: int = 0
    wrong: int = 0
    lost: int = 0
    reconnects: int = 0
    longest_gap_s: float = 0.0
    _last_count: int | None = None
    _last_right_s: float | None = None
    _slack: int = 0

    def send(self, sequence: int, now_s: float) -> None:
        """A request goes out."""
        self.outstanding[sequence] = now_s
        self.sent += 1

    def receive(self, answer: Answer, now_s: float) -> list[Row]:
        """An answer came in: rows for it, and for requests it shows to be lost."""
        waiting = list(self.outstanding)
        sequence = answer.sequence
        if sequence == -1 and waiting:  # it does not say to what; answers come in order
            sequence = waiting[0]
        if sequence not in self.outstanding:
            self.wrong += 1
            unasked = f"an answer to {sequence}, which was not asked"
            error = answer.problem if sequence == -1 and answer.problem else unasked
            return [Row(sequence, NAN, now_s, answer.processing_s, answer.count, error)]
        rows = []
        for earlier in waiting[: waiting.index(sequence)]:
            rows += self._lose(earlier, "no answer: a later one came first")
        sent_s = self.outstanding.pop(sequence)
        problem = answer.problem or self._miscount(answer.count)
        if answer.count >= 0:
            self._last_count, self._slack = answer.count, 0
        self.answered += 1
        if problem:
            self.wrong += 1
        else:
            self._gap_ends(now_s)
            self._last_right_s = now_s
        rows.append(Row(sequence, sent_s, now_s, answer.processing_s, answer.count, problem))
        return rows

    def break_off(self, reason: str) -> list[Row]:
        """The connection is gone, and with it every answer that was outstanding."""
        waiting = list(self.outstanding)
        # Nobody knows which of them the service had still counted: so many counts may be missing.
        self._slack += len(waiting)
        return [row for sequence in waiting for row in self._lose(sequence, reason)]

    def expire(self, now_s: float) -> list[Row]:
        """Rows for datagrams that nobody will answer any more."""
        old = [n for n, sent_s in self.outstanding.items() if now_s - sent_s > DATAGRAM_S]
        return [row for n in old for row in self._lose(n, "no answer: the datagram was lost")]

    def end(self, now_s: float) -> list[Row]:
        """Nothing is waited for any more."""
        if self.outstanding:
            self._gap_ends(now_s)
        waiting = list(self.outstanding)
        return [row for sequence in waiting for row in self._lose(sequence, "no answer")]

    @property
    def all_right(self) -> bool:
        """Whether every request was answered, and rightly."""
        return not self.wrong and not self.lost and self.answered > 0

    def summary(self) -> dict[str, float]:
        """What is printed at the end."""
        return {
            "sent": self.sent,
            "answered": self.answered,
            "wrong": self.wrong,
            "lost": self.lost,
            "reconnects": self.reconnects,
            "longest_gap_s": round(self.longest_gap_s, 6),
        }

    def _lose(self, sequence: int, reason: str) -> list[Row]:
        self.lost += 1
        self._slack += self.datagrams
        return [Row(sequence, self.outstanding.pop(sequence), error=reason)]

    def _miscount(self, count: int) -> str:
        if self._last_count is None:
            return ""
        least, most = self._last_count + 1, self._last_count + 1 + self._slack
        if least <= count <= most:
            return ""
        return f"count {count} instead of {least}" + (f" to {most}" if most > least else "")

    def _gap_ends(self, now_s: float) -> None:
        if self._last_right_s is not None:
            self.longest_gap_s = max(self.longest_gap_s, now_s - self._last_right_s)
