"""Memory filled in while it still comes from the source: post-copy and hybrid at the target.

What is here already is filled in as `edge.fill` does it. A page that is not is asked for when the
service touches it; until it comes the thread that touched it waits, and only that one. Whether all
will come is not sure: `Feed.owed` says how much is missing, and where nothing more comes the
service is ended here, since it is whole at the source.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Mapping

from .fill import EVENTS_THAT_MOVE, Fill, Filler, Pending, Run, Tally
from .pages import Span

WAIT_S = 0.2
Ask = Callable[[int, int], None]
"""Ask the source for a page of a task."""


class Feed:
    """Takes what comes and hands it to whoever waits for it.

    Parameters
    ----------
    ask : callable
        Asks the source for a page.
    """

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.owed = 0
        self.lock = threading.Lock()
        self._fillers: dict[int, list[Fed]] = {}

    def add(self, filler: "Fed") -> None:
        """Have a filler told of what comes for its task, or the one it was forked from."""
        self._fillers.setdefault(filler.task, []).append(filler)

    def fillers(
        self, runs: Mapping[int, list[Run]], absent: Mapping[int, list[Span]], fill: Fill
    ) -> "dict[int, Filler]":
        """Whoever fills the tasks of a restore: what is here, and what is to come."""
        made: dict[int, Filler] = {}
        for task, here in runs.items():
            self.owed += sum(end - start for start, end in absent[task])
            to_come = [(start, end, start) for start, end in absent[task]]
            made[task] = fed = Fed(
                here, fill.tally, fill.start, task=task, absent=to_come, feed=self
            )
            self.add(fed)
        return made

    def remove(self, filler: "Fed") -> None:
        """Tell a filler no more."""
        with self.lock:
            self._fillers[filler.task].remove(filler)

    def came(self, task: int, runs: list[Run]) -> None:
        """Pages of a task are here now; a run's addresses are those at the source."""
        self.owed -= sum(end - start for start, end, _ in runs)
        with self.lock:
            for filler in self._fillers.get(task, ()):
                filler.tell(runs)


class Fed(Filler):
    """Fills one task of which some memory still comes.

    Parameters
    ----------
    runs, tally, start
        As for `Filler`.
    task : int
        The task as the source knows it.
    absent : list of Run
        What is to come: where in the task, and the address that it has at the source.
    feed : Feed
        Where it comes from.
    """

    def __init__(
        self,
        runs: list[Run],
        tally: Tally,
        start: Callable[[Filler, int], None],
        *,
        task: int,
        absent: list[Run],
        feed: Feed,
    ) -> None:
        super().__init__(runs, [], tally, start)
        self.task = task
        self.absent = Pending(absent)
        self._feed = feed
        self._news: list[Run] = []
        self._waiting: list[int] = []
        self._wanted: set[int] = set()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._bells.append(self._bell)

    def run(self, descriptor: int, restored: threading.Event) -> None:
        """Fill until nothing is left and nothing more is to come."""
        try:
            super().run(descriptor, restored)
        finally:
            self._feed.remove(self)
            os.close(self._bell)

    def tell(self, runs: list[Run]) -> None:
        """Pages have come (in the feed's lock)."""
        self._news += runs
        os.eventfd_write(self._bell, 1)

    def _fill_rest(self) -> None:
        super()._fill_rest()
        while (self.absent.runs or self.pending.runs) and not self._gone:
            if not self.pending.runs:
                self._serve(WAIT_S)
            super()._fill_rest()

    def _serve(self, timeout_s: float) -> bool:
        came = self._take_in()
        return super()._serve(0.0 if came else timeout_s) or came

    def _take_in(self) -> bool:
        """Take what has come into what is to be filled in; False where nothing has."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        with self._feed.lock:
            news, self._news = self._news, []
        for run in self.absent.swap(sorted(news)):
            self.pending.add(run)
        if news:
            self._ask_again()
        return bool(news)

    def _ask_again(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._asked += waiting

    def _hear(self, kind: int, first: int, second: int, third: int) -> None:
        super()._hear(kind, first, second, third)
        if kind in EVENTS_THAT_MOVE:
            self._follow(self.absent, kind, first, second, third)
            self._ask_again()

    def _forked(self) -> Filler:
        with self._feed.lock:
            child = Fed(
                list(self.pending.runs),
                self._tally,
                self._start,
                task=self.task,
                absent=list(self.absent.runs),
                feed=self._feed,
            )
            child.tell(list(self._news))
            self._feed.add(child)
        return child

    def _answer(self, page: int) -> bool:
        source = self.absent.find(page)
        if source is None:
            return super()._answer(page)
        self._waiting.append(page)
        if source not in self._wanted:
            self._wanted.add(source)
            self._feed.ask(self.task, source)
        return True
