"""Is this the file that was meant: sha256 of one file, or a ``SHA256SUMS`` of many."""

import hashlib
import re
from pathlib import Path

from tqdm.auto import tqdm

from testbed.errors import ChecksumError, DataNotFoundError

SUMS = "SHA256SUMS"
_HEX = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clean_sha256(text: str) -> str:
    """A checksum as people write it, in lower case and without ``sha256:``.

    Raises
    ------
    ChecksumError
        If it is none.
    """
    digits = text.strip().lower().removeprefix("sha256:")
    if not _HEX.fullmatch(digits):
        raise ChecksumError(
            f"{text!r} is no sha256; it has 64 hexadecimal digits (`sha256sum FILE`)"
        )
    return digits


def check_sha256(path: Path, expected: str, found: str | None = None) -> str:
    """Refuse a file whose checksum is another; returns it.

    Raises
    ------
    ChecksumError
        With both checksums and the file.
    """
    expected, found = clean_sha256(expected), found or file_sha256(path)
    if found != expected:
        raise ChecksumError(
            f"{path}: its sha256 is {found}, and {expected} was asked for. Fetch the file again, "
            "or check the number"
        )
    return found


def read_sums(path: Path) -> dict[str, str]:
    """The files and checksums that a ``SHA256SUMS`` lists, by path below its own folder.

    Raises
    ------
    ChecksumError
        If a line cannot be read, with file and line.
    """
    found: dict[str, str] = {}
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ChecksumError(f"{path}:{number}: not `SHA256  FILE`: {line[:60]!r}")
        found[match[2].removeprefix("./")] = match[1].lower()
    return found


def sums_beside(path: Path) -> Path | None:
    """The ``SHA256SUMS`` in a folder, or beside a file or folder; ``None`` without one."""
    for folder in (path, path.parent):
        if (folder / SUMS).is_file():
            return folder / SUMS
    return None


def check_folder(folder: Path, sums: Path, *, progress: bool = True) -> tuple[int, list[str]]:
    """Check every file below a folder that ``sums`` lists.

    Returns
    -------
    checked : int
    unlisted : list of str
        ``.plt`` and ``labels.txt`` files that are there without a checksum.

    Raises
    ------
    ChecksumError
        At the first file that is another.
    DataNotFoundError
        If a listed file is missing.
    """
    root, inside = sums.parent.resolve(), folder.resolve()
    listed = {(root / name).resolve(): digest for name, digest in read_sums(sums).items()}
    listed = {path: digest for path, digest in listed.items() if path.is_relative_to(inside)}
    for path, digest in tqdm(
        listed.items(), desc="sha256", unit="file", leave=False, disable=None if progress else True
    ):
        if not path.is_file():
            raise DataNotFoundError(f"{path}: listed in {sums}, but not there. Copy the data again")
        check_sha256(path, digest)
    there = [*inside.rglob("*.plt"), *inside.rglob("labels.txt")]
    return len(listed), sorted(str(path) for path in there if path.resolve() not in listed)
