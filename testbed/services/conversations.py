r"""Servers that answer one message after another: lines, or lengths and contents.

Runs in the containers, where it lies beside ``server.py``; standard library only. Whatever a client
does costs that client only: what cannot be understood is answered with an error and not counted, no
announced length is believed beyond a limit, and where too many are connected, one that has not said
anything whole, or not for longest, is let go.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

MOST_CLIENTS = 64
MOST_FRAME_BYTES = 4_000_000
LONGEST_LINE = 256
Work = Callable[[bytes], dict[str, Any]]
"""What a service does with one message; ValueError says that there is nothing to be done with it.
What was refused is not counted."""


class Counted:
    """A service's work, one message at a time, with the count of all that was done.

    The count is the state that must survive a move (Ngo, section V.A).
    """

    def __init__(self, work: Work) -> None:
        self.count = 0
        self._work = work
        self._turn = threading.Lock()

    def answer(self, content: bytes) -> dict[str, Any]:
        """What the work gives, with ``count`` and ``processing_s``; or ``error`` alone."""
        with self._turn:
            began_s = time.perf_counter()
            try:
                said = self._work(content)
            except ValueError as error:
                return {"error": str(error)}
            self.count += 1
            took_s = round(max(time.perf_counter() - began_s, 0.0), 6)
            return {"count": self.count, "processing_s": took_s, **said}


class Conversation(socketserver.StreamRequestHandler):
    """One client; `hears_on` hears one message and answers it, and says whether to go on."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Answer until the client goes or cannot be understood."""
        while self.hears_on():
            self.server.note_whole(self.request)  # type: ignore[attr-defined]

    def hears_on(self) -> bool:
        """Hear and answer one message."""
        raise NotImplementedError

    def answer(self, content: bytes) -> dict[str, Any]:
        """What the service says to a message."""
        said: dict[str, Any] = self.server.counted.answer(content)  # type: ignore[attr-defined]
        return said


class Frames(Conversation):
    """Length (4 bytes, big-endian) and content there; length and JSON back.

    ``sequence`` in the answer numbers the messages of this connection from 1.
    """

    sequence = 0

    def hears_on(self) -> bool:
        """Hear a frame; after a length beyond the limit nothing can be understood any more."""
        if len(header := self.rfile.read(4)) < 4:  # noqa: PLR2004 - the protocol
            return False
        self.sequence += 1
        (length,) = struct.unpack(">I", header)
        if length > MOST_FRAME_BYTES:
            self._say({"error": f"more than {MOST_FRAME_BYTES} bytes announced"})
            return False
        content = self.rfile.read(length)
        if len(content) < length:
            self._say({"error": f"ended after {len(content)} of {length} bytes"})
            return False
        self._say(self.answer(content))
        return True

    def _say(self, said: dict[str, Any]) -> None:
        text = json.dumps({"sequence": self.sequence, **said}).encode()
        self.wfile.write(struct.pack(">I", len(text)) + text)


class Lines(Conversation):
    r"""``SEQUENCE WORDS\n`` there; ``SEQUENCE JSON\n`` back, or ``error REASON\n``."""

    def hears_on(self) -> bool:
        """Hear a line; one that is too long is skipped to its end."""
        line = self.rfile.readline(LONGEST_LINE + 1)
        if not line:
            return False
        if len(line) > LONGEST_LINE and not line.endswith(b"\n"):
            self.wfile.write(b"error line too long\n")
            while line and not line.endswith(b"\n"):
                line = self.rfile.readline(65536)
            return bool(line)
        if not line.endswith(b"\n"):
            return False
        sequence, _, words = line.strip().partition(b" ")
        said = self.answer(words) if sequence.isdigit() else {"error": "not a sequence number"}
        if "error" in said:
            self.wfile.write(f"error {said['error']}\n".encode())
        else:
            self.wfile.write(sequence + b" " + json.dumps(said).encode() + b"\n")
        return True


class Server(socketserver.ThreadingTCPServer):
    """Listens; a thread for each client, and no clock that a move could upset."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    conversations: ClassVar[dict[str, type[Conversation]]] = {"frames": Frames, "lines": Lines}

    def __init__(self, address: tuple[str, int], work: Work, words: str) -> None:
        super().__init__(address, self.conversations[words])
        self.counted = Counted(work)
        self._lock = threading.Lock()
        self._ticks = 0
        self._heard: dict[socket.socket, tuple[bool, int]] = {}

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a client in; let another one go where there are too many."""
        with self._lock:
            while len(self._heard) >= MOST_CLIENTS:
                quietest = min(self._heard, key=self._heard.__getitem__)
                del self._heard[quietest]
                with contextlib.suppress(OSError):
                    quietest.shutdown(socket.SHUT_RDWR)  # its thread sees the end and closes
            self._ticks += 1
            self._heard[request] = (False, self._ticks)
        super().process_request(request, client_address)

    def note_whole(self, request: Any) -> None:
        """Remember that a client has just said something whole."""
        with self._lock:
            self._ticks += 1
            if request in self._heard:
                self._heard[request] = (True, self._ticks)

    def shutdown_request(self, request: Any) -> None:
        """Forget a client."""
        with self._lock:
            self._heard.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        """Nobody but the client concerned is affected, and it has gone."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(*_)  # type: ignore[arg-type]


def arguments(description: str, port: int) -> argparse.ArgumentParser:
    """The arguments that every server takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--address", default="0.0.0.0")  # noqa: S104 - inside a container
    parser.add_argument("--port", type=int, default=port, help="0 takes a free one and prints it")
    return parser


def serve(work: Work, options: argparse.Namespace, *, words: str = "frames") -> None:
    """Answer for ever; ``words`` is ``frames`` or ``lines``."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with Server((options.address, options.port), work, words) as server:
        if options.port == 0:
            print(server.server_address[1], flush=True)  # noqa: T201 - for tests
        server.serve_forever(poll_interval=60.0)
