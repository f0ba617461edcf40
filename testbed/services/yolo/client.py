"""The user of object recognition: sends photos and checks what is said to be on them.

Every answer must name what a person saw there, where it is; and the same photo must always give the
same answer, which shows that no weight was lost on a move.

Standard library and our two modules only, which lie beside it on the user's host.
"""

import json
import sys
from pathlib import Path
from typing import Any

from testbed.services import codecs, probe

Box = list[float]
Thing = dict[str, Any]
CONFIDENCE_TOLERANCE = 0.02
BOX_TOLERANCE_PX = 3


class Photos(codecs.FrameCodec):
    """What is to be seen must be found.

    Parameters
    ----------
    photos : list of (bytes, things)
        JPEGs, and what is on each: accepted names, box, models that are known to find it.
    least_overlap : float
        Intersection over union of box and truth from which a thing counts as found.
    """

    def __init__(self, photos: list[tuple[bytes, list[Thing]]], least_overlap: float) -> None:
        super().__init__([jpeg for jpeg, _ in photos])
        self._truth = [things for _, things in photos]
        self._least_overlap = least_overlap
        self._said: dict[int, list[Thing]] = {}

    def problem(self, sequence: int, said: dict[str, Any]) -> str:
        """Whether something is missing, or is other than it was."""
        which, objects = self.which(sequence), said["objects"]
        for thing in self._truth[which]:
            if said["model"] in thing["models"] and not self._found(thing, objects):
                return f"no {'/'.join(thing['names'])} at {thing['box']} among {brief(objects)}"
        first = self._said.setdefault(which, objects)
        if not alike(first, objects):
            return f"{brief(objects)} where it was {brief(first)}"
        return ""

    def _found(self, thing: Thing, objects: list[Thing]) -> bool:
        return any(
            one["name"] in thing["names"]
            and overlap(one["box"], thing["box"]) >= self._least_overlap
            for one in objects
        )


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def alike(one: list[Thing], other: list[Thing]) -> bool:
    """Whether two answers say the same, but for what another processor makes of it."""
    return len(one) == len(other) and all(
        a["name"] == b["name"]
        and abs(a["confidence"] - b["confidence"]) <= CONFIDENCE_TOLERANCE
        and all(abs(x - y) <= BOX_TOLERANCE_PX for x, y in zip(a["box"], b["box"], strict=True))
        for a, b in zip(one, other, strict=True)
    )


def brief(objects: list[Thing]) -> str:
    """Names, confidences and boxes, for a message."""
    return "; ".join(f"{one['name']} {one['confidence']} {one['box']}" for one in objects)


def read_photos(folder: Path) -> list[tuple[bytes, list[Thing]]]:
    """Photos and what is on them, from an ``inputs`` folder, in the order of their names."""
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    paths = sorted((folder / "photos").glob("*.jpg"))
    return [(path.read_bytes(), truth[path.name]) for path in paths]


def main() -> int:
    """Run until SIGTERM."""
    parser = probe.arguments("Use object recognition.", interval_s=0.5, most_outstanding=2)
    parser.add_argument("--inputs", type=Path, default=Path(__file__).parent / "inputs")
    parser.add_argument("--least-overlap", type=float, default=0.5, help="of box and truth")
    options = parser.parse_args()
    photos = read_photos(options.inputs)
    if not photos:
        print(f"there is no photo in {options.inputs / 'photos'}", file=sys.stderr)  # noqa: T201
        return 2
    return probe.run(Photos(photos, options.least_overlap), options)


if __name__ == "__main__":
    sys.exit(main())
