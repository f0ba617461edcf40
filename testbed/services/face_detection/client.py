"""The user of face detection: sends the frames of a video, over and over, and checks the faces.

Standard library and our two modules only, which lie beside it on the user's host.
"""

import json
import sys
from pathlib import Path
from typing import Any

from testbed.services import codecs, probe

Faces = list[list[int]]


class Frames(codecs.FrameCodec):
    """The faces must be the expected ones.

    Parameters
    ----------
    frames : list of (bytes, faces)
        JPEGs in the order in which they are sent, and what is to be found in them.
    tolerance_px : int
        By how much a face's place and size may differ, pixels.
    """

    def __init__(self, frames: list[tuple[bytes, Faces]], tolerance_px: int = 0) -> None:
        super().__init__([jpeg for jpeg, _ in frames])
        self._expected = [faces for _, faces in frames]
        self._tolerance_px = tolerance_px

    def problem(self, sequence: int, said: dict[str, Any]) -> str:
        """Whether other faces were found than there are."""
        faces, expected = said["faces"], self._expected[self.which(sequence)]
        near = len(faces) == len(expected) and all(
            abs(a - b) <= self._tolerance_px
            for face, other in zip(faces, expected, strict=True)
            for a, b in zip(face, other, strict=True)
        )
        return "" if near else f"faces {faces} instead of {expected}"


def read_frames(folder: Path) -> list[tuple[bytes, Faces]]:
    """Frames and expected faces from an ``inputs`` folder, in the order of their names."""
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    paths = sorted((folder / "frames").glob("*.jpg"))
    return [(path.read_bytes(), expected["faces"][path.name]) for path in paths]


def main() -> int:
    """Run until SIGTERM."""
    parser = probe.arguments("Use face detection.", interval_s=0.1, most_outstanding=4)
    parser.add_argument("--inputs", type=Path, default=Path(__file__).parent / "inputs")
    parser.add_argument("--tolerance-px", type=int, default=0, help="by how much faces may differ")
    options = parser.parse_args()
    frames = read_frames(options.inputs)
    if not frames:
        print(f"there is no frame in {options.inputs / 'frames'}", file=sys.stderr)  # noqa: T201
        return 2
    return probe.run(Frames(frames, options.tolerance_px), options)


if __name__ == "__main__":
    sys.exit(main())
