"""What is on its way to the target: packed where that pays, sent while more is looked for.

While the service runs a thread of its own writes into the channel, so that reading, packing and
sending overlap. While it stands still everything is written at once.
"""

import queue
import threading
from collections.abc import Sequence
from typing import Any

from .channel import Buffer, Channel, ChannelClosedError
from .squeeze import Squeezer

WAITING_FRAMES = 4
MUCH_BYTES = 32 << 20
"""Files, unpacked at the target, which takes nothing meanwhile: more than this is waited for."""


class Outbox:
    """The way into a channel for what may be large.

    Parameters
    ----------
    channel : Channel
        Leads to the target. What goes there directly overtakes what waits here: `flush` before.
    codecs : sequence of str
        What the target can expand.
    """

    def __init__(self, channel: Channel, codecs: Sequence[str] = ()) -> None:
        self.channel = channel
        self._squeezer = Squeezer(codecs)
        self._waiting = queue.Queue[tuple[dict[str, Any], list[Buffer]] | None](WAITING_FRAMES)
        self._at_once = False
        self._failure: ChannelClosedError | None = None
        self._thread: threading.Thread | None = None

    @property
    def sent_bytes(self) -> int:
        """How much went into the channel until now."""
        return self.channel.sent_bytes

    def send(self, head: dict[str, Any], parts: Sequence[Buffer] = ()) -> None:
        """Send a head and its bytes; these may change afterwards.

        Raises
        ------
        ChannelClosedError
            If nobody is there any more.
        RemoteFailureError
            If it was much, and the target could not take it in.
        """
        frame = self.packed(head, parts)
        if self._at_once:
            self.channel.send(*frame)
        else:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, daemon=True)
                self._thread.start()
            self._waiting.put(frame)
            self._check()
        if sum(len(part) for part in parts) > MUCH_BYTES:
            self.flush()
            self.channel.ask({"message": "sync"})

    def packed(
        self, head: dict[str, Any], parts: Sequence[Buffer]
    ) -> tuple[dict[str, Any], list[Buffer]]:
        """Head and bytes as they are to be sent, for whoever waits for an answer to them."""
        if not parts:
            return head, []
        rate = self.channel.pace.bytes_per_s
        more, packed = self._squeezer.squeeze(parts, rate, side_by_side=not self._at_once)
        return {**head, **more}, packed

    def flush(self) -> None:
        """Wait until everything is in the channel.

        Raises
        ------
        ChannelClosedError
            If nobody is there any more.
        """
        self._waiting.join()
        self.channel.pace.pause()
        self._check()

    def hurry(self) -> None:
        """Let everything that comes be written at once, by whoever sends it."""
        self.flush()
        self._at_once = True

    def account(self) -> str:
        """What was packed how since the last call, in a few words."""
        said = self._squeezer.account()
        return f"{said}; link {self.channel.pace.bytes_per_s / 1e6:.1f} MB/s" if said else ""

    def close(self) -> None:
        """Send nothing more, nor what waits."""
        self._failure = self._failure or ChannelClosedError("the move is over")
        if self._thread:
            self._waiting.put(None)
            self._thread = None

    def _check(self) -> None:
        if self._failure:
            raise self._failure

    def _write(self) -> None:
        frame: tuple[dict[str, Any], list[Buffer]] | None = ({}, [])
        while frame is not None:
            frame = self._waiting.get()
            try:
                if frame and not self._failure:
                    self.channel.send(*frame)
            except ChannelClosedError as error:
                self._failure = error
            finally:
                self._waiting.task_done()
