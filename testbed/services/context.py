"""What an image is built from: the service's folder, our modules, and files that the user brings.

Weights and archives that may not be passed on are not in the testbed. Where the user has them, they
go into the image; where not, the recipe takes something free instead.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import ServiceError

OWN, MODELS = "own", "models"
"""Folders of the build context, and below ``/app`` in images: the user's files, and free ones."""
TOP = Path(__file__).resolve().parents[2]
SERVER_MODULES = ("testbed/services/conversations.py",)
CLIENT_MODULES = tuple(f"testbed/services/{name}.py" for name in ("ledger", "probe", "codecs"))
"""Modules of ours that servers and clients import; they keep their names where they are copied."""
PICTURES = "testbed/services/pictures.py"
"""What a server that is sent pictures needs besides."""
_NOT_COPIED = shutil.ignore_patterns("__pycache__", OWN, MODELS)


@dataclass(frozen=True)
class OwnFile:
    """A file that the user may bring.

    option : names its path in a scenario. name : as the server looks for it in ``/app/own``; also
    looked for in ``models`` below TESTBED_DATA. sha256 : its only right content; empty where many
    releases are right.
    """

    option: str
    name: str
    sha256: str = ""

    def find(self, asked: str) -> Path | None:
        """Where the user has it; ``None`` where it was not asked for and is not there.

        Raises
        ------
        ServiceError
            If what was asked for is not there, or is another file.
        """
        named = [Path(p) for p in os.environ.get("TESTBED_DATA", "").split(os.pathsep) if p]
        places = [Path(asked)] if asked else [path / "models" / self.name for path in named]
        found = next((path for path in places if path.is_file()), None)
        if found is None:
            if asked:
                raise ServiceError(
                    f"option {self.option!r}: there is no file {asked}; correct the path, or leave "
                    "the option out to take what is free"
                )
            return None
        if self.sha256 and (digest := sha256_of(found)) != self.sha256:
            raise ServiceError(
                f"{found} is not the known {self.name} (sha256 {digest}, not {self.sha256}); was "
                "it downloaded whole? Move it away to take what is free"
            )
        return found


def sha256_of(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_modules(modules: Iterable[str], folder: Path) -> None:
    """Copy modules of ours into a folder, under their names."""
    for module in modules:
        target = folder / module
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TOP / module, target)


def write_context(
    folder: Path, source: Path, modules: Iterable[str], files: Mapping[str, Path]
) -> None:
    """Fill an empty folder with all that a recipe may copy.

    Parameters
    ----------
    source : Path
        The service's own folder.
    modules : iterable of str
        Modules of ours that the server imports.
    files : mapping of str to Path
        The user's files, by the name they get in `OWN`.
    """
    shutil.copytree(source, folder, ignore=_NOT_COPIED, dirs_exist_ok=True)
    copy_modules(modules, folder)
    for name in (OWN, MODELS):
        (folder / name).mkdir()
    for name, path in files.items():
        target = folder / OWN / name
        try:
            os.link(path, target)
        except OSError:  # another file system, or not the owner
            shutil.copyfile(path, target)
