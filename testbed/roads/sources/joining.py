"""Join pieces of one road end to end where nothing else meets them.

A graph with one edge from each point of a road to the next has nodes that are no junctions. They
are passed over here, so that an edge again reaches from one junction to the next, as it does where
ways are read from OpenStreetMap itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from testbed.roads.sources.assemble import NodeId, Piece


def join_chains(pieces: Sequence[Piece]) -> list[Piece]:
    """The same roads with as few pieces as their junctions and attributes allow.

    Two pieces are joined at a node if nothing but them (and the same two in the other direction)
    ends there, and all carry the same name, class, street and speed.

    Parameters
    ----------
    pieces : sequence of Piece
        Directed pieces of road.

    Returns
    -------
    list of Piece
        In the order in which the first part of each stands in ``pieces``.
    """
    after = dict(_continuations(pieces))
    continued = set(after.values())
    taken: set[int] = set()
    starts = [index for index in range(len(pieces)) if index not in continued]
    found: list[tuple[int, list[int]]] = []
    for start in (*starts, *range(len(pieces))):  # what is left then are closed rings
        if start in taken:
            continue
        chain = [start]
        while (onward := after.get(chain[-1])) is not None and onward != start:
            chain.append(onward)
        taken.update(chain)
        found.append((min(chain), chain))
    return [_joined([pieces[index] for index in chain]) for _, chain in sorted(found)]


def _continuations(pieces: Sequence[Piece]) -> Iterator[tuple[int, int]]:
    """Pairs of pieces of which the second only continues the first."""
    arriving: dict[NodeId, list[int]] = {}
    leaving: dict[NodeId, list[int]] = {}
    for index, piece in enumerate(pieces):
        arriving.setdefault(piece.head, []).append(index)
        leaving.setdefault(piece.tail, []).append(index)
    for node, before in arriving.items():
        onward = leaving.get(node, [])
        sources = {pieces[index].tail for index in before}
        targets = {pieces[index].head for index in onward}
        around = [pieces[index] for index in (*before, *onward)]
        if (
            len(sources | targets) != _NEIGHBOURS
            or node in sources
            or len(before) != len(sources)
            or len(onward) != len(targets)
            or len(before) != len(onward)
            or len({_attributes(piece) for piece in around}) != 1
        ):
            continue
        for one in before:
            for other in onward:
                if pieces[other].head != pieces[one].tail:
                    yield one, other


def _attributes(piece: Piece) -> tuple[str, str, str, float]:
    return piece.edge_id, piece.road_class, piece.street, piece.limit_mps


def _joined(chain: Sequence[Piece]) -> Piece:
    return replace(
        chain[0],
        head=chain[-1].head,
        lat_deg=(chain[0].lat_deg[0], *(lat for piece in chain for lat in piece.lat_deg[1:])),
        lon_deg=(chain[0].lon_deg[0], *(lon for piece in chain for lon in piece.lon_deg[1:])),
    )


_NEIGHBOURS = 2
