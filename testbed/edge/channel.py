"""Framed messages between the two halves of a migration, over one SSH connection opened ahead.

SSH is the only door into an edge: the source calls the target's half over the data network and
speaks to it through standard input and output. A frame is a JSON head and raw bytes.
"""

import contextlib
import json
import math
import signal
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

Buffer = bytes | memoryview
LARGEST_HEAD = 64 << 20
ENOUGH_TO_TELL_BYTES = 8 << 20
"""More than what buffers on the way swallow at once."""


class ChannelClosedError(ConnectionError):
    """The other half of the migration has gone."""


class Channel:
    """One end of the conversation; counts the bytes it sends and receives."""

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self._reader = reader
        self._writer = writer
        self._sending = threading.Lock()
        self.sent_bytes = 0
        self._lately: deque[tuple[int, float]] = deque()
        self._lately_bytes = 0

    def send(self, head: dict[str, Any], parts: Iterable[Buffer] = ()) -> None:
        """Send a head and the bytes that belong to it.

        Raises
        ------
        ChannelClosedError
            If nobody is there any more.
        """
        parts = list(parts)
        began_s = time.monotonic()
        text = json.dumps({**head, "size": sum(len(part) for part in parts)}).encode()
        try:
            with self._sending:
                self._writer.write(struct.pack("<I", len(text)) + text)
                for part in parts:
                    self._writer.write(part)
                self._writer.flush()
        except (OSError, ValueError) as error:
            raise ChannelClosedError(f"the other edge does not take any more: {error}") from error
        size = 4 + len(text) + sum(len(part) for part in parts)
        self.sent_bytes += size
        self._remember(size, time.monotonic() - began_s)

    @property
    def taken_bytes_per_s(self) -> float:
        """How fast the other side has taken bytes lately; infinite before there were enough."""
        if self._lately_bytes < ENOUGH_TO_TELL_BYTES:
            return math.inf
        return self._lately_bytes / max(sum(took_s for _, took_s in self._lately), 1e-9)

    def _remember(self, size: int, took_s: float) -> None:
        self._lately.append((size, took_s))
        self._lately_bytes += size
        while self._lately_bytes - self._lately[0][0] > ENOUGH_TO_TELL_BYTES:
            self._lately_bytes -= self._lately.popleft()[0]

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """Wait for the next frame.

        Raises
        ------
        ChannelClosedError
            If the other side ended or sent half a frame.
        """
        (length,) = struct.unpack("<I", self._exactly(4))
        if length > LARGEST_HEAD:
            raise ChannelClosedError(
                f"a frame announces a head of {length} bytes: not our protocol"
            )
        head: dict[str, Any] = json.loads(self._exactly(length))
        return head, self._exactly(head["size"])

    def ask(self, head: dict[str, Any], parts: Iterable[Buffer] = ()) -> dict[str, Any]:
        """Send a frame and wait for its answer.

        Raises
        ------
        RemoteFailureError
            If the other half answers with an error.
        ChannelClosedError
            If it does not answer.
        """
        self.send(head, parts)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Wait for an answer.

        Raises
        ------
        RemoteFailureError, ChannelClosedError
            As `ask`.
        """
        answer, _ = self.receive()
        if "error" in answer:
            raise RemoteFailureError(answer["error"], answer.get("log", ""))
        return answer

    def _exactly(self, size: int) -> bytes:
        data = self._reader.read(size)
        if data is None or len(data) < size:
            raise ChannelClosedError("the connection to the other edge ended")
        return data


class RemoteFailureError(RuntimeError):
    """The other half of the migration failed; ``log`` says why."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class Line:
    """A channel to another edge together with the SSH process that carries it."""

    def __init__(self, address: str, command: list[str]) -> None:
        self.process = subprocess.Popen(
            [
                "ssh",
                *("-o", "BatchMode=yes"),
                *("-o", "StrictHostKeyChecking=yes"),
                *("-o", "ConnectTimeout=10"),
                *("-o", "ServerAliveInterval=2"),
                *("-o", "ServerAliveCountMax=5"),
                *("-o", "IPQoS=none"),
                *("-c", "aes128-gcm@openssh.com,chacha20-poly1305@openssh.com"),
                f"root@{address}",
                *command,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if self.process.stdout is None or self.process.stdin is None:  # pragma: no cover
            raise RuntimeError("pipes were asked for")
        self.channel = Channel(self.process.stdout, self.process.stdin)

    def hang_up(self) -> None:
        """Say no more; the target's half notices and cleans up after itself."""
        if self.process.stdin:
            with contextlib.suppress(OSError):  # what was not sent is not wanted any more
                self.process.stdin.close()

    def close(self) -> None:
        """Hang up and let the line go, even while somebody still listens to it."""
        self.hang_up()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


@contextlib.contextmanager
def patience(longest_s: float, is_due: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """End a block that takes longer: who keeps silent has gone. 0: never.

    Parameters
    ----------
    longest_s : float
        How long it may take.
    is_due : callable
        Asked then: False begins the time anew.

    Raises
    ------
    ChannelClosedError
        If it takes longer.
    """

    def give_up(*_: Any) -> None:
        if is_due():
            raise ChannelClosedError(f"nothing came for {longest_s:.0f} s")

    if not longest_s:
        yield
        return
    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, longest_s, longest_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
