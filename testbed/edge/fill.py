"""Memory filled in from this host's own copy: where the service touches it, and else behind it.

CRIU restores a task without its memory and hands over a userfaultfd for each
(``lazy-pages.socket``: the task's pid, then the descriptor; at last the word that all are
restored). Each task gets a thread: first the pages it wrote last, then whatever it touches, then
all the rest. Everything comes from memory of this process, which holds what the source has sent.

The service runs meanwhile: it may map, move, unmap and fork. The kernel tells about it before it
happens (`EVENTS`), and every answer to a fault takes it into account.
"""

import array
import ctypes
import fcntl
import os
import select
import socket
import struct
import threading
import time
from bisect import bisect_right, insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import urgency
from .pages import PAGE, Span

Run = tuple[int, int, int]
"""Start and end address in the task, and where the content lies in this process."""

CHUNK, AROUND = 256 << 10, 64 << 10
LOOK_S, LONGEST_WATCH_S, QUIET_S = 2e-4, 0.04, 3e-3
REST = 2.0
"""Between two chunks it rests, in chunks' lengths: it is served first, and the service runs."""
LONGEST_STUCK_S = 2.0
FINISHED = 0x52535446
"""What CRIU says when all tasks are restored."""
_COPY, _ZERO, _WAKE = 0xC028AA03, 0xC020AA04, 0x8010AA02
_FAULT, _FORK, _REMAP, _REMOVE, _UNMAP = range(0x12, 0x17)
EVENTS_THAT_MOVE = {_REMAP, _REMOVE, _UNMAP}
_EVENT = struct.Struct("=B7xQQQ")
_EAGAIN, _EEXIST, _ENOENT, _ESRCH = 11, 17, 2, 3
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]


def _first(runs: list[Run], address: int) -> int:
    """Which of the runs, in rising order, is the first that ends behind an address."""
    return bisect_right(runs, address, key=lambda run: run[1])


class Pending:
    """What is still to come of one task: runs that do not overlap, in rising order."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = sorted(runs)

    def find(self, address: int) -> int | None:
        """Where the content of an address lies; None where none is to come."""
        number = bisect_right(self.runs, address, key=lambda run: run[0]) - 1
        if number >= 0:
            start, end, where = self.runs[number]
            if address < end:
                return where + address - start
        return None

    def within(self, start: int, end: int) -> list[Run]:
        """What is to come of a range."""
        pieces = []
        for a, b, where in self.runs[_first(self.runs, start) :]:
            if a >= end:
                break
            low = max(a, start)
            pieces.append((low, min(b, end), where + low - a))
        return pieces

    def take(self) -> Run | None:
        """Take the last run out."""
        return self.runs.pop() if self.runs else None

    def give_back(self, run: Run) -> None:
        """Put (the rest of) the run that was just taken back."""
        if run[0] < run[1]:
            self.runs.append(run)

    def add(self, run: Run) -> None:
        """Put a run in that overlaps none."""
        insort(self.runs, run)

    def swap(self, news: list[Run]) -> list[Run]:
        """Take out what is to come with some content; return it with the place of the content.

        ``news``, in rising order, says of each content (start, end) where it lies now; until now
        it was known by its start.
        """
        kept: list[Run] = []
        taken: list[Run] = []
        for start, end, content in self.runs:
            at = start
            for low, high, where in news[_first(news, content) :]:
                if low >= content + end - start:
                    break
                a, b = start + max(low - content, 0), min(end, start + high - content)
                if at < a:
                    kept.append((at, a, content + at - start))
                taken.append((a, b, where + content + a - start - low))
                at = b
            if at < end:
                kept.append((at, end, content + at - start))
        self.runs = kept
        return taken

    def drop(self, start: int, end: int, moved: int | None = None) -> None:
        """Nothing is to come for ``start..end`` any more, or ``moved`` bytes further up."""
        kept = []
        for a, b, where in self.runs:
            low, high = max(a, start), min(b, end)
            if low >= high:
                kept.append((a, b, where))
                continue
            if a < low:
                kept.append((a, low, where))
            if high < b:
                kept.append((high, b, where + high - a))
            if moved is not None:
                kept.append((low + moved, high + moved, where + low - a))
        self.runs = sorted(kept)


@dataclass
class Tally:
    """What happened while tasks were filled; times of day in seconds."""

    restored_s: float = 0.0
    filled_s: float = 0.0
    pages: int = 0
    faults: int = 0
    forks: int = 0
    problems: list[str] = field(default_factory=list)
    spoil: Callable[[], None] = lambda: None
    """Ends the service: some of its memory will never be there."""

    def give_up(self, problem: str) -> None:
        """Nobody may read zeros where content is missing: end the service before they can."""
        self.problems.append(problem)
        self.spoil()


class Filler:
    """Fills one task.

    Parameters
    ----------
    runs : list of Run
        What is to come.
    hot : list of Span
        What is wanted first.
    tally : Tally
        Where it is counted.
    start : callable
        Starts another filler, for a forked task.
    """

    def __init__(
        self,
        runs: list[Run],
        hot: list[Span],
        tally: Tally,
        start: Callable[["Filler", int], None],
    ) -> None:
        self.pending = Pending(runs)
        self._hot = hot
        self._tally = tally
        self._start = start
        self._descriptor = -1
        self._bells: list[int] = []
        """What else is heard while it rests."""
        self._gone = False
        self._asked: list[int] = []
        self._argument = (ctypes.c_uint64 * 5)()

    def run(self, descriptor: int, restored: threading.Event) -> None:
        """Fill until nothing is left."""
        self._descriptor = descriptor
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_NONBLOCK)
        urgency.put_first()
        try:
            # Before all are restored nothing is registered: CRIU still moves mappings about.
            while not restored.is_set():
                self._serve(LOOK_S)
            self._fill_hot()
            self._serve_until_quiet()
            self._fill_rest()
        except Exception as error:  # noqa: BLE001 - whatever it is, the service must not wait for ever
            self._tally.give_up(str(error) or repr(error))
        finally:
            os.close(descriptor)

    def _fill_hot(self) -> None:
        for start, end in self._hot:
            for at in range(start, end, CHUNK):
                for piece in self.pending.within(at, min(at + CHUNK, end)):
                    self._copy(*piece)
                self._serve(0)  # what is heard may be about the rest

    def _serve_until_quiet(self) -> None:
        began_s = time.monotonic()
        while time.monotonic() - began_s < LONGEST_WATCH_S and self._serve(QUIET_S):
            pass

    def _fill_rest(self) -> None:
        stuck_s = 0.0
        while not self._gone and (run := self.pending.take()):
            start, end, where = run
            began_s = time.monotonic()
            done = self._copy(start, min(start + CHUNK, end), where)
            # Back with the rest before anything is heard: the news may be about it.
            self.pending.give_back((start + done, end, where + done))
            now_s = time.monotonic()
            self._serve(REST * (now_s - began_s) if done else 1e-3)
            stuck_s = 0.0 if done else stuck_s or now_s
            if stuck_s and now_s - stuck_s > LONGEST_STUCK_S:
                raise OSError(_ENOENT, f"page {start:#x} waits for content, and no mapping has it")
        while self._serve(0):
            pass

    def _serve(self, timeout_s: float) -> bool:
        """Answer what the kernel asks and tells; False where there was nothing in time."""
        timeout_s = 0.0 if self._asked else timeout_s
        heard = bool(select.select([self._descriptor, *self._bells], [], [], timeout_s)[0])
        if heard:
            try:
                said = os.read(self._descriptor, 64 * _EVENT.size)
            except BlockingIOError:
                said = b""
            for kind, first, second, third in _EVENT.iter_unpack(said):
                self._hear(kind, first, second, third)
        asked, self._asked = self._asked, []
        self._asked = [page for page in asked if not self._answer(page)]
        return heard or bool(asked)

    def _hear(self, kind: int, first: int, second: int, third: int) -> None:
        if kind == _FAULT:
            self._tally.faults += 1
            self._asked.append(second & ~(PAGE - 1))
        elif kind == _FORK:
            self._tally.forks += 1
            self._start(self._forked(), first & 0xFFFFFFFF)
        elif kind in EVENTS_THAT_MOVE:
            self._follow(self.pending, kind, first, second, third)

    @staticmethod
    def _follow(pending: Pending, kind: int, first: int, second: int, third: int) -> None:
        """Let what is to come follow the task's mappings."""
        if kind == _REMAP:
            pending.drop(first, first + third, second - first)
        else:
            # Where it stays mapped it stays registered, too: two halves of a mapping could not be
            # moved by one call any more, and the service would notice.
            pending.drop(first, second)

    def _forked(self) -> "Filler":
        """Whoever fills a task that this one has forked."""
        return Filler(list(self.pending.runs), [], self._tally, self._start)

    def _answer(self, page: int) -> bool:
        """Give a page that was asked for; False where the kernel has news to be heard first.

        What lies around it comes along, as when the kernel reads a file.
        """
        where = self.pending.find(page)
        if where is None:
            # Nothing was there when the service stood still: zeros, as everywhere.
            number = self._ioctl(_ZERO, page, PAGE)
            given = number != _EAGAIN
        else:
            given = self._copy(page, page + PAGE, where) > 0
            low = page // AROUND * AROUND
            for piece in self.pending.within(low, low + AROUND) if given else ():
                self._copy(*piece)
        if given:
            self._ioctl(_WAKE, page, PAGE)
        return given

    def _copy(self, start: int, end: int, where: int) -> int:
        """Copy content to a range that may be there in part; return how far it came.

        It stops early where the kernel has news that must be heard first: the mapping changes.
        """
        at, size, argument = start, end - start, self._argument
        while at < end:
            argument[0], argument[1], argument[2] = at, where + at - start, min(size, end - at)
            argument[3] = argument[4] = 0
            number = 0
            if _libc.ioctl(self._descriptor, _COPY, argument):
                number = ctypes.get_errno()
            copied = max(0, ctypes.c_int64(argument[4]).value)
            self._tally.pages += copied // PAGE
            at += copied
            if number == _EEXIST:
                at += PAGE
            elif number == _ENOENT and size > PAGE:
                size = PAGE  # two mappings by now, with different rights
            elif number == _ESRCH:
                self._gone = True
                return end - start
            elif number in {_EAGAIN, _ENOENT} and not copied:
                return at - start
            elif number not in {0, _EAGAIN, _ENOENT}:
                raise OSError(number, f"page {at:#x} cannot be filled: {os.strerror(number)}")
        return end - start

    def _ioctl(self, request: int, start: int, size: int) -> int:
        argument = self._argument
        argument[0], argument[1], argument[2], argument[3] = start, size, 0, 0
        return ctypes.get_errno() if _libc.ioctl(self._descriptor, request, argument) else 0


class Fill:
    """Fills every task that one restore brings to life.

    Parameters
    ----------
    path : Path
        The socket on which CRIU looks for whoever has the pages.
    """

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.tally = Tally()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._restored = threading.Event()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._fillers: dict[int, Filler] = {}

    def begin(self, runs: Mapping[int, list[Run]], hot: Mapping[int, list[Span]]) -> None:
        """Wait for CRIU in the background; the tasks are known by their pids inside."""
        self.begin_with({
            task: Filler(there, hot.get(task, []), self.tally, self.start)
            for task, there in runs.items()
        })  # fmt: skip

    def begin_with(self, fillers: Mapping[int, Filler]) -> None:
        """Wait for CRIU in the background; each task has a filler already."""
        self._fillers.update(fillers)
        threading.Thread(target=self._take, daemon=True).start()

    def end(self, timeout_s: float | None) -> Tally:
        """Wait until every page is in, as long as it takes for None; return what happened.

        Raises
        ------
        TimeoutError
            If it takes longer.
        """
        if not self._over.wait(timeout_s):
            raise TimeoutError(f"memory is not all there after {timeout_s} s")
        return self.tally

    def close(self) -> None:
        """Take no more tasks."""
        self._listener.close()

    def _take(self) -> None:
        try:
            with self._listener.accept()[0] as connection:
                while (pid := _number(connection)) != FINISHED:
                    if pid > 0:  # a zombie has no memory
                        self.start(self._fillers.pop(pid), _descriptor(connection))
        except (OSError, KeyError, EOFError, ValueError) as error:
            self.tally.problems.append(f"CRIU ended its restore early: {error!r}")
        self.tally.restored_s = time.time()
        self._restored.set()
        for thread in self._threads:  # grows while tasks fork
            thread.join()
        self.tally.filled_s = time.time()
        self._over.set()

    def start(self, filler: Filler, descriptor: int) -> None:
        """Let a filler begin, in a thread of its own."""
        words = (descriptor, self._restored)
        thread = threading.Thread(target=filler.run, args=words, daemon=True)
        self._threads.append(thread)
        thread.start()


def _number(connection: socket.socket) -> int:
    said = connection.recv(4, socket.MSG_WAITALL)
    if len(said) < 4:  # noqa: PLR2004 - an int
        raise EOFError("the connection ended")
    return int(struct.unpack("=i", said)[0])


def _descriptor(connection: socket.socket) -> int:
    _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(4))
    return int(array.array("i", ancillary[0][2])[0])
