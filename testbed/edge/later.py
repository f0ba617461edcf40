"""Memory that goes to the target after the service: post-copy, and what hybrid leaves over.

While the service stands still, only what CRIU itself must restore is sent. The rest is read from
the frozen copy here when the service lives at the target already: what it asks for first, then
what was written last, then all the rest. A page that the target has in its present version is not
sent again; that it is right is.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from . import claim, images, preflight
from .channel import Buffer, RemoteFailureError
from .container import Holder
from .criu import INSIDE, Criu
from .incoming import Areas
from .listener import Listener
from .outbox import Outbox
from .outgoing import Beside
from .pages import PAGE, Span, divide, joined
from .remainder import Remainder, Window
from .timeline import Timeline
from .tracker import NotTrackedError
from .watched import Task, Watched, all_pages, opened_memory, read_pages

BATCH_BYTES = 64 << 10
"""What is sent for one page that was asked for, and at most before the next question is heard."""
WATCH_S = 0.1
"""How long is looked which pages are in use, where no round has told."""


class CannotWaitError(RuntimeError):
    """Memory cannot come after the service here; the message says why and what is nearest."""


class NotAllCameError(RuntimeError):
    """Memory that was to come later did not all come: only the source has the service whole."""


class Later(Watched):
    """Leaves all memory that may come later until the service lives at the target.

    Parameters
    ----------
    holder, outbox, timeline
        As for every `Outgoing`.
    ahead : bool
        Whether rounds are sent before (hybrid).
    """

    def __init__(self, holder: Holder, outbox: Outbox, timeline: Timeline, *, ahead: bool) -> None:
        super().__init__(holder, outbox, timeline, claimed=True)
        self._ahead = ahead
        self._stale: dict[int, list[Span]] = {}
        self._remainder = Remainder({})
        self._window = Window()
        self._listener: Listener | None = None
        self._pushed_bytes = 0

    def get_ready(self) -> None:
        """Without rounds, see which pages are in use."""
        if not self._ahead:
            self._meet(attach=True)
            self._watch_new()
            self._look(everything=False)
            time.sleep(WATCH_S)

    def send_frozen(self, criu: Criu, beside: Beside) -> None:
        """Have CRIU dump all but memory, and send the little that it must restore itself."""
        self.outbox.hurry()
        with self._timeline.phase("scan", frozen=True):
            self._meet(attach=False)
            looks = self._look(everything=False, still=True)
            self._claim()
        with self._timeline.phase("dump", frozen=True) as phase:
            before = self.outbox.sent_bytes
            parent = f"../{claim.FOLDER}"
            folder, cgroup = f"{INSIDE}/scratch/img", f"{INSIDE}/cgroup"
            criu.begin_dump(self._holder.service, folder, cgroup=cgroup, parent=parent)
            beside()
            criu.end_dump()
            phase["bytes"] = self.outbox.sent_bytes - before
            phase["detail"] = f"with files: {self.account()}"
        with self._timeline.phase("pages", frozen=True) as phase:
            looked = self._look(everything=False, still=True)
            touched = {task.inside: joined(spans) for task, spans in looked}
            self._hot = {task.inside: joined(spans) for task, spans in looks}
            self._late = self._unwatched()
            self._divide(touched)
            phase["detail"] = self.account()

    def hot(self) -> dict[int, list[Span]]:
        """Nothing that is at the target: what was written last is on its way."""
        return {}

    def stale(self) -> dict[int, list[Span]]:
        """Pages of which the target has another version, perhaps."""
        return self._stale

    def _divide(self, touched: Mapping[int, list[Span]]) -> None:
        """Send what CRIU must restore itself or will touch again; leave the rest over."""
        left: dict[int, list[Span]] = {}
        for inside, _, __, ranges in self.pagemaps():
            task = self._tasks[inside]
            if self._ahead and inside not in self._copies:
                self._begin_as_parent(task)
            # Of a task that nobody watched everything may have changed.
            seen = task.tracker is not None
            stale = self._hot.get(inside, ()) if seen else all_pages(task.outside)
            at_once = touched.get(inside, [])
            stale = joined([*stale, *at_once, *self._unread.pop(inside, ())])
            areas = Areas.read((self.images / f"mm-{inside}.img").read_bytes())
            now: list[Span] = []
            left[inside], self._stale[inside] = [], []
            for start, end, known, may_wait in self._pieces(inside, ranges, areas):
                wanted = [(start, end)]
                if known:
                    wanted = [(a, b) for a, b, changed in divide(start, end, stale) if changed]
                for begin, stop in wanted:
                    for a, b, needed in divide(begin, stop, at_once):
                        if needed or not may_wait:
                            now.append((a, b))
                            continue
                        left[inside].append((a, b))
                        if known:
                            self._stale[inside].append((a, b))
            self._send_all(task, now)
            self._stale[inside] = joined(self._stale[inside])
        self._remainder = Remainder(left)

    def _pieces(
        self, task: int, ranges: Iterable[images.Range], areas: Areas
    ) -> Iterable[tuple[int, int, bool, bool]]:
        """Every page of a task: start, end, whether the target knows it, whether it may wait."""
        copy = self.copy(task)
        for r in ranges:
            if r.flags & (images.PRESENT | images.PARENT):
                for begin, stop, may_wait in areas.cut(r.start, r.start + r.pages * PAGE):
                    for start, end, at in copy.known(begin, stop):
                        yield start, end, at is not None, may_wait

    # -- when the target restores, and after

    def answer(self) -> dict[str, Any]:
        """Wait for the target's answer, while what will soon be needed goes after the question."""
        if self._listener is None:
            self._listener = Listener(self.outbox.channel)
        while True:
            head = self._hear(block=not self._push_hot())
            if head is not None:
                return head

    def send_rest(self) -> int:
        """Send all that was left over; return how many bytes that were, once the target has it.

        Raises
        ------
        NotAllCameError
            If the line breaks, the target fails, or a page of a frozen task cannot be read.
        """
        try:
            while self._remainder or self._window:
                if not self._push_hot() and self._window.is_open and self._remainder:
                    self._push(*self._remainder.next(BATCH_BYTES))
                self._hear(block=not self._remainder or not self._window.is_open)
        except (OSError, RemoteFailureError) as error:
            raise NotAllCameError(f"not all memory came to the target: {error}") from error
        return self._pushed_bytes

    def close(self) -> None:
        """Watch and listen no longer."""
        super().close()
        self._remainder = Remainder({})

    def _hear(self, *, block: bool) -> dict[str, Any] | None:
        """Do what the target says; return what it answers."""
        if self._listener is None:
            raise RuntimeError("nothing was asked yet")
        began_s = time.monotonic()
        head = self._listener.hear(block=block)
        if head is None:
            return None
        if block and not self._window.is_open:  # to wait for room is a part of sending
            self.outbox.channel.pace.note(0, began_s, time.monotonic())
        if head.get("message") == "taken":
            self._window.taken(time.monotonic())
        elif head.get("message") == "want":
            spans = self._remainder.around(head["task"], head["page"], BATCH_BYTES)
            self._push(head["task"], spans)
        else:
            return head
        return None

    def _push_hot(self) -> bool:
        """Send some of the pages that were written last; False where none may be sent now."""
        while self._window.is_open and self._hot:
            task, spans = next(iter(self._hot.items()))
            if not spans:
                del self._hot[task]
                continue
            taken: list[Span] = []
            size = 0
            while spans and size < BATCH_BYTES:
                start, end = spans.pop(0)
                if end - start > BATCH_BYTES:
                    spans.insert(0, (start + BATCH_BYTES, end))
                    end = start + BATCH_BYTES
                taken += self._remainder.take(task, start, end)
                size = sum(b - a for a, b in taken)
            if taken:
                self._push(task, taken)
                return True
        return False

    def _push(self, inside: int, spans: list[Span]) -> None:
        """Send pages, and that they are right now."""
        if not spans:
            return
        before = self.outbox.sent_bytes
        task, copy = self._tasks[inside], self.copy(inside)
        fresh: list[Span] = []
        known: list[Span] = []
        for span in spans:
            for start, end, at in copy.known(*span):
                (fresh if at is None else known).append((start, end))
        if known:
            self._send_all(task, known)
        if fresh:
            self._send_fresh(task, fresh)
        self.outbox.send({"message": "came", "task": inside, "spans": spans})
        size = self.outbox.sent_bytes - before
        self._window.sent(size, time.monotonic())
        self._pushed_bytes += size

    def _send_fresh(self, task: Task, spans: list[Span]) -> None:
        """Send pages that the target has never had; nothing needs to be remembered of them."""
        parts: list[Buffer] = []
        with opened_memory(task.outside) as descriptor:
            for start, end in spans:
                parts.append(read_pages(descriptor, start, end - start))
                if len(parts[-1]) < end - start:
                    at = start + len(parts[-1])
                    raise OSError(f"page {at:#x} of frozen task {task.inside} cannot be read")
        self.send(task.inside, spans, parts)

    def _send_all(self, task: Task, spans: list[Span]) -> None:
        """Send those pages of a frozen task that differ from what was sent."""
        self._send_changed(task, spans)
        for start, _ in self._unread.pop(task.inside, ()):
            raise OSError(f"page {start:#x} of frozen task {task.inside} cannot be read")


def begin_later(
    holder: Holder,
    outbox: Outbox,
    timeline: Timeline,
    *,
    ahead: bool,
    cannot: tuple[str, str],
) -> Later:
    """Begin to watch a service whose memory is to come later.

    Parameters
    ----------
    holder, outbox, timeline, ahead
        As for `Later`.
    cannot : tuple of str
        Why CRIU cannot leave pages out of its dump here, and why the target cannot fill memory in
        later; empty where they can.

    Raises
    ------
    CannotWaitError
        If one of them cannot, or the preflight or the tracker says no: nothing was frozen.
    """
    name = "hybrid" if ahead else "post-copy"
    for why in cannot:
        if why:
            raise CannotWaitError(
                f"{name} cannot be done here: {why}; the nearest that can is 'pre-copy'"
            )
    later = Later(holder, outbox, timeline, ahead=ahead)
    try:
        preflight.require(holder.processes())
        later.begin()
    except NotTrackedError as error:
        raise CannotWaitError(
            f"{name} cannot be done here: {error}; the nearest that can is 'delta'"
        ) from error
    return later
