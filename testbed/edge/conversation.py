"""What the target's half is told, and how it answers: what has failed once is not gone on with."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .channel import Channel, ChannelClosedError, DamagedError
from .squeeze import expand

WITHOUT_ANSWER = {"layer", "pages", "forked", "files", "hurry"}
Handler = Callable[[dict[str, Any], bytes], dict[str, Any] | None]
"""Takes a message's head and bytes; in its answer, bytes are the ``payload``."""


class Conversation:
    """Answers the source's messages.

    Parameters
    ----------
    channel : Channel
        Leads to the source.
    handlers : mapping of str to Handler
        What to do for each message.
    fail : callable
        Called after a failure, before the source hears of it.
    beside : callable
        Does something while further messages are answered.
    """

    def __init__(
        self,
        channel: Channel,
        handlers: Mapping[str, Handler],
        *,
        fail: Callable[[], None],
        beside: Callable[[Callable[[], None]], None],
    ) -> None:
        self._channel = channel
        self._handlers = handlers
        self._fail = fail
        self._beside = beside
        self._failed = ""

    def go_on(self) -> None:
        """Answer until the line ends.

        Raises
        ------
        ChannelClosedError
            When it does.
        """
        while True:
            try:
                head, data = self._channel.receive()
            except DamagedError as error:
                head, data, self._failed = error.head, b"", self._failed or str(error)
            memory_follows = not self._failed and head.get("stale") is not None
            if head["message"] == "restore" and memory_follows:
                self._beside(partial(self._reply, head, data))  # CRIU may need what still comes
            else:
                self._reply(head, data)

    def _reply(self, head: dict[str, Any], data: bytes) -> None:
        answer: dict[str, Any] | None = {"error": self._failed}
        try:
            if not self._failed:
                answer = self._handlers[head["message"]](head, expand(head, data))
        except ChannelClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the source must hear of it
            self._failed = f"{type(error).__name__}: {error}"
            answer = {"error": self._failed, "log": getattr(error, "log", "")}
        if self._failed:
            self._fail()
        if head["message"] not in WITHOUT_ANSWER:
            payload = (answer or {}).pop("payload", b"")
            self._channel.send(answer or {}, [payload] if payload else [])
