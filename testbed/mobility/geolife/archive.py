"""Taking GeoLife out of a ``.zip`` that somebody else packed, trusting nothing in it."""

import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from tqdm.auto import tqdm

from testbed.errors import DataImportError

_WANTED = re.compile(r"(?:.*/)?(Data/[^/]+/(?:Trajectory/[^/]+\.plt|labels\.txt))")
_CHUNK_BYTES = 1 << 20


def unpack(archive: Path, target: Path, *, progress: bool = True) -> int:
    """Unpack the tracks and labels of an archive to ``target/Data``; returns how many files.

    Only ``Data/NNN/Trajectory/*.plt`` and ``Data/NNN/labels.txt`` are taken, from any depth.

    Raises
    ------
    DataImportError
        If it is no zip file, is damaged, encrypted or larger than the disk has room for, holds no
        tracks, or has a member that would land elsewhere (an absolute path, ``..``, a link).
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            members = _members(archive, packed)
            size = sum(member.file_size for member in members.values())
            free = shutil.disk_usage(target).free
            if size > free:
                raise DataImportError(
                    f"{archive}: {size / 1e9:.2f} GB unpacked, and {target.parent} has "
                    f"{free / 1e9:.2f} GB left. Name a folder on a larger disk with -o"
                )
            with tqdm(
                total=size,
                unit="B",
                unit_scale=True,
                desc="unpack",
                leave=False,
                disable=None if progress else True,
            ) as bar:
                for name, member in members.items():
                    _copy(packed, member, target / name)
                    bar.update(member.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataImportError(
            f"{archive}: not a whole zip file ({error}). Fetch it again"
        ) from error
    return len(members)


def _members(archive: Path, packed: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """What is to be unpacked, by path below the target."""
    found: dict[str, zipfile.ZipInfo] = {}
    for member in packed.infolist():
        name = member.filename.replace("\\", "/")
        link = stat.S_ISLNK(member.external_attr >> 16)
        if name.startswith("/") or ":" in name or ".." in name.split("/") or link:
            raise DataImportError(
                f"{archive}: member {member.filename!r} {'is a link' if link else 'leads outside'}."
                " This is not the archive of Microsoft Research; nothing was unpacked"
            )
        match = _WANTED.fullmatch(name)
        if match is None:
            continue
        if member.flag_bits & 1:
            raise DataImportError(
                f"{archive}: {member.filename!r} is encrypted; unpack it yourself"
            )
        if match[1] in found:
            raise DataImportError(f"{archive}: holds {match[1]} twice")
        found[match[1]] = member
    if not any(name.endswith(".plt") for name in found):
        raise DataImportError(f"{archive}: holds no Data/NNN/Trajectory/*.plt; is it GeoLife 1.3?")
    return found


def _copy(packed: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Copy one member; `zipfile` itself checks length and CRC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with packed.open(member) as source, path.open("xb") as file:
        shutil.copyfileobj(source, file, _CHUNK_BYTES)
