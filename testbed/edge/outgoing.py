"""The memory of a service's tasks on its way out, by content: any kernel, any mapping.

The source keeps a copy of what the target has and sends what differs. While the service stands
still, CRIU's own images are compared, so nothing depends on how memory was looked at before. The
faster way is `edge.watched`.
"""

import contextlib
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import images, pages
from .container import Holder
from .criu import INSIDE, Criu
from .outbox import Outbox
from .pages import PAGE, Span
from .sending import Sending
from .timeline import Timeline

MADV_POPULATE_READ = 22
Beside = Callable[[], None]
"""What is to be done at the best moment while the service stands still: sending its files."""


class Outgoing(Sending):
    """What the ways to find and send memory share.

    Parameters
    ----------
    holder : Holder
        The service's container on this edge.
    outbox : Outbox
        Leads to the target.
    timeline : Timeline
        Where phases are written down.
    """

    tracker = "content"
    quick = False
    """Whether looking for changes takes next to no time, so that a round more never harms."""

    def __init__(self, holder: Holder, outbox: Outbox, timeline: Timeline) -> None:
        super().__init__(holder.spec.scratch / "sent", outbox)
        self._holder = holder
        self._timeline = timeline
        self.images = holder.spec.scratch / "img"

    def send_frozen(self, criu: Criu, beside: Beside) -> None:
        """Have CRIU write its images and send whatever the target lacks of the memory."""
        raise NotImplementedError

    def hurry(self) -> None:
        """Have whatever helps to look served first: the service is about to stand still."""

    def get_ready(self) -> None:
        """Do what is to be done directly before the freeze."""

    def hot(self) -> dict[int, list[Span]]:
        """What each task wrote last, and so will soon need again."""
        return {}

    def stale(self) -> dict[int, list[Span]] | None:
        """What comes later though the target knows it; None where nothing comes later."""
        return None

    def answer(self) -> dict[str, Any]:
        """Wait for what the target answers."""
        return self.outbox.channel.answer()

    def send_rest(self) -> int:
        """Send what was left for later; return how many bytes that were."""
        return 0

    def pagemaps(self) -> Iterator[tuple[int, Path, int, list[images.Range]]]:
        """Each dumped task: its pid inside, its page map, its pages' number and ranges."""
        for path in sorted(self.images.glob("pagemap-*.img")):
            number = path.stem.removeprefix("pagemap-")
            if number.isdigit():
                yield int(number), path, *images.read_pagemap(path.read_bytes())

    def gather(self) -> tuple[dict[str, Any], list[bytes]]:
        """CRIU's small images, and what describes them."""
        listing: dict[str, Any] = {"images": [], "tasks": {}}
        listing |= {"hot": self.hot(), "stale": self.stale()}
        payload = []
        paged = set()
        for task, path, pages_id, _ in self.pagemaps():
            paged.add(f"pages-{pages_id}.img")
            listing["tasks"][path.name] = task
        for path in sorted(self.images.glob("*.img")):
            if path.name not in paged and not path.is_symlink():
                payload.append(path.read_bytes())
                listing["images"].append((path.name, len(payload[-1])))
        return listing, payload

    def tasks(self) -> Iterator[tuple[int, int]]:
        """Each process of the service: its pid in the container and on this edge."""
        for outside in self._holder.processes():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                status = Path(f"/proc/{outside}/status").read_text(encoding="utf-8")
                line = next(x for x in status.splitlines() if x.startswith("NSpid"))
                yield int(line.split()[-1]), outside

    def _dump(self, criu: Criu) -> None:
        service = self._holder.service
        criu.dump(service, f"{INSIDE}/scratch/img", cgroup=f"{INSIDE}/cgroup")


class ByContent(Outgoing):
    """Compares everything."""

    def send_round(self) -> None:
        """Read all memory of the running tasks and send the pages that differ."""
        for inside, outside in self.tasks():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                for start, data in pages.read_task(outside):
                    self._send_changed(inside, start, data)
        self.outbox.flush()

    def send_frozen(self, criu: Criu, beside: Beside) -> None:
        """Dump everything into memory, then compare the dumped pages."""
        with self._timeline.phase("dump", frozen=True):
            self._dump(criu)
        with self._timeline.phase("pages", frozen=True) as phase:
            for task, _, pages_id, ranges in self.pagemaps():
                self._send_dumped(task, self.images / f"pages-{pages_id}.img", ranges)
            self.outbox.flush()
            phase["detail"] = self.account()
        with self._timeline.phase("files", frozen=True):
            beside()
            self.outbox.flush()

    def _send_dumped(self, task: int, path: Path, ranges: list[images.Range]) -> None:
        if path.stat().st_size == 0:
            return
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped,
            memoryview(mapped) as view,
        ):
            with contextlib.suppress(OSError, ValueError):  # before kernel 5.14
                mapped.madvise(MADV_POPULATE_READ)
            at = 0
            for r in ranges:
                if r.flags & images.PRESENT:
                    for offset in range(0, r.pages * PAGE, pages.CHUNK):
                        size = min(pages.CHUNK, r.pages * PAGE - offset)
                        with view[at + offset : at + offset + size] as piece:
                            self._send_changed(task, r.start + offset, piece)
                    at += r.pages * PAGE

    def _send_changed(self, task: int, start: int, data: bytes | memoryview) -> None:
        spans = self.copy(task).update(start, data)
        with memoryview(data) as view:
            parts = [view[a - start : b - start] for a, b in spans]
            try:
                self.send(task, spans, list(parts))
            finally:
                for part in parts:
                    part.release()
