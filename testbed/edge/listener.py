"""Hears a channel in a thread of its own, so that whoever waits can send meanwhile."""

import queue
import threading
from typing import Any

from .channel import Channel, ChannelClosedError, RemoteFailureError


class Listener:
    """Takes in whatever the other half says; from now on nobody else may listen to the channel.

    Parameters
    ----------
    channel : Channel
        Leads to the other half.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def hear(self, *, block: bool) -> dict[str, Any] | None:
        """What was said next; None where nothing was yet and it is not to be waited for.

        Raises
        ------
        RemoteFailureError
            If the other half tells of a failure.
        ChannelClosedError
            If it says no more.
        """
        try:
            head = self._heard.get(block=block)
        except queue.Empty:
            return None
        if "closed" in head:
            self._heard.put(head)  # and nothing comes after it
            raise ChannelClosedError(head["closed"])
        if "error" in head:
            raise RemoteFailureError(head["error"], head.get("log", ""))
        return head

    def _listen(self) -> None:
        try:
            while True:
                self._heard.put(self._channel.receive()[0])
        except (OSError, ValueError) as error:  # ValueError: damaged, or closed by us
            self._heard.put({"closed": str(error)})
