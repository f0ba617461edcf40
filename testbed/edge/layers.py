"""Image layers on an edge: moved once, known by digest, checked before they are used.

``python3 -m edge.layers missing DIGEST...`` prints those that are not here;
``python3 -m edge.layers unpack`` takes in the archives that were brought to `INCOMING`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

LAYERS = Path("/var/lib/testbed/layers")
INCOMING = Path("/var/lib/testbed/incoming")
SUFFIX = ".tar.zst"
REMOVED, HIDING = ".wh.", ".wh..wh..opq"
CHUNK = 1 << 20


def missing(digests: list[str]) -> list[str]:
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
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        archive.unlink()
    return final


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
