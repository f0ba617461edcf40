"""Framed messages between the two halves of a migration, over one SSH connection opened ahead.

SSH is the only door into an edge: the source calls the target's half over the data network and
speaks to it through standard input and output. A frame is a JSON head, raw bytes, and a check sum
of both. An empty frame is a beat: it says that the other half lives, however long it is busy.
Whoever hears nothing for `PATIENCE_S`, or whose bytes are not taken for that long, takes the line
for broken, whether it is cut, stalled, or the other half hangs.
"""

import contextlib
import itertools
import json
import os
import select
import struct
import subprocess
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterable
from typing import IO, Any

from .pace import Pace

Buffer = bytes | memoryview
LARGEST_HEAD = 64 << 20
BEAT_S, PATIENCE_S = 1.0, 5.0
LONGEST_CONNECT_S, LONGEST_START_S = 10, 20.0
"""To reach the other edge, and from there to the first beat of its half."""
BUFFERS_AT_ONCE = 64
_LENGTH = struct.Struct("<I")


class ChannelClosedError(ConnectionError):
    """The other half of the migration has gone, or is silent."""


class DamagedError(ValueError):
    """A frame arrived otherwise than it was sent; ``head`` is what it seems to be."""

    def __init__(self, message: str, head: dict[str, Any]) -> None:
        super().__init__(message)
        self.head = head


class Channel:
    """One end of the conversation; counts the bytes it sends and receives."""

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self._reader = reader
        self._writer = writer
        self.sent_bytes = 0
        self.pace = Pace()
        self._writing = threading.Lock()
        self._closed = threading.Event()
        self._alive = False
        self._patience_s = LONGEST_START_S

    def keep_alive(self) -> None:
        """Send beats from now on and expect them, as the other half must do, too.

        Reader and writer must be unbuffered pipes or sockets.
        """
        os.set_blocking(self._writer.fileno(), False)
        self._alive = True
        threading.Thread(target=self._beat, daemon=True).start()

    def close(self) -> None:
        """Send no more beats."""
        self._closed.set()

    def send(self, head: dict[str, Any], parts: Iterable[Buffer] = ()) -> None:
        """Send a head and the bytes that belong to it.

        Raises
        ------
        ChannelClosedError
            If nobody is there any more.
        """
        parts = list(parts)
        text = json.dumps({**head, "size": sum(len(part) for part in parts)}).encode()
        check = zlib.crc32(text)
        for part in parts:
            check = zlib.crc32(part, check)
        began_s = time.monotonic()
        with self._writing:
            try:
                self._write([_LENGTH.pack(len(text)) + text, *parts, _LENGTH.pack(check)])
            except (OSError, ValueError) as error:
                raise ChannelClosedError(
                    f"the other edge does not take any more: {error}"
                ) from error
        size = 8 + len(text) + sum(len(part) for part in parts)
        self.sent_bytes += size
        self.pace.note(size, began_s, time.monotonic())

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """Wait for the next frame.

        Raises
        ------
        ChannelClosedError
            If the other side ended, sent half a frame, or is silent.
        DamagedError
            If the frame is not what was sent.
        """
        while not (length := _LENGTH.unpack(self._exactly(_LENGTH.size))[0]):
            continue  # a beat
        if length > LARGEST_HEAD:
            raise ChannelClosedError(
                f"a frame announces a head of {length} bytes: not our protocol"
            )
        text = self._exactly(length)
        try:
            head: dict[str, Any] = json.loads(text)
            size = int(head["size"])
        except (ValueError, KeyError, TypeError) as error:
            raise ChannelClosedError(f"the head of a frame cannot be read: {error!r}") from error
        data = self._exactly(size)
        (check,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if check != zlib.crc32(data, zlib.crc32(text)):
            raise DamagedError(
                f"{head.get('message', 'an answer')!r} with {size} bytes arrived damaged: "
                "its check sum is wrong",
                head,
            )
        return head, data

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
        """Wait for an answer; what bytes it has are its ``payload``.

        Raises
        ------
        RemoteFailureError, ChannelClosedError
            As `ask`.
        """
        answer, data = self.receive()
        if "error" in answer:
            raise RemoteFailureError(answer["error"], answer.get("log", ""))
        return {**answer, "payload": data} if data else answer

    def is_there(self) -> bool:
        """Tell whether the other half lives now, by its next beat: what was heard may be old."""
        try:
            while select.select([self._reader], [], [], 0)[0]:
                self._exactly(_LENGTH.size)
            self._exactly(_LENGTH.size)
        except ChannelClosedError:
            return False
        return True

    def _exactly(self, size: int) -> bytes:
        pieces, left = [], size
        while left:
            if self._alive and not select.select([self._reader], [], [], self._patience_s)[0]:
                raise ChannelClosedError(
                    f"nothing was heard of the other edge for {self._patience_s:.0f} s: the line "
                    "is broken, or its half of the migration hangs"
                )
            data = self._reader.read(left)
            if data is None:
                continue
            if not data:
                raise ChannelClosedError("the connection to the other edge ended")
            self._patience_s = PATIENCE_S
            pieces.append(data)
            left -= len(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _write(self, parts: list[Buffer]) -> None:
        if not self._alive:
            for part in parts:
                self._writer.write(part)
            self._writer.flush()
            return
        left = deque(memoryview(part).cast("B") for part in parts if len(part))
        while left:
            try:
                taken = os.writev(
                    self._writer.fileno(), list(itertools.islice(left, BUFFERS_AT_ONCE))
                )
            except BlockingIOError:
                if not select.select([], [self._writer], [], PATIENCE_S)[1]:
                    raise TimeoutError(f"it took nothing for {PATIENCE_S:.0f} s") from None
                continue
            while left and taken >= len(left[0]):
                taken -= len(left.popleft())
            if taken:
                left[0] = left[0][taken:]

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_S):
            if self._writing.acquire(blocking=False):  # else it is heard that we live
                try:
                    self._writer.write(_LENGTH.pack(0))
                except (OSError, ValueError):
                    return
                finally:
                    self._writing.release()


class RemoteFailureError(RuntimeError):
    """The other half of the migration failed; ``log`` says why."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class Line:
    """A channel to another edge together with the SSH process that carries it."""

    def __init__(
        self, address: str, command: list[str], *, connect_s: int = LONGEST_CONNECT_S
    ) -> None:
        self.process = subprocess.Popen(
            [
                "ssh",
                *("-o", "BatchMode=yes"),
                *("-o", "StrictHostKeyChecking=yes"),
                *("-o", f"ConnectTimeout={connect_s}"),
                *("-o", "IPQoS=none"),
                *("-c", "aes128-gcm@openssh.com,chacha20-poly1305@openssh.com"),
                f"root@{address}",
                *command,
            ],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if self.process.stdout is None or self.process.stdin is None:  # pragma: no cover
            raise RuntimeError("pipes were asked for")
        self.channel = Channel(self.process.stdout, self.process.stdin)
        self.channel.keep_alive()

    def last_words(self) -> str:
        """What SSH, or the other half's interpreter, said of its own accord."""
        if self.process.stderr is None:  # pragma: no cover
            return ""
        os.set_blocking(self.process.stderr.fileno(), False)
        return (self.process.stderr.read() or b"").decode(errors="replace").strip()[-300:]

    def close(self) -> None:
        """Hang up, even while somebody still listens; the target's half cleans up after itself."""
        self.channel.close()
        if self.process.stdin:
            with contextlib.suppress(OSError):  # what was not sent is not wanted any more
                self.process.stdin.close()
        try:
            self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()
