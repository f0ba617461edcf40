"""A server that finds faces in JPEG frames: OpenCV's Haar cascade.

A request is the length of a JPEG (4 bytes, big-endian) and the JPEG; its answer the length of a
JSON text and the text: ``{"sequence", "count", "processing_s", "faces": [[x, y, width, height],
...]}``. What is no JPEG is answered with ``{"sequence", "error"}`` and not counted.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from testbed.services import conversations

CASCADE = "haarcascade_frontalface_default.xml"
PARAMETERS: dict[str, Any] = {"scaleFactor": 1.1, "minNeighbors": 3, "minSize": (48, 48)}


def load_detector() -> Any:
    """The cascade that OpenCV's own package ships; one thread, no graphics card."""
    cv2.setNumThreads(1)
    cv2.ocl.setUseOpenCL(False)
    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / CASCADE))


def detect(jpeg: bytes, detector: Any) -> list[list[int]]:
    """Faces in a JPEG as ``[x, y, width, height]`` in pixels, sorted.

    Raises
    ------
    ValueError
        If it is no JPEG that can be read.
    """
    try:
        frame = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:
        raise ValueError("not a readable JPEG") from error
    if frame is None:
        raise ValueError("not a readable JPEG")
    faces = detector.detectMultiScale(frame, **PARAMETERS)
    return sorted([int(number) for number in face] for face in faces)


def main() -> None:
    """Listen and serve."""
    options = conversations.arguments("Find faces in frames.", port=8001).parse_args()
    detector = load_detector()
    conversations.serve(lambda jpeg: {"faces": detect(jpeg, detector)}, options)


if __name__ == "__main__":
    main()
