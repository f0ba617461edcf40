"""The user of the game server: asks how the match stands, and checks that it goes on.

The match's clock never goes back, nobody drops out, and no score goes back: a player loses a point
by a mishap, but not many in a short time.

Standard library and our two modules only, which lie beside it on the user's host.
"""

import sys
from typing import Any

from testbed.services import codecs, probe

MISHAP_EVERY_S = 1.0


class Match(codecs.LineCodec):
    """The state of the match must follow from the last one.

    Parameters
    ----------
    bots : int
        How many are playing.
    """

    def __init__(self, bots: int) -> None:
        super().__init__()
        self._bots = bots
        self._time_s = 0.0
        self._map = ""
        self._scores: dict[str, int] = {}

    def request(self, sequence: int) -> bytes:
        """One datagram."""
        return b"%d\n" % sequence

    def problem(self, sequence: int, said: dict[str, Any]) -> str:  # noqa: ARG002 - any will do
        """Whether the match has jumped back or was begun anew."""
        time_s, scores = float(said["time_s"]), {k: int(v) for k, v in said["players"].items()}
        problem = self._jump(str(said["map"]), time_s, scores)
        self._map, self._time_s, self._scores = str(said["map"]), time_s, scores
        return problem

    def _jump(self, level: str, time_s: float, scores: dict[str, int]) -> str:
        if self._map and level != self._map:
            return f"the match is on {level}, and was on {self._map}"
        if time_s < self._time_s:
            return f"the match is {time_s:.2f} s old, and was {self._time_s:.2f} s"
        if len(scores) < self._bots:
            return f"{len(scores)} players instead of {self._bots}"
        if missing := self._scores.keys() - scores.keys():
            return f"{', '.join(sorted(missing))} dropped out"
        mishaps = 1 + int((time_s - self._time_s) / MISHAP_EVERY_S)
        for name, before in self._scores.items():
            if scores[name] < before - mishaps:
                return f"{name} has {scores[name]} points, and had {before}"
        return ""


def main() -> int:
    """Run until SIGTERM."""
    parser = probe.arguments(
        "Watch a match.", interval_s=0.1, most_outstanding=1000, datagrams=True
    )
    parser.set_defaults(connect_s=120.0)  # a match takes some time to begin
    parser.add_argument("--bots", type=int, default=6)
    options = parser.parse_args()
    return probe.run(Match(options.bots), options)


if __name__ == "__main__":
    sys.exit(main())
