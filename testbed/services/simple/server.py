r"""A server that counts requests, and may hold and rewrite memory. Standard library only.

A request is ``SEQUENCE\n``, its answer ``SEQUENCE COUNT PROCESSING_US\n``; COUNT goes up by one
with every request of any client. ``checksum\n`` is answered with ``checksum CRC32 BYTES\n`` of the
half of the memory that is never rewritten. Anything else is answered with ``error REASON\n`` and
not counted.

One process, one thread, no open file but sockets: easy to freeze and to thaw, also on a machine
with another clock.
"""

import argparse
import contextlib
import os
import selectors
import signal
import socket
import time
import zlib

LONGEST_LINE = 64
CHUNK_BYTES = 1 << 20
PAGE_BYTES = 4096
LONGEST_PAUSE_S = 0.1
TICK_S = 0.01
MOST_WAITING_BYTES = 1 << 20
MOST_CLIENTS = 64


class Memory:
    """Random content of which the first half stays as it is and the second is rewritten.

    Parameters
    ----------
    size_mb : float
        Megabytes (10^6 bytes) to hold.
    rewrite_mb_per_s : float
        Megabytes to rewrite per second.
    """

    def __init__(self, size_mb: float, rewrite_mb_per_s: float) -> None:
        pages = int(size_mb * 1e6) // PAGE_BYTES
        self.content = bytearray(pages * PAGE_BYTES)
        view = memoryview(self.content)
        for start in range(0, len(view), CHUNK_BYTES):
            piece = view[start : start + CHUNK_BYTES]
            piece[:] = os.urandom(len(piece))
        self.static_bytes = pages // 2 * PAGE_BYTES
        self.rate = rewrite_mb_per_s * 1e6 if pages else 0.0
        self._next = self.static_bytes
        self._owed = 0.0
        self._then = time.monotonic()

    def rewrite(self) -> None:
        """Rewrite as many pages as are due since the last call."""
        now = time.monotonic()
        # After a move the clock may be another machine's: neither backwards nor all at once.
        passed = min(max(now - self._then, 0.0), LONGEST_PAUSE_S)
        self._then = now
        self._owed += passed * self.rate
        while self._owed >= PAGE_BYTES:
            self.content[self._next : self._next + PAGE_BYTES] = os.urandom(PAGE_BYTES)
            self._next += PAGE_BYTES
            if self._next >= len(self.content):
                self._next = self.static_bytes
            self._owed -= PAGE_BYTES


class Peer:
    """One client: what it has said that is not a line yet, and what it has not taken yet."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.heard = b""
        self.unsent = b""
        self.skipping = False
        self.waiting = False
        self.spoke = (False, 0)


class Server:
    """Counts requests; ``count`` is the state that must survive a move."""

    def __init__(self, listener: socket.socket, memory: Memory) -> None:
        self.count = 0
        self.memory = memory
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._checksums: list[tuple[Peer, int, int]] = []
        self._peers: list[Peer] = []
        self._ticks = 0
        listener.setblocking(False)  # noqa: FBT003 - its only argument
        self._selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> None:
        """Answer for ever."""
        while True:
            self.turn()

    def turn(self) -> None:
        """Wait for something to do, and do it."""
        busy = bool(self._checksums)
        timeout = 0.0 if busy else TICK_S if self.memory.rate else None
        for key, events in self._selector.select(timeout):
            peer = key.data
            if peer is None:
                self._accept()
                continue
            try:
                if events & selectors.EVENT_READ:
                    self._hear(peer)
                self._say(peer, b"")
            except OSError:
                self._forget(peer)
        if self.memory.rate:
            self.memory.rewrite()
        if self._checksums:
            self._go_on_summing()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.setblocking(False)  # noqa: FBT003 - its only argument
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self._peers) >= MOST_CLIENTS:  # let go who has said nothing yet, or not for longest
            self._forget(min(self._peers, key=lambda peer: peer.spoke))
        peer = Peer(connection)
        self._ticks += 1
        peer.spoke = (False, self._ticks)
        self._peers.append(peer)
        self._selector.register(connection, selectors.EVENT_READ, peer)

    def _hear(self, peer: Peer) -> None:
        content = peer.connection.recv(65536)
        arrived_ns = time.perf_counter_ns()
        if not content:
            raise ConnectionResetError
        *lines, rest = (peer.heard + content).split(b"\n")
        for line in lines:
            if peer.skipping:
                peer.skipping = False
            else:
                self._answer(peer, line, arrived_ns)
        if len(rest) > LONGEST_LINE:
            if not peer.skipping:
                self._say(peer, b"error line too long\n")
            peer.skipping, rest = True, b""
        peer.heard = rest

    def _answer(self, peer: Peer, line: bytes, arrived_ns: int) -> None:
        word = line.rstrip(b"\r")
        if len(word) > LONGEST_LINE:
            self._say(peer, b"error line too long\n")
        elif word == b"checksum":
            self._checksums.append((peer, 0, 0))
        elif word.isdigit():
            self.count += 1
            self._ticks += 1
            peer.spoke = (True, self._ticks)
            took_us = max(time.perf_counter_ns() - arrived_ns, 0) // 1000
            self._say(peer, b"%s %d %d\n" % (word, self.count, took_us))
        else:
            self._say(peer, b"error not a sequence number\n")

    def _go_on_summing(self) -> None:
        """Sum up one more piece, so that nobody waits long for the whole."""
        peer, start, checksum = self._checksums.pop(0)
        end = min(start + CHUNK_BYTES, self.memory.static_bytes)
        checksum = zlib.crc32(memoryview(self.memory.content)[start:end], checksum)
        if end < self.memory.static_bytes:
            self._checksums.append((peer, end, checksum))
            return
        try:
            self._say(peer, b"checksum %08x %d\n" % (checksum, end))
        except OSError:
            self._forget(peer)

    def _say(self, peer: Peer, content: bytes) -> None:
        """Send what can be sent now and keep the rest; a client that never reads is let go."""
        peer.unsent += content
        if peer.unsent:
            with contextlib.suppress(BlockingIOError):
                peer.unsent = peer.unsent[peer.connection.send(peer.unsent) :]
            if len(peer.unsent) > MOST_WAITING_BYTES:
                raise ConnectionResetError
        if bool(peer.unsent) != peer.waiting:
            peer.waiting = bool(peer.unsent)
            write = selectors.EVENT_WRITE if peer.waiting else 0
            self._selector.modify(peer.connection, selectors.EVENT_READ | write, peer)

    def _forget(self, peer: Peer) -> None:
        self._checksums = [entry for entry in self._checksums if entry[0] is not peer]
        if peer in self._peers:
            self._peers.remove(peer)
            self._selector.unregister(peer.connection)
            peer.connection.close()


def main() -> None:
    """Listen and serve."""
    parser = argparse.ArgumentParser(description="Answer requests with an incremented counter.")
    parser.add_argument("--address", default="0.0.0.0")  # noqa: S104 - inside a container
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one and prints it")
    parser.add_argument("--memory-mb", type=float, default=0.0, help="megabytes to hold")
    parser.add_argument("--rewrite-mb-per-s", type=float, default=0.0, help="rewritten per second")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    memory = Memory(options.memory_mb, options.rewrite_mb_per_s)
    listener = socket.create_server((options.address, options.port), backlog=64)
    if options.port == 0:
        print(listener.getsockname()[1], flush=True)  # noqa: T201 - for tests
    Server(listener, memory).serve()


if __name__ == "__main__":
    main()
