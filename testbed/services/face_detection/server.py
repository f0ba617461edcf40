"""A server that finds faces in JPEG frames: OpenCV's Haar cascade.

A request is the length of a JPEG (4 bytes, big-endian) and the JPEG; its answer the length of a
JSON text and the text: ``{"sequence", "count", "processing_s", "faces": [[x, y, width, height],
...]}``. What is no JPEG is answered with ``{"sequence", "error"}`` and not counted.
"""

from pathlib import Path
from typing import Any

from testbed.services import conversations, pictures  # isort: skip - sets OpenCV's limits first

import cv2

CASCADE = "haarcascade_frontalface_default.xml"
PARAMETERS: dict[str, Any] = {"scaleFactor": 1.1, "minNeighbors": 3, "minSize": (48, 48)}


def load_detector() -> Any:
    """The cascade that OpenCV's own package ships."""
    pictures.use_one_core()
    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / CASCADE))


def detect(jpeg: bytes, detector: Any) -> list[list[int]]:
    """Faces in a JPEG as ``[x, y, width, height]`` in pixels, sorted.

    Raises
    ------
    ValueError
        If it is no JPEG that can be read.
    """
    frame = pictures.read_jpeg(jpeg, colour=False)
    faces = detector.detectMultiScale(frame, **PARAMETERS)
    return sorted([int(number) for number in face] for face in faces)


def main() -> None:
    """Listen and serve."""
    options = conversations.arguments("Find faces in frames.", port=8001).parse_args()
    detector = load_detector()
    conversations.serve(lambda jpeg: {"faces": detect(jpeg, detector)}, options)


if __name__ == "__main__":
    main()
