"""A folder of changes as a layer archive, and where it is kept.

An overlay's upper folder speaks the kernel's language (a removed file is a character device 0:0, a
folder that hides what is below it has an attribute); an archive speaks OCI's (``.wh.`` files). Both
forms are kept: the archive travels, the folder is mounted. See `testbed.images.image` for names.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from testbed.errors import ImageBuildError
from testbed.images.image import Layer, layer_archive, layer_folder

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_OPAQUE_ATTRIBUTE = "trusted.overlay.opaque"
_KERNEL_ATTRIBUTES = ("trusted.overlay.", "user.overlay.")
_ZSTD_LEVEL = "-6"

LEFT_OUT = (
    "dev",
    "proc",
    "sys",
    "tmp",
    "root/.cache",
    "var/cache/apt",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/apt/lists",
    "var/lib/dpkg/status-old",
    "var/log/alternatives.log",
    "var/log/apt",
    "var/log/bootstrap.log",
    "var/log/dpkg.log",
)
"""Folders emptied and files removed before changes become a layer: caches, logs, mount points."""


def is_whiteout(status: os.stat_result) -> bool:
    """Whether this is the kernel's mark for a removed file."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(folder: Path) -> bool:
    """Whether this folder of an upper layer hides everything below it."""
    try:
        return os.getxattr(folder, _OPAQUE_ATTRIBUTE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def write_archive(folder: Path, out: BinaryIO) -> None:
    """Write an upper folder as a layer archive: sorted, and the same for the same folder.

    Owners are numbers, times whole seconds; hard links, devices and extended attributes (such as
    file capabilities) are kept.
    """
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        first_names: dict[tuple[int, int], str] = {}
        for path, name in _walk(folder):
            status = path.lstat()
            if is_whiteout(status):
                archive.addfile(_marker(_beside(name, WHITEOUT), status))
                continue
            entry = _entry(path, name, status, first_names)
            if entry.isreg():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)
            if entry.isdir() and is_opaque(path):
                archive.addfile(_marker(f"{name}/{OPAQUE}", status))


def _walk(folder: Path, prefix: str = "") -> Iterator[tuple[Path, str]]:
    """Everything below a folder, parents first, in the order of the names."""
    for path in sorted(folder.iterdir()):
        yield path, prefix + path.name
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, f"{prefix}{path.name}/")


def _entry(
    path: Path, name: str, status: os.stat_result, first_names: dict[tuple[int, int], str]
) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode = stat.S_IMODE(status.st_mode)
    entry.uid, entry.gid = status.st_uid, status.st_gid
    entry.mtime = int(status.st_mtime)
    kind = stat.S_IFMT(status.st_mode)
    first = first_names.setdefault((status.st_dev, status.st_ino), name)
    if kind == stat.S_IFDIR:
        entry.type = tarfile.DIRTYPE
    elif first != name:
        entry.type, entry.linkname = tarfile.LNKTYPE, first
        return entry
    elif kind == stat.S_IFREG:
        entry.type, entry.size = tarfile.REGTYPE, status.st_size
    elif kind == stat.S_IFLNK:
        entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
    elif kind == stat.S_IFIFO:
        entry.type = tarfile.FIFOTYPE
    elif kind in {stat.S_IFCHR, stat.S_IFBLK}:
        entry.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
        entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    else:
        raise ImageBuildError(
            f"/{name}: a socket cannot be stored in a layer; end the program that opened it, or "
            "remove the file, in the same RUN"
        )
    entry.pax_headers = {
        f"SCHILY.xattr.{attribute}": value.decode("utf-8", "surrogateescape")
        for attribute, value in _attributes(path)
    }
    return entry


def _attributes(path: Path) -> list[tuple[str, bytes]]:
    """Extended attributes that belong to the file and not to the overlay it lay in."""
    with contextlib.suppress(OSError):
        return [
            (name, os.getxattr(path, name, follow_symlinks=False))
            for name in sorted(os.listxattr(path, follow_symlinks=False))
            if not name.startswith(_KERNEL_ATTRIBUTES)
        ]
    return []


def _beside(name: str, prefix: str) -> str:
    parent, slash, last = name.rpartition("/")
    return f"{parent}{slash}{prefix}{last}"


def _marker(name: str, status: os.stat_result) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mtime = int(status.st_mtime)
    entry.mode = 0o644
    return entry


def unpack_archive(archive: Path, folder: Path) -> None:
    """Unpack a layer archive, compressed or not, as an overlay's upper folder: the way back.

    Raises
    ------
    ImageBuildError
        If it cannot be unpacked.
    """
    done = subprocess.run(
        [
            *("tar", "-xf", archive, "--numeric-owner", "--xattrs", "--xattrs-include=*"),
            *("-C", folder),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ImageBuildError(f"{archive}: cannot be unpacked: {done.stderr.strip()[-500:]}")
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where) / name
            if name == OPAQUE:
                path.unlink()
                os.setxattr(where, _OPAQUE_ATTRIBUTE, b"y")
            elif name.startswith(WHITEOUT):
                path.unlink()
                os.mknod(path.with_name(name.removeprefix(WHITEOUT)), stat.S_IFCHR, 0)


class _Counted:
    """A writer that hashes and counts what passes through it."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def write(self, content: bytes) -> int:
        self.sha256.update(content)
        self.size_bytes += len(content)
        self._write(content)
        return len(content)


def keep_layer(
    cache: Path, upper: Path, work: Path, *, created_by: str, base: bool
) -> Layer | None:
    """Turn an upper folder into a layer of the cache; the folder moves there.

    Parameters
    ----------
    work : Path
        A folder on the same file system for what is not finished yet.

    Returns
    -------
    Layer or None
        ``None`` where nothing was changed.

    Raises
    ------
    ImageBuildError
        If the changes cannot be stored or compressed.
    """
    tidy(upper)
    if not any(upper.iterdir()):
        return None
    partial = work / "layer.tar.zst"
    with partial.open("wb") as out:
        compressor = subprocess.Popen(
            ["zstd", "-q", "-T0", _ZSTD_LEVEL, "-c"], stdin=subprocess.PIPE, stdout=out
        )
        try:
            assert compressor.stdin is not None  # noqa: S101 - asked for above
            counted = _Counted(compressor.stdin.write)
            write_archive(upper, counted)  # type: ignore[arg-type]
            compressor.stdin.close()
            if compressor.wait():
                raise ImageBuildError(f"zstd ended with {compressor.returncode}; is the disk full?")
        finally:
            compressor.kill()
            compressor.wait()
    digest = counted.sha256.hexdigest()
    archive, folder = layer_archive(cache, digest), layer_folder(cache, digest)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        upper.rename(folder)
    partial.replace(archive)
    return Layer(digest, counted.size_bytes, archive.stat().st_size, created_by, base)


def tidy(upper: Path) -> None:
    """Drop what is no part of a layer (`LEFT_OUT`); never what is marked as removed."""
    for name in LEFT_OUT:
        path = upper / name
        if path.is_symlink() or not path.exists() or is_whiteout(path.lstat()):
            continue
        if path.is_dir():
            for child in path.iterdir():
                if child.is_dir() and not child.is_symlink():
                    shutil.rmtree(child)
                elif not is_whiteout(child.lstat()):
                    child.unlink()
        else:
            path.unlink()
