"""The user's side of a service: send on a schedule, check every answer, write down what was seen.

A connection of TCP, or datagrams of UDP, where one that is lost is lost and no more.
An open loop: requests go out every interval whether or not the last one was answered, so that a gap
is seen as long as it is. Runs on the user's host with the standard library and
`testbed.services.ledger` only; the clients bring the words of their protocol as a `Codec`.

Rows are those of `ledger.HEADER`. Where something did not happen a number is ``nan`` (a count -1).
A row with sequence -1 whose error begins with `EVENT` says what happened between requests. SIGUSR1
pauses sending, SIGUSR2 lets it go on.
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
from pathlib import Path
from typing import Protocol, TextIO

from testbed.services.ledger import HEADER, Answer, Ledger, Row

__all__ = ["Answer", "Codec", "Probe", "arguments", "run"]
EVENT = "event: "
FLUSH_S = 0.1
LONGEST_WAIT_S = 0.05
FAREWELL_S = 3.0
CONNECT_S = 30.0
RETRY_S = 0.02


class Codec(Protocol):
    """The words of one service's protocol, on one connection at a time."""

    def start(self, sequence: int) -> None:
        """Forget what was heard; ``sequence`` is the first request of a new connection."""

    def request(self, sequence: int) -> bytes:
        """Bytes of one request."""

    def hear(self, content: bytes) -> list[Answer]:
        """Answers that are complete with these bytes."""


class Probe:
    """One connection, kept open, and the loop around it."""

    def __init__(
        self,
        codec: Codec,
        options: argparse.Namespace,
        output: TextIO,
        answers: TextIO | None = None,
    ) -> None:
        self.ledger = Ledger(datagrams=options.datagrams)
        self.stopping = False
        self.pausing = False
        self._paused = False
        self._codec = codec
        self._options = options
        self._epoch_s = time.time() - time.monotonic()
        self._output = output
        self._answers = answers
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
        content = self._codec.request(self._sequence)
        self.ledger.send(self._sequence, now_s)
        if self._options.datagrams and self._connection is not None:
            with contextlib.suppress(OSError):  # nobody there, or no way: it is lost
                self._connection.send(content)
        else:
            self._unsent += content
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
        if self._options.datagrams:
            self._write(self.ledger.expire(time.monotonic()))
        if readable:
            content = self._receive(connection)
            now_s = time.monotonic()
            for answer in self._codec.hear(content):
                self._write(self.ledger.receive(answer, now_s))
                if self._answers is not None and answer.said is not None:
                    line = json.dumps({**answer.said, "sequence": answer.sequence})
                    self._answers.write(line + "\n")
        self._flush()

    def _receive(self, connection: socket.socket) -> bytes:
        try:
            content = connection.recv(1 << 20)
        except ConnectionRefusedError:
            if self._options.datagrams:  # what somebody on the way said of an earlier one
                return b""
            raise
        if not content and not self._options.datagrams:
            raise ConnectionResetError("the service closed the connection")
        return content

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
                connection = self._open(where)
                break
            except OSError as error:
                self._flush()
                if time.monotonic() - began_s > self._options.connect_s:
                    raise ConnectionError(f"{where[0]}:{where[1]} cannot be reached") from error
                time.sleep(RETRY_S)
        else:
            return
        connection.setblocking(False)  # noqa: FBT003 - its only argument
        self._connection, self._unsent = connection, b""
        self._codec.start(self._sequence + 1)
        if self.ledger.sent:
            self.ledger.reconnects += 1
            now_s = time.monotonic()
            self._write(
                [Row(-1, began_s, now_s, error=f"{EVENT}reconnected: {now_s - began_s:.3f} s")]
            )

    def _open(self, where: tuple[str, int]) -> socket.socket:
        if self._options.datagrams:
            connection = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self._knock(connection, where)
            except OSError:
                connection.close()
                raise
            return connection
        connection = socket.create_connection(where, timeout=1.0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _knock(self, connection: socket.socket, where: tuple[str, int]) -> None:
        """Wait until anything answers: an empty line is no request, and is not counted."""
        connection.connect(where)
        connection.settimeout(1.0)
        connection.send(b"\n")
        connection.recv(1 << 16)

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
    description: str, *, interval_s: float, most_outstanding: int, datagrams: bool = False
) -> argparse.ArgumentParser:
    """The arguments that every client takes; ``datagrams`` where the service speaks UDP."""
    parser = argparse.ArgumentParser(description=description)
    parser.set_defaults(datagrams=datagrams)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--interval-s", type=float, default=interval_s, help="between two requests")
    parser.add_argument("--output", type=Path, help="CSV file for a row per request")
    parser.add_argument("--answers", type=Path, help="file for all that was said, a JSON per line")
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
    with contextlib.ExitStack() as files:
        rows = options.output or Path("/dev/null")
        output = files.enter_context(rows.open("w", encoding="utf-8", newline=""))
        answers = options.answers
        if answers is not None:
            answers = files.enter_context(answers.open("w", encoding="utf-8"))
        probe = Probe(codec, options, output, answers)

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
