r"""A server that recognises people: detect, align, embed in 128 dimensions, compare.

A request is the length of a message (4 bytes, big-endian) and the message: ``NAME\n`` and a JPEG to
enrol the largest face under that name, ``\n`` and a JPEG to recognise every face. The answer is the
length of a JSON text and the text: ``{"sequence", "count", "processing_s", "model", "threshold",
"faces": [{"box": [x, y, width, height], "name", "distance", "embedding"}, ...]}``, largest face
first; ``name`` is null where nobody known is near enough. What cannot be done is answered with
``{"sequence", "error"}`` and not counted.

Detection and landmarks are dlib's; a face is embedded by OpenFace's network (Amos et al.,
CMU-CS-16-118) where the user has brought it, by dlib's ResNet otherwise.
"""

from pathlib import Path
from typing import Any, Protocol

from testbed.services import conversations, pictures  # isort: skip - sets OpenCV's limits first

import cv2
import dlib
import numpy as np

LONGEST_SIDE_PX = 640
LONGEST_NAME = 64
MOST_PEOPLE = 1000
DIGITS = 5
LEAST_SCORE = 0.25
"""Of the detector; its own 0 takes a badge on the astronaut's suit for a face (0.07)."""


class Embedder(Protocol):
    """One way to turn a face into a vector of length 1 or so.

    threshold : largest Euclidean distance of two pictures of one person.
    """

    model: str
    threshold: float

    def embed(self, photo: Any, landmarks: Any) -> Any:
        """Align and embed a face of a photo (red, green, blue): 128 numbers."""


class ResNet:
    """dlib's residual network; faces are aligned to 150 pixels by eyes and nose."""

    model, threshold = "dlib-resnet", 0.6

    def __init__(self, path: Path) -> None:
        self._network = dlib.face_recognition_model_v1(str(path))

    def embed(self, photo: Any, landmarks: Any) -> Any:
        """Align and embed a face."""
        return np.array(self._network.compute_face_descriptor(dlib.get_face_chip(photo, landmarks)))


class OpenFace:
    """OpenFace's nn4.small2 on OpenCV; faces are aligned to 96 pixels by outer eyes and nose.

    The places of the three points, and the threshold (0.99 for the squared distance), are
    OpenFace's own.
    """

    model, threshold = "nn4.small2", 0.995
    side_px = 96
    # Image-left eye's outer corner, image-right eye's outer corner, base of the nose.
    template = np.array([[0.1942, 0.1693], [0.7889, 0.1582], [0.4949, 0.5144]], np.float32)
    landmarks = (2, 0, 4)

    def __init__(self, path: Path) -> None:
        self._network = cv2.dnn.readNetFromTorch(str(path))

    def embed(self, photo: Any, landmarks: Any) -> Any:
        """Align and embed a face."""
        points = [landmarks.part(number) for number in self.landmarks]
        here = np.array([[point.x, point.y] for point in points], np.float32)
        turn = cv2.getAffineTransform(here, self.template * self.side_px)
        face = cv2.warpAffine(photo, turn, (self.side_px, self.side_px))
        self._network.setInput(cv2.dnn.blobFromImage(face, 1 / 255))
        embedding = self._network.forward().ravel().astype(float)
        return embedding / np.linalg.norm(embedding)


class People:
    """The people it knows, and how faces become people. ``known`` is state that moves."""

    def __init__(self, models: Path, own: Path) -> None:
        pictures.use_one_core()
        network = own / "nn4.small2.v1.t7"
        self._embedder: Embedder = (
            OpenFace(network)
            if network.exists()
            else ResNet(models / "dlib_face_recognition_resnet_model_v1.dat")
        )
        self._detector = dlib.get_frontal_face_detector()
        self._predictor = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
        self.known: dict[str, Any] = {}

    def answer(self, message: bytes) -> dict[str, Any]:
        """Enrol or recognise.

        Raises
        ------
        ValueError
            If the message is not of this form, or nobody can be enrolled.
        """
        head, newline, jpeg = message.partition(b"\n")
        if not newline or len(head) > LONGEST_NAME:
            raise ValueError(f"write a name of at most {LONGEST_NAME} bytes or none, \\n, a JPEG")
        try:
            name = head.decode()
        except UnicodeDecodeError as error:
            raise ValueError("a name is UTF-8 text") from error
        faces = self._faces(pictures.read_jpeg(jpeg))
        if name:
            self._enrol(name, faces)
            faces = faces[:1]
        return {
            "model": self._embedder.model,
            "threshold": self._embedder.threshold,
            "faces": [
                {
                    "box": box,
                    **self._nearest(embedding),
                    "embedding": [round(float(number), DIGITS) for number in embedding],
                }
                for box, embedding in faces
            ],
        }

    def _enrol(self, name: str, faces: list[tuple[list[int], Any]]) -> None:
        if not faces:
            raise ValueError("there is no face to enrol")
        if name not in self.known and len(self.known) >= MOST_PEOPLE:
            raise ValueError(f"{MOST_PEOPLE} people are enrolled already")
        self.known[name] = faces[0][1]

    def _faces(self, photo: Any) -> list[tuple[list[int], Any]]:
        """Box in pixels and embedding of every face, largest first."""
        scale = min(1.0, LONGEST_SIDE_PX / max(photo.shape[:2]))
        if scale < 1.0:
            photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        photo = cv2.cvtColor(photo, cv2.COLOR_BGR2RGB)
        found = sorted(self._detector.run(photo, 0, LEAST_SCORE)[0], key=lambda face: -face.area())
        return [
            (
                [round(side / scale) for side in (f.left(), f.top(), f.width(), f.height())],
                self._embedder.embed(photo, self._predictor(photo, f)),
            )
            for f in found
        ]

    def _nearest(self, embedding: Any) -> dict[str, Any]:
        """Who it is, where that is near enough, and how far the nearest is."""
        distances = {
            name: float(np.linalg.norm(embedding - other)) for name, other in self.known.items()
        }
        if not distances:
            return {"name": None, "distance": None}
        nearest = min(distances, key=distances.__getitem__)
        near = distances[nearest] <= self._embedder.threshold
        return {"name": nearest if near else None, "distance": round(distances[nearest], DIGITS)}


def main() -> None:
    """Listen and serve."""
    parser = conversations.arguments("Recognise people.", port=8004)
    here = Path(__file__).parent
    parser.add_argument("--models", type=Path, default=here / "models")
    parser.add_argument("--own", type=Path, default=here / "own")
    options = parser.parse_args()
    conversations.serve(People(options.models, options.own).answer, options)


if __name__ == "__main__":
    main()
