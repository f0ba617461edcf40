"""Xonotic's dedicated server, taken out of the archive that its makers publish."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

from testbed.errors import ServiceError

ARCHIVE = "xonotic.zip"
PROGRAM = "xonotic-linux64-dedicated"
_NOT_FOR_A_SERVER = ("music", "font")


def write_models(folder: Path, cache: Path, own: Mapping[str, Path]) -> None:  # noqa: ARG001
    """Unpack what a server needs into ``xonotic/``; without an archive there is nothing to do.

    Raises
    ------
    ServiceError
        If the archive is none of Xonotic's.
    """
    if ARCHIVE not in own:
        return
    try:
        with zipfile.ZipFile(own[ARCHIVE]) as archive:
            names = [name for name in archive.namelist() if _wanted(name)]
            if not any(name.endswith(f"/{PROGRAM}") for name in names):
                raise ServiceError(
                    f"{own[ARCHIVE]}: there is no {PROGRAM} in it; it must be the archive of a "
                    "Xonotic release, such as xonotic-0.8.6.zip"
                )
            for name in names:
                target = folder / "xonotic" / Path(name).relative_to("Xonotic")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
    except zipfile.BadZipFile as error:
        raise ServiceError(f"{own[ARCHIVE]}: not a whole zip archive ({error})") from error
    (folder / "xonotic" / PROGRAM).chmod(0o755)


def _wanted(name: str) -> bool:
    path = Path(name)
    if path.parts[:1] != ("Xonotic",) or ".." in path.parts or name.endswith("/"):
        return False
    if path.parts[1] == "data":
        return path.suffix == ".pk3" and not any(word in path.name for word in _NOT_FOR_A_SERVER)
    return path.name == PROGRAM or path.suffix == ".d0pk"
