"""The memory of a service's tasks on its way out, watched by the kernel: the fast path.

Between rounds `edge.tracker` tells which pages were written. While the service stands still, only
these are read, and CRIU dumps everything but memory meanwhile (`edge.claim`). What CRIU's own visit
and the kernel wrote into the tasks is found by a second look after the dump. A task that cannot be
watched is compared as a whole; a page that CRIU names and nobody has sent is sent at last.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from . import claim
from .container import Holder
from .criu import INSIDE, Criu
from .outbox import Outbox
from .outgoing import Beside, Outgoing
from .pages import CHUNK, PAGE, Span, joined
from .timeline import Timeline
from .tracker import NotTrackedError, WriteProtect, own_pages

if TYPE_CHECKING:
    from .channel import Buffer

T = TypeVar("T")
BATCH_BYTES = 1 << 20
PARENT_FIELD, STARTED_FIELD = 1, 19
"""Of ``/proc/PID/stat``, counted behind the name: whose child the task is, when it was born."""


@dataclass
class Task:
    """One process: its pid inside and outside, when it was born, what watches it, or why not."""

    inside: int
    outside: int
    born: str
    tracker: WriteProtect | None = None
    reason: str = ""


class Watched(Outgoing):
    """Sends what was written since the last look.

    Parameters
    ----------
    holder, outbox, timeline
        As for every `Outgoing`.
    claimed : bool
        Whether CRIU may be told that the target has all pages, so that it dumps none.
    """

    tracker = "write-protect"
    quick = True

    def __init__(
        self, holder: Holder, outbox: Outbox, timeline: Timeline, *, claimed: bool
    ) -> None:
        super().__init__(holder, outbox, timeline)
        self._claimed = claimed
        self._tasks: dict[int, Task] = {}
        self._hot: dict[int, list[Span]] = {}
        self._unread: dict[int, list[Span]] = {}
        self._late: dict[int, str] = {}

    def notes(self) -> list[str]:
        """How many tasks were compared by content at the freeze, and why."""
        counted = Counter(self._late.values())
        late = [f"{n} tasks were compared by content: {why}" for why, n in counted.items()]
        return [*super().notes(), *late]

    def begin(self) -> None:
        """Start to watch.

        Raises
        ------
        NotTrackedError
            If no task of the service can be watched.
        """
        self._meet(attach=True)
        reasons = self._unwatched()
        if reasons and len(reasons) == len(self._tasks):
            self._forget()
            raise NotTrackedError("; ".join(dict.fromkeys(reasons.values())))

    def send_round(self) -> None:
        """Send what was written since the last round."""
        self._meet(attach=True)
        self._watch_new()
        for task, spans in self._look():
            self._send_changed(task, spans)
        self.outbox.flush()

    def send_frozen(self, criu: Criu, beside: Beside) -> None:
        """Send the pages written last while CRIU dumps, and then what the dump itself touched."""
        self.outbox.hurry()
        with self._timeline.phase("scan", frozen=True):
            self._meet(attach=False)
            looks = self._look(everything=False, still=True)  # CRIU is about to visit the others
            self._hot = {task.inside: list(spans) for task, spans in looks}
            if self._claimed:
                self._claim()
        with self._timeline.phase("dump", frozen=True) as phase:
            before = self.outbox.sent_bytes
            criu.begin_dump(
                self._holder.service,
                f"{INSIDE}/scratch/img",
                cgroup=f"{INSIDE}/cgroup",
                parent=f"../{claim.FOLDER}" if self._claimed else "",
            )
            for task, spans in looks:
                self._send_changed(task, spans)
            beside()
            criu.end_dump()
            phase["bytes"] = self.outbox.sent_bytes - before
            phase["detail"] = f"the pages written last, and files: {self.account()}"
        with self._timeline.phase("pages", frozen=True) as phase:
            for task, spans in self._look(still=True):
                self._send_changed(task, spans)
            self._send_missing()
            self._late = self._unwatched()
            phase["detail"] = self.account()

    def hurry(self) -> None:
        """Have the trackers served first."""
        for task in self._tasks.values():
            if task.tracker:
                task.tracker.put_first()

    def hot(self) -> dict[int, list[Span]]:
        """The pages that were written in the last moment before the freeze."""
        return self._hot

    def close(self) -> None:
        """Watch no longer, send no more."""
        super().close()
        self._forget()

    def _forget(self) -> None:
        for task in self._tasks.values():
            if task.tracker:
                task.tracker.close()
        self._tasks = {}

    # -- looking

    def _unwatched(self) -> dict[int, str]:
        return {t.inside: t.reason for t in self._tasks.values() if t.tracker is None}

    def _meet(self, *, attach: bool) -> None:
        """Find tasks that are new, and forget those that have ended."""
        present = {}
        for inside, outside in self.tasks():
            with contextlib.suppress(OSError):
                present[inside] = (outside, _stat(outside)[STARTED_FIELD])
        for inside, task in list(self._tasks.items()):
            if present.get(inside) != (task.outside, task.born):
                if task.tracker:
                    task.tracker.close()
                del self._tasks[inside]
        for inside, (outside, born) in present.items():
            if inside not in self._tasks:
                self._tasks[inside] = Task(inside, outside, born)
            task = self._tasks[inside]
            if task.tracker is None and attach:
                try:
                    task.tracker = WriteProtect(outside)
                except NotTrackedError as error:
                    task.reason = str(error)
            elif task.tracker is None and not task.reason:
                task.reason = "born in the last moment before the freeze"

    def _begin_as_parent(self, task: Task) -> None:
        """A forked task has what its parent has, but for what either wrote since."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            insides = {other.outside: inside for inside, other in self._tasks.items()}
            parent = insides.get(int(_stat(task.outside)[PARENT_FIELD]))
            if parent in self._copies:
                head = {"message": "forked", "task": task.inside, "parent": parent}
                self.outbox.send(head)
                self.copy(task.inside).take_over(self._copies[parent])

    def _watch_new(self) -> None:
        """Watch what was mapped or moved since; the service stands still for that, a millisecond.

        One that cannot be stopped now is compared by content where it is new.
        """
        if not any(self._each(WriteProtect.new)):
            return
        with contextlib.suppress(TimeoutError):
            self._holder.freeze()
            try:
                self._each(WriteProtect.watch)
            finally:
                self._holder.thaw()

    def _each(self, do: Callable[[WriteProtect], T]) -> list[T]:
        """Have every tracker do something; one that cannot is given up."""
        done = []
        for task in self._tasks.values():
            if task.tracker:
                try:
                    done.append(do(task.tracker))
                except NotTrackedError as error:
                    self._give_up(task, error)
        return done

    def _give_up(self, task: Task, error: NotTrackedError) -> None:
        if task.tracker:
            task.tracker.close()
        task.tracker, task.reason = None, str(error)

    def _look(
        self, *, everything: bool = True, still: bool = False
    ) -> list[tuple[Task, list[Span]]]:
        """What is to be read of every task: all are asked at once.

        ``everything``: of those that are not watched, all they have. ``still``: they stand still.
        """
        for task in self._tasks.values():
            if task.tracker:
                with contextlib.suppress(NotTrackedError):
                    task.tracker.ask(still=still)
        found = []
        for task in self._tasks.values():
            if task.tracker:
                try:
                    look = task.tracker.answer()
                    found.append((task, [*look.written, *look.unknown]))
                except NotTrackedError as error:
                    self._give_up(task, error)
            if task.tracker is None and everything:
                found.append((task, list(all_pages(task.outside))))
        return found

    def _claim(self) -> None:
        folder = self._holder.spec.scratch / claim.FOLDER
        claim.write(folder, {t.inside: _maps(t.outside) for t in self._tasks.values()})

    # -- sending

    def _send_changed(self, task: Task, spans: Iterable[Span]) -> None:
        """Read spans of a task and send those of their pages that differ from what was sent."""
        if task.inside not in self._copies:
            self._begin_as_parent(task)
        copy, unread = self.copy(task.inside), []
        batch: list[Span] = []
        parts: list[Buffer] = []
        size = 0
        with opened_memory(task.outside) as memory:
            for start, end in joined([*self._unread.get(task.inside, ()), *spans]):
                at = start
                while at < end:
                    data = read_pages(memory, at, min(CHUNK, end - at))
                    if not data:
                        unread.append((at, at + PAGE))
                        at += PAGE
                        continue
                    for a, b in copy.update(at, data):
                        batch.append((a, b))
                        parts.append(memoryview(data)[a - at : b - at])
                        size += b - a
                    at += len(data)
                    if size >= BATCH_BYTES:
                        self.send(task.inside, batch, parts)
                        batch, parts, size = [], [], 0
        self.send(task.inside, batch, parts)
        # Unmapped in this moment: tried again at the next look, unless it is not there then.
        self._unread[task.inside] = joined(unread)

    def _send_missing(self) -> None:
        """Send every page that CRIU's page maps name and that was never sent.

        Raises
        ------
        OSError
            If a page of the frozen task cannot be read.
        """
        for inside, _, __, ranges in self.pagemaps():
            copy, missing = self.copy(inside), []
            for r in ranges:
                start, end = r.start, r.start + r.pages * PAGE
                missing += [(a, b) for a, b, at in copy.known(start, end) if at is None]
            if missing:
                self._send_changed(self._tasks[inside], missing)
            for a, b in self._unread.get(inside, ()):
                if any(r.start < b and a < r.start + r.pages * PAGE for r in ranges):
                    raise OSError(f"page {a:#x} of frozen task {inside} cannot be read")


def _stat(pid: int) -> list[str]:
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def _maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="surrogateescape")


def all_pages(pid: int) -> Iterator[Span]:
    """Every page of its own that a task has, readable to itself or not; none if it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        yield from own_pages(pid, _maps(pid))


@contextlib.contextmanager
def opened_memory(pid: int) -> Iterator[int | None]:
    """A task's memory; None if it has ended."""
    try:
        descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    except (FileNotFoundError, ProcessLookupError):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_pages(memory: int | None, start: int, size: int) -> bytes:
    """Whole pages from ``start`` on, as many as can be read."""
    try:
        data = os.pread(memory, size, start) if memory is not None else b""
    except OSError:
        return b""
    return data[: len(data) // PAGE * PAGE]
