"""The memory of a service on its way in, from the first page that comes until all is filled in.

What is sent ahead is kept for each task (`edge.incoming`). When the service has been frozen, the
images that CRIU restores are written from it; what need not be in them is filled in behind the
restore, by what is here (`edge.fill`) and by what still comes (`edge.feed`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .feed import Ask, Feed
from .fill import Fill, Run, Tally
from .incoming import Memory
from .pages import Span

if TYPE_CHECKING:
    from .visits import Visit


class Arriving:
    """The memory of all tasks of one service.

    Parameters
    ----------
    scratch : Path
        Where it is kept (``base``) and what CRIU restores (``img``).
    spoil : callable
        Ends the service when some of its memory will never be there.
    ask : callable
        Asks the source for a page that the service needs now.
    visit : Visit, optional
        What is still here of an earlier visit.
    """

    def __init__(
        self,
        scratch: Path,
        spoil: Callable[[], None],
        ask: Ask,
        visit: "Visit | None" = None,
    ) -> None:
        self._base, self._images = scratch / "base", scratch / "img"
        for folder in (self._base, self._images):
            folder.mkdir()
        self._tasks: dict[int, Memory] = {}
        self._fill = Fill(self._images / "lazy-pages.socket")
        self._fill.tally.spoil = spoil
        self._ask = ask
        self._visit = visit
        self._gone: dict[int, list[Span]] = {}
        self._feed: Feed | None = None
        self.is_filling = False

    @property
    def owed(self) -> int:
        """How many bytes are still to come."""
        return self._feed.owed if self._feed else 0

    @property
    def problems(self) -> list[str]:
        """Why some of it will never be there; empty as long as all may."""
        return self._fill.tally.problems

    def take(self, head: dict[str, Any], data: bytes) -> None:
        """Take pages of one task."""
        task, kept = head["task"], list[tuple[int, bytes]]()
        if self._visit and head.get("kept"):
            kept, gone = self._visit.read(head["kept"])
            self._gone[task] = self._gone.get(task, []) + gone
        self._of(task).take_all(head["spans"], head["blank"], memoryview(data), kept)

    def fork(self, head: dict[str, Any]) -> None:
        """Let a task that was not known yet begin with the memory of the one it was forked from."""
        task, parent = head["task"], head["parent"]
        self._of(task).take_over(self._of(parent))
        if parent in self._gone:
            self._gone[task] = list(self._gone[parent])

    def seal(self) -> dict[int, list[Span]]:
        """End of a round; what the visit was to have, and has not, is to be sent again."""
        for memory in self._tasks.values():
            memory.seal()
        gone, self._gone = self._gone, {}
        return {task: spans for task, spans in gone.items() if spans}

    def place(self, head: dict[str, Any], data: bytes) -> None:
        """Write the images that CRIU restores from; begin to fill in what is not in them."""
        view, at, small = memoryview(data), 0, dict[str, bytes]()
        for name, size in head["images"]:
            small[name] = bytes(view[at : at + size])
            at += size
        runs: dict[int, list[Run]] = {}
        absent: dict[int, list[Span]] = {}
        for name, task in head["tasks"].items():
            pagemap = small.pop(name)
            if head["fill"]:
                mm = small[f"mm-{task}.img"]
                stale = None if head["stale"] is None else head["stale"].get(str(task), [])
                runs[task], absent[task] = self._of(task).lay_out(pagemap, mm, self._images, stale)
            else:
                self._tasks[task].seal()
                self._tasks[task].compose(pagemap, self._images)
        for name, content in small.items():
            (self._images / name).write_bytes(content)
        if not head["fill"]:
            (self._images / "parent").symlink_to("../base")
            return
        if head["stale"] is None:
            self._fill.begin(runs, {int(task): spans for task, spans in head["hot"].items()})
        else:
            self._feed = Feed(self._ask)
            self._fill.begin_with(self._feed.fillers(runs, absent, self._fill))
        self.is_filling = True

    def came(self, head: dict[str, Any]) -> None:
        """Pages that were to come later are here, in the version that the service stopped with."""
        if self._feed is None:
            raise RuntimeError("nothing was to come later")
        task = head["task"]
        self._feed.came(task, self._of(task).runs(map(tuple, head["spans"])))

    def filled(self, timeout_s: float | None) -> Tally:
        """Wait until all that can be filled in is; return what happened.

        Raises
        ------
        TimeoutError
            If it takes longer.
        """
        return self._fill.end(timeout_s)

    def close(self) -> None:
        """Take no more."""
        self._fill.close()
        if self._visit:
            self._visit.close()

    def _of(self, task: int) -> Memory:
        if task not in self._tasks:
            self._tasks[task] = Memory(self._base, task, len(self._tasks) + 1)
        return self._tasks[task]
