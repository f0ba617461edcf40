"""Files a service wrote: what changed since the last look, packed and unpacked.

A container's writable layer and its memory-backed folders do not travel inside a checkpoint; open
files must be there, with the same content, before the processes are restored.
"""

import contextlib
import io
import os
import shutil
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

OPAQUE = "trusted.overlay.opaque"
LEFT_OUT = {"run/criu.kdat"}
MEMORY_FOLDERS = ("tmp", "run", "dev/shm")

Stamp = tuple[int, ...]
"""Inode, mode, owner, group, size and time of change: enough to notice another file."""


@dataclass(frozen=True)
class Change:
    """Paths to copy and to remove, relative to the container's root, parents first."""

    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is anything to do."""
        return bool(self.written or self.removed)


@dataclass
class Watch:
    """Remembers how a container's files looked.

    upper : the writable layer. inside : the container's root as a process in it sees it.
    """

    upper: Path
    inside: Path
    _seen: dict[str, Stamp] = field(default_factory=dict)
    _hiding: set[str] = field(default_factory=set)

    def look(self) -> Change:
        """Return what changed since the last call (everything, the first time)."""
        now: dict[str, Stamp] = {}
        gone: set[str] = set()
        hiding: set[str] = set()
        for path, relative in self._walk():
            with contextlib.suppress(FileNotFoundError):
                s = path.lstat()
                if stat.S_ISCHR(s.st_mode) and s.st_rdev == 0:
                    gone.add(relative)  # overlayfs' whiteout: the image's file was deleted
                    continue
                if stat.S_ISSOCK(s.st_mode):
                    continue
                folder = stat.S_ISDIR(s.st_mode)
                size, changed = (0, 0) if folder else (s.st_size, s.st_ctime_ns)
                now[relative] = (s.st_ino, s.st_mode, s.st_uid, s.st_gid, size, changed)
                if folder and _hides_what_is_below(path):
                    hiding.add(relative)
        # A folder made anew in place of the image's starts empty at the target, too.
        anew = {f for f in hiding if f not in self._hiding or self._seen[f][0] != now[f][0]}
        below = {name for name in now if any(name.startswith(f"{f}/") for f in anew)}
        written = [n for n, s in now.items() if self._seen.get(n) != s or n in anew | below]
        removed = tuple(sorted((set(self._seen) - set(now)) | gone | anew))
        self._seen, self._hiding = now, hiding
        return Change(tuple(written), removed)

    def pack(self, change: Change) -> bytes:
        """The changed files as a tar archive; a hard link becomes a file of its own."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name in change.written:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    source = self._source(name)
                    member = tar.gettarinfo(source, arcname=name)
                    if member.islnk():
                        member.type = tarfile.REGTYPE
                    if member.isreg():  # read whole first: it may shrink or grow meanwhile
                        content = source.read_bytes()
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
                    else:
                        tar.addfile(member)
        return archive.getvalue()

    def _source(self, name: str) -> Path:
        in_memory = any(name.startswith(f"{folder}/") for folder in MEMORY_FOLDERS)
        return (self.inside if in_memory else self.upper) / name

    def _walk(self) -> list[tuple[Path, str]]:
        found = []
        for base, start in [
            (self.upper, self.upper),
            *((self.inside, self.inside / folder) for folder in MEMORY_FOLDERS),
        ]:
            for folder, folders, names in os.walk(start):
                here = Path(folder)
                if base == self.upper:
                    # Mount points: their content is looked at through the container.
                    folders[:] = [
                        f for f in folders if str((here / f).relative_to(base)) not in MASKED
                    ]
                for name in sorted([*folders, *names]):
                    relative = str((here / name).relative_to(base))
                    if relative not in LEFT_OUT:
                        found.append((here / name, relative))
        return found


MASKED = {*MEMORY_FOLDERS, ".testbed", "proc", "dev"}


def unpack(archive: bytes, removed: list[str], root: Path) -> None:
    """Bring the files under ``root`` (seen from inside the container) to the packed state.

    Nothing outside ``root`` is touched, whatever links stand below it.
    """
    for name in removed:
        if _parents_are_folders(root, name):
            _remove(root / name)
    if not archive:
        return
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            target = root / member.name
            if not (member.isdir() and target.is_dir() and not target.is_symlink()):
                _remove(target)  # never write through what stood here: link, pipe, open file
            if _parents_are_folders(root, member.name):
                tar.extract(member, root, numeric_owner=True, filter="fully_trusted")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def _parents_are_folders(root: Path, name: str) -> bool:
    """Whether no link leads away on the path to ``name``."""
    here = root
    for part in Path(name).parent.parts:
        here /= part
        if here.is_symlink() or not here.is_dir():
            return False
    return True


def _hides_what_is_below(folder: Path) -> bool:
    """Whether overlayfs takes nothing of the image's folder of this name."""
    try:
        return os.getxattr(folder, OPAQUE) == b"y"
    except OSError:
        return False
