"""Image layers on an edge: moved once, known by digest, checked before they are used.

Each is kept unpacked, to be mounted, and as the archive it came in, for other edges that lack it:
only that has the content which the digest is of.

``python3 -m edge.layers missing DIGEST...`` prints those that are not here;
``python3 -m edge.layers unpack`` takes in the archives that were brought to `INCOMING`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .channel import Channel

LAYERS = Path("/var/lib/testbed/layers")
INCOMING = Path("/var/lib/testbed/incoming")
SUFFIX = ".tar.zst"
REMOVED, HIDING = ".wh.", ".wh..wh..opq"
CHUNK = 1 << 20


def archive_of(digest: str) -> Path:
    """Where the archive of a layer lies that this edge has."""
    return LAYERS / f"{digest}{SUFFIX}"


def missing(digests: Sequence[str]) -> list[str]:
    """Those of ``digests`` that this edge lacks."""
    INCOMING.mkdir(parents=True, exist_ok=True)
    return [digest for digest in digests if not (LAYERS / digest).is_dir()]


def unpack(archive: Path) -> Path:
    """Unpack one archive into the folder named by its digest.

    Raises
    ------
    ValueError
        If its content is not what its name says; nothing is kept then.
    RuntimeError
        If ``zstd`` or ``tar`` fails.
    """
    digest = archive.name.removesuffix(SUFFIX)
    final, partial = LAYERS / digest, LAYERS / f".{digest}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        found = _extract(archive, partial)
        if found != digest:
            raise ValueError(
                f"layer {digest[:19]} arrived damaged (its content has digest {found[:19]}); "
                "provision this edge again"
            )
        _mark_removals(partial)
        shutil.move(archive, archive_of(digest))
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        archive.unlink(missing_ok=True)
    return final


def pieces(digest: str) -> Iterator[bytes]:
    """The archive of a layer of this edge, as it is sent to another; the last piece is empty.

    Raises
    ------
    FileNotFoundError
        If it is not here.
    """
    try:
        with archive_of(digest).open("rb") as archive:
            while data := archive.read(CHUNK):
                yield data
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"layer {digest[:19]} is neither at the target nor, as an archive, at the source: "
            "provision the target with the image"
        ) from error
    yield b""


def bring(channel: "Channel", digests: Sequence[str]) -> str:
    """Send the other edge those layers that it lacks; say how many, if any.

    Raises
    ------
    FileNotFoundError
        If one is not here.
    """
    lacking = channel.ask({"message": "lacking", "layers": digests})["lacking"]
    for digest in lacking:
        offset = 0
        for data in pieces(digest):
            channel.send({"message": "layer", "digest": digest, "offset": offset}, [data])
            offset += len(data)
        channel.ask({"message": "sync"})  # a large one takes long to unpack
    return f"{len(lacking)} layers sent" if lacking else ""


def take(digest: str, offset: int, data: bytes) -> None:
    """Take a piece that another edge sends; with the last the layer is there, checked.

    Raises
    ------
    ValueError, RuntimeError
        See `unpack`.
    """
    coming = INCOMING / f"{digest}.part"
    with coming.open("r+b" if offset else "wb") as archive:
        archive.seek(offset)
        archive.write(data)
    if not data:
        unpack(coming.rename(INCOMING / f"{digest}{SUFFIX}"))


def _extract(archive: Path, folder: Path) -> str:
    """Unpack with the system's tar, hashing on the way; return the content's sha256."""
    sha256 = hashlib.sha256()
    with (
        subprocess.Popen(["zstd", "-dcq", str(archive)], stdout=subprocess.PIPE) as zstd,
        subprocess.Popen(
            ["tar", "-x", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", str(folder)],
            stdin=subprocess.PIPE,
        ) as tar,
    ):
        if zstd.stdout is None or tar.stdin is None:  # pragma: no cover - pipes were asked for
            raise RuntimeError("no pipes")
        while data := zstd.stdout.read(CHUNK):
            sha256.update(data)
            tar.stdin.write(data)
        tar.stdin.close()
    if zstd.returncode or tar.returncode:
        raise RuntimeError(f"{archive.name} could not be unpacked (zstd or tar failed)")
    return sha256.hexdigest()


def _mark_removals(folder: Path) -> None:
    """Turn an OCI layer's marks into what overlayfs understands."""
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where) / name
            if name == HIDING:
                path.unlink()
                os.setxattr(where, "trusted.overlay.opaque", b"y")
            elif name.startswith(REMOVED):
                path.unlink()
                os.mknod(path.with_name(name.removeprefix(REMOVED)), 0o20000, 0)


def main(arguments: list[str]) -> None:
    """Do what the command line asks."""
    if arguments[:1] == ["missing"]:
        print(*missing(arguments[1:]), sep="\n")  # noqa: T201
    elif arguments == ["unpack"]:
        for archive in sorted(INCOMING.glob(f"*{SUFFIX}")):
            print(unpack(archive).name)  # noqa: T201
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
