"""The user's side of a service: send on a schedule, check every answer, write down what was seen.

An open loop: requests go out every interval whether or not the last one was answered, so that a gap
is seen as long as it is. Runs on the user's host with the standard library only and imports nothing
of ours; the clients bring the words of their protocol as a `Codec`.

Rows are those of `HEADER`. Where something did not happen a number is ``nan`` (a count -1). A row
with sequence -1 whose error begins with `EVENT` says what happened between requests. SIGUSR1 pauses
sending, SIGUSR2 lets it go on.
"""

import argparse
import contextlib
import csv
import json
import math
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TextIO

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
EVENT = "event: "
FLUSH_S = 0.1
LONGEST_WAIT_S = 0.05
FAREWELL_S = 3.0
CONNECT_S = 30.0
RETRY_S = 0.02


@dataclass(frozen=True)
class Answer:
    """What a service said: -1 for a number it did not say, ``problem`` where it is wrong."""

    sequence: int
    count: int
    processing_s: float = NAN
    problem: str = ""


class Codec(Protocol):
    """The words of one service's protocol, on one connection at a time."""

    def start(self, sequence: int) -> None:
        """Forget what was heard; ``sequence`` is the first request of a new connection."""

    def request(self, sequence: int) -> bytes:
        """Bytes of one request."""

    def hear(self, content: bytes) -> list[Answer]:
        """Answers that are complete with these bytes."""


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
    """Which requests are out, what the next count must be, and whether all was right so far."""

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


class Probe:
    """One connection, kept open, and the loop around it."""

    def __init__(self, codec: Codec, options: argparse.Namespace, output: TextIO) -> None:
        self.ledger = Ledger()
        self.stopping = False
        self.pausing = False
        self._paused = False
        self._codec = codec
        self._options = options
        self._epoch_s = time.time() - time.monotonic()
        self._output = output
        self._rows = csv.writer(output, lineterminator="\n")
        self._rows.writerow(HEADER)
        self._flushed_s = -math.inf
        self._sequence = 0
        self._unsent = b""
        self._connection: socket.socket | None = None

    def run(self) -> None:
        """Go on until asked to stop, or until the connection cannot be had any more."""
        deadline_s = math.inf
        due_s = time.monotonic()
        try:
            while True:
                now_s = time.monotonic()
                if self.stopping:
                    deadline_s = min(deadline_s, now_s + FAREWELL_S)
                    if not self.ledger.outstanding or now_s >= deadline_s:
                        break
                if self._connection is None:
                    self._connect()
                    continue
                self._note_pause(now_s)
                if now_s >= due_s and self._may_send():
                    self._send(now_s)
                    due_s = max(due_s + self._options.interval_s, now_s)
                try:
                    self._exchange(self._wait_s(due_s))
                except OSError as error:
                    self._lose_connection(error)
                    if not self._options.reconnect:
                        break
        finally:
            self._write(self.ledger.end(time.monotonic()))
            self._output.flush()
            if self._connection is not None:
                self._connection.close()

    def _note_pause(self, now_s: float) -> None:
        """Say when nothing is out any more, and when sending goes on."""
        if self.pausing and not self._paused and not self.ledger.outstanding:
            self._paused = True
            self._write([Row(-1, now_s, now_s, error=EVENT + "paused, nothing is out")])
            self._output.flush()
        elif self._paused and not self.pausing:
            self._paused = False
            self._write([Row(-1, now_s, now_s, error=EVENT + "going on")])

    def _may_send(self) -> bool:
        if self.pausing:
            return False
        return not self.stopping and len(self.ledger.outstanding) < self._options.most_outstanding

    def _wait_s(self, due_s: float) -> float:
        if not self._may_send():
            return LONGEST_WAIT_S
        return min(max(due_s - time.monotonic(), 0.0), LONGEST_WAIT_S)

    def _send(self, now_s: float) -> None:
        self._sequence += 1
        self._unsent += self._codec.request(self._sequence)
        self.ledger.send(self._sequence, now_s)
        if self._options.requests and self._sequence >= self._options.requests:
            self.stopping = True

    def _exchange(self, wait_s: float) -> None:
        """Send what can be sent, wait for answers at most ``wait_s``, take them in."""
        connection = self._connection
        assert connection is not None  # noqa: S101 - run() sees to it
        if self._unsent:
            with contextlib.suppress(BlockingIOError):
                self._unsent = self._unsent[connection.send(self._unsent) :]
        writers = [connection] if self._unsent else []
        readable, _, _ = select.select([connection], writers, [], wait_s)
        if readable:
            content = connection.recv(1 << 20)
            now_s = time.monotonic()
            if not content:
                raise ConnectionResetError("the service closed the connection")
            for answer in self._codec.hear(content):
                self._write(self.ledger.receive(answer, now_s))
        self._flush()

    def _connect(self) -> None:
        """Connect, trying again while the service is not there.

        Raises
        ------
        ConnectionError
            If it is not there for `CONNECT_S`.
        """
        began_s = time.monotonic()
        while not self.stopping:
            try:
                where = (self._options.address, self._options.port)
                connection = socket.create_connection(where, timeout=1.0)
                break
            except OSError as error:
                self._flush()
                if time.monotonic() - began_s > self._options.connect_s:
                    raise ConnectionError(f"{where[0]}:{where[1]} cannot be reached") from error
                time.sleep(RETRY_S)
        else:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)  # noqa: FBT003 - its only argument
        self._connection, self._unsent = connection, b""
        self._codec.start(self._sequence + 1)
        if self.ledger.sent:
            self.ledger.reconnects += 1
            now_s = time.monotonic()
            self._write(
                [Row(-1, began_s, now_s, error=f"{EVENT}reconnected: {now_s - began_s:.3f} s")]
            )

    def _lose_connection(self, error: OSError) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._write(self.ledger.break_off(f"connection lost: {error.strerror or error}"))

    def _write(self, rows: list[Row]) -> None:
        for row in rows:
            self._rows.writerow(row.cells(self._epoch_s))

    def _flush(self) -> None:
        now_s = time.monotonic()
        if now_s - self._flushed_s >= FLUSH_S:
            self._output.flush()
            self._flushed_s = now_s


def arguments(
    description: str, *, interval_s: float, most_outstanding: int
) -> argparse.ArgumentParser:
    """The arguments that every client takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--interval-s", type=float, default=interval_s, help="between two requests")
    parser.add_argument("--output", type=Path, help="CSV file for a row per request")
    parser.add_argument("--requests", type=int, default=0, help="stop after so many; 0: never")
    parser.add_argument(
        "--most-outstanding",
        type=int,
        default=most_outstanding,
        help="unanswered requests at which sending pauses",
    )
    parser.add_argument("--reconnect", action="store_true", help="go on after a broken connection")
    parser.add_argument("--connect-s", type=float, default=CONNECT_S, help="longest try to connect")
    return parser


def run(codec: Codec, options: argparse.Namespace) -> int:
    """Run a client until SIGTERM or SIGINT; print the summary and return the exit code."""
    with (options.output or Path("/dev/null")).open("w", encoding="utf-8", newline="") as output:
        probe = Probe(codec, options, output)

        def stop(*_: object) -> None:
            probe.stopping = True

        def pause(number: int, _: object) -> None:
            probe.pausing = number == signal.SIGUSR1

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        before |= {n: signal.signal(n, pause) for n in (signal.SIGUSR1, signal.SIGUSR2)}
        try:
            probe.run()
        except ConnectionError as error:
            print(error, file=sys.stderr)  # noqa: T201 - for the one who started it
        finally:
            _restore(before)
    print(json.dumps(probe.ledger.summary()), flush=True)  # noqa: T201 - the interface
    return 0 if probe.ledger.all_right else 1


def _restore(handlers: dict[signal.Signals, Callable[..., object] | int | None]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
