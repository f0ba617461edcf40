"""Where a checkpoint's images lie: a folder, or an archive of one, whoever wrote it.

CRIU and crun write a folder. podman's export is an archive with the images in ``checkpoint/``,
plain or compressed by gzip or zstd. What is in an archive is unpacked into a temporary folder that
goes with the object.
"""

import gzip
import lzma
import re
import shutil
import struct
import subprocess
import tarfile
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from testbed.checkpoints.formats import COMMON, MAGIC, SERVICE
from testbed.checkpoints.wire import Table, decode
from testbed.errors import CheckpointError

FIRST = "inventory.img"
"""Every checkpoint has one."""
_IMAGE = re.compile(r"[\w.-]+\.img|stats-dump|stats-restore")
_ZSTD = b"\x28\xb5\x2f\xfd"
_GZIP, _XZ = b"\x1f\x8b", b"\xfd7zXZ"
_MAGIC_BYTES = 4
_DEEPEST = 3


class Store:
    """The images of one checkpoint by their names.

    Parameters
    ----------
    path : Path
        A folder with CRIU's images in it or somewhat below, or an archive of one.

    Raises
    ------
    CheckpointError
        If there are none, or images of several checkpoints.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir():
            self.folder = _find(path)
        elif path.is_file():
            unpacked = tempfile.mkdtemp(prefix="checkpoint-")
            self._end = weakref.finalize(self, shutil.rmtree, unpacked, ignore_errors=True)
            _unpack(path, Path(unpacked))
            self.folder = Path(unpacked)
        else:
            raise CheckpointError(f"{path}: there is no such file or folder")

    def names(self, pattern: str = "*") -> list[str]:
        """Names of the images that fit a pattern."""
        return sorted(p.name for p in self.folder.glob(pattern) if _IMAGE.fullmatch(p.name))

    def size(self, name: str) -> int:
        """Bytes of an image; 0 where there is none."""
        path = self.folder / name
        return path.stat().st_size if path.is_file() else 0

    def entries(self, name: str, table: Table, *, only_first: bool = False) -> list[dict[str, Any]]:
        """Every message of an image.

        ``only_first``: the rest of this image is not made of messages.

        Raises
        ------
        CheckpointError
            If the image is missing, cut short, or not what its name says.
        """
        data, kind = self.read(name), name.partition(".")[0]
        magic = MAGIC[next(k for k in MAGIC if kind == k or kind.startswith(f"{k}-"))]
        at = _MAGIC_BYTES
        words = list(struct.unpack_from(f"<{min(2, len(data) // _MAGIC_BYTES)}I", data))
        if words and words[0] in {COMMON, SERVICE}:
            words, at = words[1:], 2 * _MAGIC_BYTES
        if not words or words[0] != magic:
            raise CheckpointError(
                f"{self.path}: {name} does not begin as such an image of CRIU does (magic number "
                f"{words[0] if words else 0:#x}, not {magic:#x}); copy the checkpoint again"
            )
        found = []
        try:
            for message in _framed(data, at):
                found.append(decode(message, table))
                if only_first:
                    break
        except ValueError as error:
            raise self.broken(name, str(error)) from error
        return found

    def only(self, name: str, table: Table) -> dict[str, Any]:
        """The first message of an image, or an empty one."""
        found = self.entries(name, table, only_first=True)
        if not found:
            raise self.broken(name, "nothing is in it")
        return found[0]

    def read(self, name: str) -> bytes:
        """The bytes of a small image.

        Raises
        ------
        CheckpointError
            If there is none, or it cannot be read.
        """
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            raise self.broken(name, "it is missing") from None
        except OSError as error:
            raise self.broken(name, f"it cannot be read: {error.strerror}") from error

    def broken(self, name: str, what: str) -> CheckpointError:
        """What to raise where an image is not whole."""
        return CheckpointError(
            f"{self.path}: {name} is not whole ({what}). A dump that failed, or a copy that "
            "was interrupted? Take the checkpoint or copy it again"
        )


def _framed(data: bytes, at: int) -> Iterator[bytes]:
    while at < len(data):
        if at + 4 > len(data):
            raise ValueError(f"cut short at byte {len(data)}")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + length > len(data):
            raise ValueError(f"cut short at byte {len(data)}")
        yield data[at : at + length]
        at += length


def _find(top: Path) -> Path:
    """The one folder with images at or below ``top``."""
    for depth in range(_DEEPEST):
        found = [path.parent for path in sorted(top.glob("*/" * depth + FIRST))]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(str(folder.relative_to(top)) for folder in found)
            raise CheckpointError(f"{top}: holds several checkpoints; name one of: {names}")
    raise CheckpointError(
        f"{top}: no checkpoint, {FIRST} is neither in it nor below. CRIU writes it into the "
        "folder that it is given (`--images-dir`, `--image-path`)"
    )


def _unpack(archive: Path, into: Path) -> None:
    """Unpack the images of an archive, and nothing else of it, flat into a folder."""
    homes = set()
    try:
        with _opened(archive) as tar:
            for member in tar:
                where = PurePosixPath(member.name)
                if not member.isreg() or not _IMAGE.fullmatch(where.name):
                    continue
                source = tar.extractfile(member)
                if where.name == FIRST:
                    homes.add(str(where.parent))
                if source is not None:
                    with (into / where.name).open("wb") as copy:
                        shutil.copyfileobj(source, copy, 1 << 20)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise CheckpointError(
            f"{archive}: not an archive that can be read to its end ({error}). A checkpoint is a "
            "folder of CRIU's images or a tar archive of one, plain or compressed by gzip, xz or "
            "zstd; copy it again"
        ) from error
    if len(homes) > 1:
        names = ", ".join(sorted(homes))
        raise CheckpointError(f"{archive}: holds several checkpoints ({names}); unpack it first")
    if not homes:
        raise CheckpointError(f"{archive}: no checkpoint, {FIRST} is not in this archive")


class _Read:
    """A file that remembers how much was read of it, and what last."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0
        self.last = b""

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.size += len(data)
        self.last = (self.last + data)[-tarfile.BLOCKSIZE :]
        return data


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    """An archive as a stream; `EOFError` where it lacks its end, which `tarfile` does not mind."""
    with _decompressed(archive) as file:
        stream = _Read(file)
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as tar:
            yield tar
            while stream.read(1 << 20):
                pass
            if stream.size < tar.offset + tarfile.BLOCKSIZE or any(stream.last):
                raise EOFError(f"it is cut short after {stream.size} bytes")


@contextmanager
def _decompressed(archive: Path) -> Iterator[IO[bytes]]:
    with archive.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(_GZIP):
        with gzip.open(archive) as file:
            yield cast("IO[bytes]", file)
    elif magic.startswith(_XZ):
        with lzma.open(archive) as file:
            yield file
    elif magic.startswith(_ZSTD):
        with _zstd(archive) as file:
            yield file
    else:
        with archive.open("rb") as file:
            yield file


@contextmanager
def _zstd(archive: Path) -> Iterator[IO[bytes]]:
    with subprocess.Popen(
        ["zstd", "-dcq", str(archive)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as zstd:
        if zstd.stdout:  # a pipe was asked for
            yield zstd.stdout
        said = zstd.stderr.read().decode(errors="replace").strip() if zstd.stderr else ""
    if zstd.returncode:
        raise OSError(said or "zstd failed")
