"""Turn restrictions of OpenStreetMap: which turns at a junction its relations forbid.

Honoured are relations ``type=restriction`` with a node as ``via``: every ``no_...`` forbids the
turns from each ``from`` into each ``to``, every ``only_...`` all other turns at that node. What is
not honoured is counted: restrictions at certain hours, those whose ``via`` is itself a road, and
those that do not name what they need.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from testbed.roads.modes import RULES, TravelMode
from testbed.roads.sources.assemble import NodeId, Piece, Pieces

_HOURS = ("day_on", "day_off", "hour_on", "hour_off")


@dataclass(frozen=True)
class Member:
    """One member of a relation: its role, ``n`` or ``w`` for node or way, and its number."""

    role: str
    kind: str
    number: int


@dataclass(frozen=True)
class Restriction:
    """A turn that is forbidden, or the only one allowed (``only``), at the node ``via``.

    ``u_turn`` : it is about turning round, so a way may be both ``from`` and ``to``.
    """

    only: bool
    u_turn: bool
    from_ways: tuple[str, ...]
    via: NodeId
    to_ways: tuple[str, ...]


def understand(
    tags: Mapping[str, str], members: Sequence[Member], mode: TravelMode, pieces: Pieces
) -> Restriction | None:
    """The restriction that a relation means for a mode; ``None`` where it means nothing.

    What cannot be honoured is counted in ``pieces.dropped``.
    """
    rule = RULES[mode]
    said = next((tags[key] for key in rule.restriction if key in tags), None)
    timed = any(f"{key}:conditional" in tags for key in rule.restriction)
    if said is None and not timed:
        return None
    if rule.excepted & {name.strip() for name in tags.get("except", "").split(";")}:
        return None
    if said is None or any(key in tags for key in _HOURS):
        pieces.drop("turn restrictions at certain hours")
        return None
    ways = {
        role: tuple(str(m.number) for m in members if m.role == role and m.kind == "w")
        for role in ("from", "to")
    }
    via = [member for member in members if member.role == "via"]
    if len(via) >= 1 and all(member.kind == "w" for member in via):
        pieces.drop("turn restrictions by way of a road")
        return None
    only = said.startswith("only_")
    if not (only or said.startswith("no_")) or len(via) != 1 or not ways["from"] or not ways["to"]:
        pieces.drop("turn restrictions not understood")
        return None
    return Restriction(only, said.endswith("_u_turn"), ways["from"], via[0].number, ways["to"])


def forbid(pieces: Pieces, restrictions: Sequence[Restriction]) -> None:
    """Put the turns that the restrictions forbid into ``pieces.forbidden``."""
    if not restrictions:
        return
    arriving: dict[tuple[str, NodeId], list[int]] = {}
    leaving: dict[tuple[str, NodeId], list[int]] = {}
    at_node: dict[NodeId, list[int]] = {}
    for index, road in enumerate(pieces.roads):
        arriving.setdefault((road.edge_id, road.head), []).append(index)
        leaving.setdefault((road.edge_id, road.tail), []).append(index)
        at_node.setdefault(road.tail, []).append(index)
    for one in restrictions:
        before = [arriving.get((way, one.via), []) for way in one.from_ways]
        after = [leaving.get((way, one.via), []) for way in one.to_ways]
        if not any(before) or not any(after):
            pieces.drop("turn restrictions on roads left out")
            continue
        pairs = set(itertools.product(itertools.chain(*before), itertools.chain(*after)))
        if one.u_turn:
            pairs = {p for p in pairs if _turns_round(*p, pieces.roads) or len(pairs) == 1}
        elif max(map(len, (*before, *after))) > 1:
            pieces.drop("turn restrictions not understood")
            continue
        if one.only:
            allowed = pairs
            sources = {source for source, _ in allowed}
            pairs = {(a, b) for a in sources for b in at_node[one.via]} - allowed
        pieces.forbidden |= pairs


def _turns_round(before: int, after: int, roads: Sequence[Piece]) -> bool:
    one, other = roads[before], roads[after]
    return one.lat_deg == other.lat_deg[::-1] and one.lon_deg == other.lon_deg[::-1]
