"""Pages on their way to the target: what it has of each task, and what need not be sent.

Neither zeros, nor, in the first round, what the target still has of an earlier visit.
"""

from pathlib import Path
from typing import Any

from .channel import Buffer
from .offered import Offered
from .outbox import Outbox
from .pages import CHUNK, Copy, Span, blank_pages, take_out


class Sending:
    """Sends pages and remembers them.

    Parameters
    ----------
    folder : Path
        Where it is remembered what the target has.
    outbox : Outbox
        Leads to the target.
    """

    def __init__(self, folder: Path, outbox: Outbox) -> None:
        self.outbox = outbox
        self._folder = folder
        self._copies: dict[int, Copy] = {}
        self._offered: Offered | None = None
        self._comparing = self._compared = False
        self._blank_bytes = self._there_bytes = self._gone_bytes = 0

    def copy(self, task: int) -> Copy:
        """What the target has of a task."""
        if task not in self._copies:
            self._copies[task] = Copy(self._folder / str(task))
        return self._copies[task]

    def let_go(self) -> list[Copy]:
        """Hand over what is known of the tasks' memory: the service has left."""
        copies, self._copies = self._copies, {}
        return list(copies.values())

    def offer(self, digests: bytes) -> None:
        """The target has pages of an earlier visit."""
        self._offered = Offered(digests) if digests else None

    def send_round(self) -> None:
        """Send what the target does not have yet, while the service runs."""
        raise NotImplementedError

    def go_round(self) -> None:
        """Send a round and wait until the target has taken everything in."""
        self._comparing = not self._compared
        try:
            self.send_round()
        finally:
            self._comparing, self._compared = False, True
        while gone := self.outbox.channel.ask({"message": "sync", "seal": True})["gone"]:
            self._send_again(gone)

    def _send_again(self, gone: dict[str, list[Span]]) -> None:
        """Send pages that the target was to have of an earlier visit, and has not."""
        for name, spans in gone.items():
            copy = self.copy(int(name))
            for start, end in spans:
                self._gone_bytes += end - start
                for at in range(start, end, CHUNK):
                    for a, b, offset in copy.known(at, min(at + CHUNK, end)):
                        if offset is not None:
                            self.send(int(name), [(a, b)], [copy.view[offset : offset + b - a]])
        self.outbox.flush()

    def send(self, task: int, spans: list[Span], parts: list[Buffer]) -> None:
        """Send pages of a task."""
        if not spans:
            return
        spans, parts, blank = take_out(spans, parts, blank_pages)
        self._blank_bytes += sum(end - start for start, end in blank)
        head: dict[str, Any] = {"message": "pages", "task": task, "blank": blank}
        if self._comparing and self._offered:
            rate = self.outbox.channel.pace.bytes_per_s
            spans, parts, head["kept"] = self._offered.take_out(spans, parts, rate)
            self._there_bytes += sum(end - start for start, end, _ in head["kept"])
        self.outbox.send({**head, "spans": spans}, parts)

    @property
    def spared_bytes(self) -> int:
        """How much memory the target had from an earlier visit."""
        return self._offered.there_bytes - self._gone_bytes if self._offered else 0

    def notes(self) -> list[str]:
        """What had to be done otherwise than planned, and why."""
        return self._offered.notes() if self._offered else []

    def account(self) -> str:
        """What was sent how since the last call, in a few words."""
        said = [f"{self._blank_bytes / 1e6:.1f} MB of zeros"] if self._blank_bytes else []
        if self._there_bytes:
            said.append(f"{self._there_bytes / 1e6:.1f} MB were there from an earlier visit")
        self._blank_bytes = self._there_bytes = 0
        return ", ".join(filter(None, [*said, self.outbox.account()]))

    def close(self) -> None:
        """Send no more."""
        self.outbox.close()
