"""``testbed data geolife``: from a user's own copy of GeoLife to traces that load fast.

The copy is a folder, the ``.zip`` of Microsoft Research or its address. It is checked, converted in
a folder of its own and put in place by one renaming, so that an import is whole or not there. The
licence forbids passing the data on: nothing here knows an address of it.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from testbed.errors import ChecksumError, DataImportError, DataNotFoundError, TestbedError
from testbed.hosts.root import default_cache
from testbed.mobility.geolife import archive, checksums, download
from testbed.mobility.geolife.dataset import choose_users
from testbed.mobility.geolife.plt import Rules
from testbed.mobility.geolife.store import (
    MANIFEST,
    TRACES,
    Manifest,
    is_ours,
    is_whole,
    read_manifest,
    write_traces,
)
from testbed.mobility.geolife.tracks import IMPORTED
from testbed.mobility.report import DatasetReport

_STAGING = ".geolife-"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_LOCKED = {errno.EACCES, errno.EPERM, errno.EROFS}


@dataclass(frozen=True)
class Imported:
    """An imported data set; ``fresh`` is False where it was there already, unchanged."""

    folder: Path
    manifest: Manifest
    fresh: bool

    @property
    def report(self) -> DatasetReport:
        """What is in it and what was left out."""
        return self.manifest.report()

    def __str__(self) -> str:
        """What there is, where, and how far it was checked."""
        state = "imported to" if self.fresh else "unchanged, already in"
        return (
            f"{self.report}\n{state} {self.folder}\nchecksum: {self.manifest.checked}\n"
            f"licence: {self.manifest.licence}"
        )

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def default_folder() -> Path:
    """The first folder of ``TESTBED_DATA`` that can be written to, else the cache."""
    for name in os.environ.get("TESTBED_DATA", "").split(os.pathsep):
        if name and Path(name).is_dir() and os.access(name, os.W_OK):
            return Path(name)
    return default_cache()


def import_geolife(
    source: str | Path,
    out: Path | None = None,
    *,
    sha256: str | None = None,
    rules: Rules | None = None,
    progress: bool = True,
) -> Imported:
    """Import GeoLife, or any part of it, into ``OUT/geolife-1.3``.

    Parameters
    ----------
    source : str or Path
        A folder (see `geolife.user_folders`), a ``.zip``, or an ``http``, ``https`` or ``file``
        address of one.
    out : Path, optional
        Absent: `default_folder`.
    sha256 : str, optional
        Of the ``.zip``; for a folder, of its ``SHA256SUMS``. A ``SHA256SUMS`` in or beside the
        source is checked in any case.
    rules : Rules, optional
        What is left out and where tracks are cut.
    progress : bool
        Show bars on a terminal.

    Raises
    ------
    DataNotFoundError
        If there is no such source or no track in it.
    ChecksumError
        If a file is not the one that was meant.
    DataImportError
        If it cannot be fetched, unpacked or written; an earlier import stays as it was.
    """
    origin = _origin(source)
    expected = checksums.clean_sha256(sha256) if sha256 else ""
    home = default_folder() if out is None else Path(out)
    target = home / IMPORTED
    if target.exists() and not is_ours(target):
        raise DataImportError(
            f"{target} is there and was not made by an import; name another folder with -o"
        )
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _alone(home):
            return _import(origin, target, expected, rules or Rules(), progress=progress)
    except TestbedError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise DataImportError(
                f"{home}: the disk is full; nothing was imported. Make room, or name a folder on "
                "another disk with -o"
            ) from error
        if error.errno in _LOCKED:
            raise DataImportError(
                f"{error.filename or home}: {error.strerror}. Name a folder of your own with -o"
            ) from error
        raise DataImportError(f"{home}: import failed: {error}") from error


@dataclass(frozen=True)
class _Origin:
    """A folder or archive on this machine, or the address of an archive."""

    name: str
    path: Path | None

    def fingerprint(self) -> str:
        """Changes whenever the source may have."""
        if self.path is None:
            remote = download.ask(self.name)
            return repr(remote) if remote.same(remote) else ""
        if self.path.is_file():
            words = [self.path]
        else:
            words = [*self.path.rglob("*.plt"), *self.path.rglob("labels.txt")]
        sums = checksums.sums_beside(self.path)
        digest = hashlib.sha256()
        for path in sorted([*words, *([sums] if sums else [])]):
            about = path.stat()
            digest.update(f"{path} {about.st_size} {about.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def _origin(source: str | Path) -> _Origin:
    text = str(source)
    scheme = urllib.parse.urlsplit(text).scheme
    if scheme in {"http", "https"}:
        return _Origin(text, None)
    if scheme == "file":
        source = urllib.request.url2pathname(urllib.parse.urlsplit(text).path)
    path = Path(source).expanduser()
    if not path.exists():
        raise DataNotFoundError(
            f"{path}: there is no such folder or file. Get GeoLife GPS Trajectories 1.3 from "
            "Microsoft Research and name the folder, the .zip or its address"
        )
    return _Origin(str(path.resolve()), path.resolve())


def _import(
    origin: _Origin, target: Path, expected: str, rules: Rules, *, progress: bool
) -> Imported:
    fingerprint = origin.fingerprint()
    old = read_manifest(target)
    if (
        old is not None
        and fingerprint
        and old.fingerprint == fingerprint
        and old.rules == rules
        and expected in {"", old.sha256}
        and is_whole(target, old)
    ):
        return Imported(target, old, fresh=False)
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=target.parent))
    try:
        new = staging / "new"
        new.mkdir()
        folder, found, checked = _original(origin, staging, new, expected, progress=progress)
        reports = write_traces(choose_users(folder), new / TRACES, rules, progress=progress)
        manifest = Manifest(
            source=origin.name,
            fingerprint=fingerprint,
            sha256=found,
            checked=checked,
            rules=rules,
            users=reports,
            imported_at=datetime.now(UTC).isoformat(timespec="seconds"),
            versions={name: version(name) for name in ("testbed", "pandas", "pyarrow")},
        )
        (new / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        new.chmod(0o755)
        _swap(new, target, staging / "old")
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Imported(target, manifest, fresh=True)


def _swap(new: Path, target: Path, aside: Path) -> None:
    """Put a folder in place of another, which stays if that fails."""
    if target.exists():
        target.rename(aside)
    try:
        new.rename(target)
    except BaseException:
        if aside.exists():
            aside.rename(target)
        raise


def _original(
    origin: _Origin, staging: Path, new: Path, expected: str, *, progress: bool
) -> tuple[Path, str, str]:
    """The original files, checked: their folder, the sha256, and what was checked in words."""
    if origin.path is not None and origin.path.is_dir():
        users = [folder.resolve() for folder in choose_users(origin.path).values()]
        target = staging.parent.resolve() / IMPORTED
        if any(user.is_relative_to(target) for user in users):
            raise DataImportError(
                f"{origin.path}: {target} was made by an import. Name your own copy of GeoLife"
            )
        found, checked = _checked_folder(origin.path, expected, progress=progress)
        if origin.path.name != "Trajectory" and origin.path not in users:
            (new / "Data").symlink_to(users[0].parent)
        return origin.path, found, checked
    packed = origin.path or staging / "fetched.zip"
    if origin.path is None:
        download.fetch(origin.name, packed, progress=progress)
    found = checksums.file_sha256(packed)
    checked = "none was given"
    if expected:
        checksums.check_sha256(Path(origin.name), expected, found)
        checked = "the archive is the one that was asked for"
    sums = None if origin.path is None else checksums.sums_beside(origin.path)
    listed = checksums.read_sums(sums).get(packed.name) if sums else None
    if listed:
        checksums.check_sha256(packed, listed, found)
        checked = f"the archive is the one in {sums}"
    archive.unpack(packed, new, progress=progress)
    return new / "Data", found, checked


def _checked_folder(folder: Path, expected: str, *, progress: bool) -> tuple[str, str]:
    sums = checksums.sums_beside(folder)
    if sums is None:
        if expected:
            raise ChecksumError(
                f"{folder}: a folder has no sha256 of its own; --sha256 is that of a "
                f"{checksums.SUMS} in it, and there is none"
            )
        return "", "none was given"
    found = checksums.file_sha256(sums)
    if expected:
        checksums.check_sha256(sums, expected, found)
    count, unlisted = checksums.check_folder(folder, sums, progress=progress)
    more = f"; {len(unlisted)} files are not listed, as {unlisted[0]}" if unlisted else ""
    return found, f"{count} files are as in {sums}{more}"


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the folder against a second import, and remove what a killed one left."""
    with (home / ".geolife.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataImportError(
                f"{home}: another import is running there; wait for it"
            ) from error
        for left in home.glob(f"{_STAGING}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
