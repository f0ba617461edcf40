"""Sends lines and checks every digest."""

import hashlib
import sys
from typing import Any

from testbed.services import codecs, probe


class Digests(codecs.LineCodec):
    """A line there, its digest back."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self._rounds = rounds

    def request(self, sequence: int) -> bytes:
        """One line: the sequence number, and what is to be digested."""
        return b"%d line %d\n" % (sequence, sequence)

    def problem(self, sequence: int, said: dict[str, Any]) -> str:
        """What is wrong with an answer; empty where it is right."""
        words = b"line %d" % sequence
        for _ in range(self._rounds):
            words = hashlib.sha256(words).digest()
        return "" if said["digest"] == words.hex() else f"digest {said['digest']!r}"


def main() -> int:
    """Run until SIGTERM."""
    parser = probe.arguments("Use digest.", interval_s=0.02, most_outstanding=1000)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    return probe.run(Digests(options.rounds), options)


if __name__ == "__main__":
    sys.exit(main())
