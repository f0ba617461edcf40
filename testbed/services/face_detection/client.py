"""The user of face detection: sends the frames of a video, over and over, and checks the faces.

Standard library and `testbed.services.probe` only, which lies beside it on the user's host.
"""

import json
import struct
import sys
from pathlib import Path
from typing import Any

from testbed.services import probe

Faces = list[list[int]]
MOST_BYTES = 1 << 20


class Frames:
    """Length and JPEG there, length and JSON back; the faces must be the expected ones.

    Parameters
    ----------
    frames : list of (bytes, faces)
        JPEGs in the order in which they are sent, and what is to be found in them.
    tolerance_px : int
        By how much a face's place and size may differ, pixels.
    """

    def __init__(self, frames: list[tuple[bytes, Faces]], tolerance_px: int = 0) -> None:
        self._frames = frames
        self._tolerance_px = tolerance_px
        self._heard = b""
        self._first = 1

    def start(self, sequence: int) -> None:
        """Forget half an answer; the service numbers this connection's requests from 1."""
        self._heard, self._first = b"", sequence

    def request(self, sequence: int) -> bytes:
        """The next frame."""
        jpeg, _ = self._frames[(sequence - 1) % len(self._frames)]
        return struct.pack(">I", len(jpeg)) + jpeg

    def hear(self, content: bytes) -> list[probe.Answer]:
        """One answer for each whole text."""
        self._heard += content
        answers = []
        while len(self._heard) >= 4:  # noqa: PLR2004 - the protocol
            (length,) = struct.unpack(">I", self._heard[:4])
            if length > MOST_BYTES:
                raise ConnectionAbortedError(f"the service announced {length} bytes")
            if len(self._heard) < 4 + length:
                break
            answers.append(self._answer(self._heard[4 : 4 + length]))
            self._heard = self._heard[4 + length :]
        return answers

    def _answer(self, text: bytes) -> probe.Answer:
        try:
            said: dict[str, Any] = json.loads(text)
            sequence = self._first + int(said["sequence"]) - 1
            if "error" in said:
                return probe.Answer(sequence, -1, problem=f"error: {said['error']}"[:200])
            count, processing_s = int(said["count"]), float(said["processing_s"])
            problem = self._difference(sequence, said["faces"])
        except (ValueError, KeyError, TypeError) as error:
            return probe.Answer(-1, -1, problem=f"not an answer: {error!r}")
        return probe.Answer(sequence, count, processing_s, problem)

    def _difference(self, sequence: int, faces: Faces) -> str:
        _, expected = self._frames[(sequence - 1) % len(self._frames)]
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
