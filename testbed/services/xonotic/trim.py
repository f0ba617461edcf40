"""Leave out of a game's data what only its players' screens and loudspeakers need.

Runs while the image is built: of Nexuiz' 278 MB a dedicated server reads 60.
"""

import sys
import zipfile

ONLY_FOR_PLAYERS = ("ase", "dem", "jpg", "map", "ogg", "psd", "tga", "wav")


def main(source: str, target: str) -> None:
    """Copy the archive ``source`` to ``target``, without what a server does not read."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w") as trimmed:
        for entry in whole.infolist():
            if entry.filename.rpartition(".")[2].lower() not in ONLY_FOR_PLAYERS:
                trimmed.writestr(entry, whole.read(entry), compress_type=zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main(*sys.argv[1:])
