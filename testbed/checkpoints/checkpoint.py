"""A checkpoint, read: processes, memory by mapping, files, sockets, sizes."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from testbed.checkpoints import formats, tasks
from testbed.checkpoints.memory import Pages, find_page_size, read_pages
from testbed.checkpoints.store import FIRST, Store

if TYPE_CHECKING:
    from testbed.checkpoints.difference import Difference

PROCESSES = ("pid", "ppid", "name", "state", "threads", "bits", "command", "program", "held_bytes")
MAPPINGS = (
    "pid", "start", "end", "size_bytes", "access", "kind", "path", "held_pages", "zero_pages",
    "parent_pages", "lazy_pages", "held_bytes", "pagemap", "pagemap_start",
)  # fmt: skip
FILES = ("pid", "fd", "kind", "what", "access", "position", "size_bytes")
SOCKETS = (
    "pid", "fd", "family", "protocol", "state", "local", "remote", "received_bytes",
    "unacknowledged_bytes",
)  # fmt: skip
IMAGES = ("image", "kind", "size_bytes")


class Checkpoint:
    """What CRIU wrote of a container's processes, wherever it lies.

    ``Checkpoint.open(path)`` reads a folder of images or an archive of one. The tables are
    DataFrames, made when they are first asked for; ``checkpoint.difference(previous)`` says which
    pages changed.

    Parameters
    ----------
    store : Store
        Its images.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.path = store.path
        store.only(FIRST, formats.INVENTORY)
        self._tasks = tasks.read_tasks(store)
        self.machine = self._tasks[0].machine
        self.page_size = find_page_size(store, self.machine)
        self._pages: dict[str, Pages] = {}
        self._files = tasks.read_files(store)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read a checkpoint.

        Raises
        ------
        CheckpointError
            If there is none at this path, or it is not whole.
        """
        return cls(Store(Path(path)))

    @cached_property
    def processes(self) -> pd.DataFrame:
        """One row per process, parents before their children.

        ``command`` is read from its memory and empty where that is not in the images.
        ``held_bytes`` is its private memory in these images.
        """
        rows = [
            (
                task.pid, task.ppid, task.name, task.state, len(task.threads), task.bits,
                self._command(task), self._path(task.memory.get("program", 0)),
                len(self.pages_of(task.pid).held) * self.page_size,
            )
            for task in self._tasks
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=list(PROCESSES))

    @cached_property
    def mappings(self) -> pd.DataFrame:
        """One row per mapping of every process.

        Of its pages, ``held_pages`` are in these images (``zero_pages`` of them hold nothing but
        zeros), ``parent_pages`` in the parent image, ``lazy_pages`` are to be asked for later. All
        others were never touched, or are the file's own. ``pagemap`` is the image that names the
        pages, ``pagemap_start`` where this mapping begins in it.
        """
        rows = [self._mapping(task, area) for task in self._tasks for area in task.mappings]
        return pd.DataFrame(rows, columns=list(MAPPINGS))

    @cached_property
    def files(self) -> pd.DataFrame:
        """One row per open file descriptor of every process, sockets included."""
        rows = [(task.pid, *tasks.describe_file(fd, kind, self._files.get(number, {})))
                for task, fd, kind, number in self._descriptors()]  # fmt: skip
        return pd.DataFrame(rows, columns=list(FILES))

    @cached_property
    def sockets(self) -> pd.DataFrame:
        """One row per socket descriptor, with its addresses and what waits in its queues.

        ``received_bytes`` have come and were not read, ``unacknowledged_bytes`` were written and
        have not been confirmed by the other side.
        """
        rows = [
            (task.pid, fd, *described)
            for task, fd, _, number in self._descriptors()
            if (described := tasks.describe_socket(self._store, self._files.get(number, {})))
        ]
        return pd.DataFrame(rows, columns=list(SOCKETS))

    @cached_property
    def images(self) -> pd.DataFrame:
        """The image files by size, largest first."""
        rows = [(name, name.partition(".")[0].partition("-")[0], self._store.size(name))
                for name in self._store.names()]  # fmt: skip
        frame = pd.DataFrame(rows, columns=list(IMAGES))
        return frame.sort_values("size_bytes", ascending=False, ignore_index=True)

    @cached_property
    def frozen_s(self) -> float:
        """How long CRIU says that the processes stood still; ``nan`` where it does not say."""
        if not self._store.size("stats-dump"):
            return float("nan")
        dump = self._store.only("stats-dump", formats.STATS).get("dump", {})
        return float(dump.get("frozen_us", float("nan"))) / 1e6

    @property
    def size_bytes(self) -> int:
        """Of all images."""
        return int(self.images["size_bytes"].sum())

    def pages_of(self, pid: int) -> Pages:
        """The private memory of a process in these images."""
        return self.pages_named(f"pagemap-{pid}.img")

    def pages_named(self, pagemap: str) -> Pages:
        """The pages that a page map names; none where there is no such image."""
        if pagemap not in self._pages:
            known = self._store.size(pagemap) > 0
            empty = Pages.none(self.page_size)
            found = read_pages(self._store, pagemap, self.page_size) if known else empty
            self._pages[pagemap] = found
        return self._pages[pagemap]

    def difference(self, previous: "Checkpoint") -> "Difference":
        """What changed since another checkpoint of the same processes, and where."""
        from testbed.checkpoints.difference import compare  # noqa: PLC0415 - it needs this module

        return compare(previous, self)

    def __repr__(self) -> str:
        """Which checkpoint it is, in one line."""
        return f"Checkpoint({str(self.path)!r}, processes={len(self._tasks)})"

    def __str__(self) -> str:
        """One screen for a terminal."""
        from testbed.checkpoints.screen import text  # noqa: PLC0415 - it needs this module

        return text(self)

    def _repr_html_(self) -> str:
        from testbed.checkpoints.page import html  # noqa: PLC0415 - drawing is slow to import

        return html(self)

    def _mapping(self, task: tasks.Task, area: dict[str, Any]) -> tuple[Any, ...]:
        start, end, status = area["start"], area["end"], area["status"]
        low, pagemap = start, f"pagemap-{task.pid}.img"
        if status & formats.BACKED_BY_SHARED_MEMORY and area.get("backing"):
            low, pagemap = area.get("offset", 0), f"pagemap-shmem-{area['backing']}.img"
        high, pages = low + end - start, self.pages_named(pagemap)
        held = pages.count(pages.held, low, high)
        backed = status & formats.BACKED_BY_FILE
        return (
            task.pid, start, end, end - start, tasks.access(area),
            tasks.mapping_kind(area, task.memory.get("stack", 0)),
            self._path(area.get("backing", 0)) if backed else "",
            held, pages.zeros(low, high), pages.count(pages.in_parent, low, high),
            pages.count(pages.lazy, low, high), held * self.page_size, pagemap, low,
        )  # fmt: skip

    def _command(self, task: tasks.Task) -> str:
        start, end = (task.memory.get(f"arguments_{side}", 0) for side in ("start", "end"))
        words = self.pages_of(task.pid).read(start, end).rstrip(b"\0").split(b"\0")
        return " ".join(word.decode("utf-8", errors="replace") for word in words)

    def _path(self, number: int) -> str:
        regular = self._files.get(number, {}).get("regular", {})
        return str(regular.get("name", ""))

    def _descriptors(self) -> Iterator[tuple[tasks.Task, int, int, int]]:
        """Process, descriptor, type and number of every open file."""
        for task in self._tasks:
            for entry in task.descriptors:
                yield task, entry["fd"], entry.get("type", 0), entry["id"]
