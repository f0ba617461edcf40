"""The user of face recognition: enrols people, then sends photos of them and of others.

The right person must be named and a wrong one refused; the distance that is said must be the one
between the embeddings that were given; and the same photo must always give the same embedding.

Standard library and our two modules only, which lie beside it on the user's host.
"""

import json
import math
import struct
import sys
from pathlib import Path
from typing import Any

from testbed.services import codecs, probe

Person = dict[str, Any]
TOLERANCE = 0.01
DIMENSIONS = 128


class Faces(codecs.FrameCodec):
    """First everybody is enrolled, then photos follow, over and over.

    Parameters
    ----------
    people : list of (bytes, person)
        JPEGs, and either whom to ``enrol`` or the ``name`` that must be recognised.
    """

    def __init__(self, people: list[tuple[bytes, Person]]) -> None:
        enrolled = [entry for entry in people if "enrol" in entry[1]]
        shown = [entry for entry in people if "enrol" not in entry[1]]
        super().__init__([jpeg for jpeg, _ in enrolled + shown])
        self._people = [person for _, person in enrolled + shown]
        self._enrolled = len(enrolled)
        self._said: dict[int, list[float]] = {}

    def which(self, sequence: int) -> int:
        """Index of what was sent under this number."""
        if sequence <= self._enrolled:
            return sequence - 1
        shown = len(self._people) - self._enrolled
        return self._enrolled + (sequence - self._enrolled - 1) % shown

    def request(self, sequence: int) -> bytes:
        """A name or none, and a photo."""
        which = self.which(sequence)
        name: bytes = self._people[which].get("enrol", "").encode()
        message = name + b"\n" + self._contents[which]
        return struct.pack(">I", len(message)) + message

    def problem(self, sequence: int, said: dict[str, Any]) -> str:
        """Whether somebody else was seen, or the numbers do not fit."""
        which = self.which(sequence)
        person = self._people[which]
        if len(said["faces"]) != 1:
            return f"{len(said['faces'])} faces instead of 1"
        (face,) = said["faces"]
        expected = person.get("enrol", person.get("name"))
        if face["name"] != expected:
            return f"{face['name']} at {face['distance']} instead of {expected}"
        embedding = [float(number) for number in face["embedding"]]
        if len(embedding) != DIMENSIONS:
            return f"an embedding of {len(embedding)} numbers"
        first = self._said.setdefault(which, embedding)
        if (drift := math.dist(first, embedding)) > TOLERANCE:
            return f"the photo's embedding is {drift:.3f} from what it was"
        return self._distance_problem(embedding, float(face["distance"]))

    def _distance_problem(self, embedding: list[float], said: float) -> str:
        enrolled = [self._said[n] for n in range(self._enrolled) if n in self._said]
        nearest = min(math.dist(embedding, other) for other in enrolled)
        near = abs(nearest - said) <= TOLERANCE
        return "" if near else f"distance {said} where the embeddings give {nearest:.5f}"


def read_people(folder: Path) -> list[tuple[bytes, Person]]:
    """Photos and whose they are, from an ``inputs`` folder."""
    people = json.loads((folder / "people.json").read_text(encoding="utf-8"))
    return [((folder / "photos" / person["photo"]).read_bytes(), person) for person in people]


def main() -> int:
    """Run until SIGTERM."""
    parser = probe.arguments("Use face recognition.", interval_s=0.4, most_outstanding=2)
    parser.add_argument("--inputs", type=Path, default=Path(__file__).parent / "inputs")
    options = parser.parse_args()
    return probe.run(Faces(read_people(options.inputs)), options)


if __name__ == "__main__":
    sys.exit(main())
