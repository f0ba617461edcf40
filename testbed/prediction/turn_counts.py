"""Turns that were observed at junctions: learnt from routes, stored as a file, never changed."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from testbed.errors import ModelError

_KIND = "turn counts"


@dataclass(frozen=True)
class TurnCounts:
    """How often which edge was driven into after which.

    Attributes
    ----------
    roads : str
        Name of the map whose edges these are.
    edge_count : int
        Number of its edges: counts of another map are refused.
    counts : mapping of (int, int) to int
        Edge driven on, edge driven into, and how often.
    strength : float
        Observations that geometry and road class together count for: with ``n`` turns seen of
        ``N`` at an edge, its share is ``(n + strength prior) / (N + strength)`` (Dirichlet).
    """

    roads: str
    edge_count: int
    counts: Mapping[tuple[int, int], int]
    strength: float = 4.0

    @classmethod
    def fit(
        cls,
        routes: Iterable[Sequence[int]],
        *,
        roads: str,
        edge_count: int,
        strength: float = 4.0,
    ) -> "TurnCounts":
        """Count the turns of routes (edges in the order in which they were driven).

        Parameters
        ----------
        routes : iterable of sequences of int
            For example `testbed.roads.matching.offline.MatchedTrace.routes`.
        roads, edge_count, strength
            See the class.
        """
        counts = Counter(pair for route in routes for pair in pairwise(route))
        return cls(roads, edge_count, dict(counts), strength)

    def to_json(self) -> str:
        """As text, to be stored in a file."""
        rows = sorted([before, after, n] for (before, after), n in self.counts.items())
        return json.dumps(
            {
                "kind": _KIND,
                "roads": self.roads,
                "edge_count": self.edge_count,
                "strength": self.strength,
                "turns": rows,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "TurnCounts":
        """What `to_json` wrote.

        Raises
        ------
        ModelError
            If it is something else.
        """
        try:
            stored = json.loads(text)
            kind = stored["kind"]
            counts = {(int(a), int(b)): int(n) for a, b, n in stored["turns"]}
            model = cls(
                str(stored["roads"]), int(stored["edge_count"]), counts, float(stored["strength"])
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"not turn counts ({error!r}); TurnCounts.to_json writes them"
            ) from error
        if kind != _KIND:
            raise ModelError(f"this file holds {kind!r}, not {_KIND!r}")
        return model

    def check(self, roads: str, edge_count: int) -> None:
        """Refuse a map on which these turns were not driven.

        Raises
        ------
        ModelError
            If it has another number of edges.
        """
        if edge_count != self.edge_count:
            raise ModelError(
                f"these turns were counted on {self.roads} with {self.edge_count:,} edges, and "
                f"{roads} has {edge_count:,}. Count them anew on this map"
            )
