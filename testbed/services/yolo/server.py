"""A server that finds objects in photos: YOLOv3 on OpenCV's DNN module.

A request is the length of a JPEG (4 bytes, big-endian) and the JPEG; its answer the length of a
JSON text and the text: ``{"sequence", "count", "processing_s", "model", "objects": [{"name",
"confidence", "box": [x, y, width, height]}, ...]}``, pixels, most confident first. What is no JPEG
is answered with ``{"sequence", "error"}`` and not counted.
"""

from pathlib import Path
from typing import Any

from testbed.services import conversations, pictures  # isort: skip - sets OpenCV's limits first

import cv2
import numpy as np

SIDE_PX = 416
LEAST_CONFIDENCE = 0.25
MOST_OVERLAP = 0.45


class Network:
    """The full network where its weights are there, the small one otherwise.

    Parameters
    ----------
    models, own : Path
        Folders for what is free and what is the user's.
    """

    def __init__(self, models: Path, own: Path) -> None:
        weights = own / "yolov3.weights"
        if not weights.exists():
            weights = models / "yolov3-tiny.weights"
        self.model = weights.stem
        pictures.use_one_core()
        net = cv2.dnn.readNetFromDarknet(str(models / f"{self.model}.cfg"), str(weights))
        # Winograd keeps a second, larger copy of every kernel: 306 MB to dump instead of 109.
        net.enableWinograd(False)  # noqa: FBT003 - its only argument
        self._net = net
        self._outputs = net.getUnconnectedOutLayersNames()
        self._names = (models / "coco.names").read_text(encoding="utf-8").split("\n")

    def answer(self, jpeg: bytes) -> dict[str, Any]:
        """Objects in a JPEG.

        Raises
        ------
        ValueError
            If it is no JPEG that can be read.
        """
        photo = pictures.read_jpeg(jpeg)
        height, width = photo.shape[:2]
        self._net.setInput(cv2.dnn.blobFromImage(photo, 1 / 255, (SIDE_PX, SIDE_PX), swapRB=True))
        rows = np.vstack(self._net.forward(self._outputs))
        kinds, confidences = rows[:, 5:].argmax(axis=1), rows[:, 5:].max(axis=1)
        sure = confidences >= LEAST_CONFIDENCE
        kinds, confidences = kinds[sure], confidences[sure]
        boxes = corners_inside(rows[sure, :4], width, height)
        kept = cv2.dnn.NMSBoxesBatched(
            boxes.tolist(), confidences.tolist(), kinds.tolist(), LEAST_CONFIDENCE, MOST_OVERLAP
        )
        objects = [
            {
                "name": self._names[kinds[one]],
                "confidence": round(float(confidences[one]), 3),
                "box": [round(float(number)) for number in boxes[one]],
            }
            for one in sorted(kept, key=lambda one: -confidences[one])
        ]
        return {"model": self.model, "objects": objects}


def corners_inside(relative: Any, width: int, height: int) -> Any:
    """Boxes by centre and size, relative, as corner and size in pixels, cut to the photo.

    Parameters
    ----------
    relative : array, shape (n, 4)
        Centre x, centre y, width, height, each as a share of the photo's.

    Returns
    -------
    array, shape (n, 4)
        x, y, width, height in pixels.
    """
    centre, half = relative[:, :2], relative[:, 2:] / 2
    size = np.array([width, height])
    low = np.clip(centre - half, 0, 1) * size
    return np.hstack([low, np.clip(centre + half, 0, 1) * size - low])


def main() -> None:
    """Listen and serve."""
    parser = conversations.arguments("Find objects in photos.", port=8003)
    here = Path(__file__).parent
    parser.add_argument("--models", type=Path, default=here / "models")
    parser.add_argument("--own", type=Path, default=here / "own")
    options = parser.parse_args()
    conversations.serve(Network(options.models, options.own).answer, options)


if __name__ == "__main__":
    main()
