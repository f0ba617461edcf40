"""Photos of faces and whose they are, for the client.

Portraits come with packages on PyPI, the driver from the video of the face detection. Who is
enrolled, and who must be recognised or refused, stands in `PEOPLE`; whose face a picture shows is
what the packages say.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from testbed.errors import ServiceError
from testbed.services.face_detection.inputs import write_inputs as write_video
from testbed.services.package import Package

LONGEST_SIDE_PX = 640
JPEG_QUALITY = 92
_TESTS = "face_recognition-1.3.0/tests/test_images"
PORTRAITS = Package(
    "sdist",
    "face_recognition==1.3.0",
    {
        f"{_TESTS}/obama.jpg": "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6",
        f"{_TESTS}/obama2.jpg": "a7efcc907375274796f39646510704aa86672d59f6d5469d69af3c85590976a6",
        f"{_TESTS}/obama3.jpg": "76ac6bf97c36dc2da0ad16a537d6a5ac1b10f48d49aac29a0cca9a17cdbc3ca3",
        f"{_TESTS}/biden.jpg": "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c",
    },
)
ASTRONAUT = Package(
    "wheel",
    "scikit-image==0.26.0",
    {
        "skimage/data/astronaut.png": (
            "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"
        ),
    },
)
PEOPLE: tuple[dict[str, Any], ...] = (
    {"photo": "obama.jpg", "enrol": "Barack Obama"},
    {"photo": "000.jpg", "enrol": "the driver"},
    {"photo": "obama2.jpg", "name": "Barack Obama"},
    {"photo": "040.jpg", "name": "the driver"},
    {"photo": "biden.jpg", "name": None},
    {"photo": "obama3.jpg", "name": "Barack Obama"},
    {"photo": "astronaut.png", "name": None},
    {"photo": "080.jpg", "name": "the driver"},
)
"""In the order in which they are sent. ``name``: who must be recognised, ``None``: nobody known."""


def write_inputs(folder: Path, cache: Path) -> None:
    """Write ``photos/NUMBER.jpg`` and ``people.json`` into ``folder``.

    Raises
    ------
    ServiceError
        If a package cannot be had.
    """
    import cv2  # noqa: PLC0415 - takes long to load, and most users of this module never get here

    sources = {**PORTRAITS.fetch(cache), **ASTRONAUT.fetch(cache)}
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as video:
        write_video(Path(video), cache)
        people = []
        for number, person in enumerate(PEOPLE):
            name = person["photo"]
            photo = cv2.imread(str(sources.get(name, Path(video) / "frames" / name)))
            if photo is None:
                raise ServiceError(f"{name} cannot be decoded; remove it from {cache / 'inputs'}")
            scale = min(1.0, LONGEST_SIDE_PX / max(photo.shape[:2]))
            smaller = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            jpeg = cv2.imencode(".jpg", smaller, quality)[1].tobytes()
            (folder / "photos" / f"{number}.jpg").write_bytes(jpeg)
            people.append({**person, "photo": f"{number}.jpg", "from": name})
    (folder / "people.json").write_text(json.dumps(people) + "\n", encoding="utf-8")
