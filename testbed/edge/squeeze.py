"""Bytes made smaller where that saves time, as in VM handoff, adaptively.

What each codec gives is measured on what was sent lately, what the link takes by `edge.pace`. While
the service runs, packing and sending go on side by side, and the slower of both counts; while it
stands still, they come one after the other. A sample tells what cannot be made smaller: that is
sent as it is and nothing else is tried on it.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import codec
from .channel import Buffer

PLAIN = "plain"
WAYS = {
    "lz4": ("lz4", 0),
    "zstd-1": ("zstd", 1),
    "zstd-3": ("zstd", 3),
    "zstd-6": ("zstd", 6),
    "zlib-1": ("zlib", 1),
}
"""Codec and level behind each name, the quickest first; zlib serves where nothing else does."""
SMALLEST_BYTES = 4 << 10
SCOUT_PIECES, SCOUT_PIECE_BYTES = 8, 4 << 10
TRIAL_BYTES = 128 << 10
TRIAL_EVERY = 32
WORTH = 0.9
"""Packed content this much smaller, and a way this much quicker, is worth it."""
NEWEST = 0.3
EXPANDED_BYTES_PER_S = 600e6
"""The other end's work, at least about; counts where nothing else goes on meanwhile."""


@dataclass(frozen=True)
class Speed:
    """What a way gave lately.

    ratio : bytes out for each byte in. bytes_per_s : how fast it takes them in.
    """

    ratio: float
    bytes_per_s: float

    def mixed(self, newer: "Speed") -> "Speed":
        """With a newer measurement taken in."""
        return Speed(
            self.ratio + NEWEST * (newer.ratio - self.ratio),
            1 / (1 / self.bytes_per_s + NEWEST * (1 / newer.bytes_per_s - 1 / self.bytes_per_s)),
        )


def duration_s(
    size: int, speed: Speed | None, link_bytes_per_s: float, *, side_by_side: bool
) -> float:
    """How long it takes to get ``size`` bytes across; ``speed`` is None for plain sending."""
    if speed is None:
        return size / link_bytes_per_s
    packing_s, sending_s = size / speed.bytes_per_s, size * speed.ratio / link_bytes_per_s
    if side_by_side:
        return max(packing_s, sending_s)
    return packing_s + sending_s + size / EXPANDED_BYTES_PER_S


def choose(
    speeds: Mapping[str, Speed], size: int, link_bytes_per_s: float, *, side_by_side: bool
) -> str:
    """The way that gets ``size`` bytes across soonest; `PLAIN` where none is clearly better.

    Parameters
    ----------
    speeds : mapping of str to Speed
        What each way gave lately, the quickest first.
    size : int
        How much is to be sent.
    link_bytes_per_s : float
        How fast the link takes bytes.
    side_by_side : bool
        Whether packing and sending go on at the same time.
    """
    best, best_s = (
        PLAIN,
        WORTH * duration_s(size, None, link_bytes_per_s, side_by_side=side_by_side),
    )
    for way, speed in speeds.items():
        took_s = duration_s(size, speed, link_bytes_per_s, side_by_side=side_by_side)
        if speed.ratio < WORTH and took_s < best_s:
            best, best_s = way, took_s
    return best


class Squeezer:
    """Makes bytes smaller on their way to one other edge, and remembers what that gave.

    Parameters
    ----------
    codecs : sequence of str
        What the other edge can expand.
    """

    def __init__(self, codecs: Sequence[str]) -> None:
        there = codec.available([name for name in codec.KNOWN if name in codecs])
        if len(there) > 1:
            there = [name for name in there if name != "zlib"]
        self._ways = [way for way, (name, _) in WAYS.items() if name in there]
        self._speeds: dict[str, Speed] = {}
        self._batches = 0
        self._tally = Counter[tuple[str, str]]()

    def squeeze(
        self, parts: Sequence[Buffer], link_bytes_per_s: float, *, side_by_side: bool
    ) -> tuple[dict[str, Any], list[Buffer]]:
        """Pack ``parts`` if it pays; return what `expand` has to know, and what is to be sent."""
        size = sum(len(part) for part in parts)
        whole = parts[0] if len(parts) == 1 and isinstance(parts[0], bytes) else b"".join(parts)
        way, packed = self._packed(whole, link_bytes_per_s, side_by_side=side_by_side)
        self._tally[way, "in"] += size
        self._tally[way, "out"] += len(packed)
        if way == PLAIN:
            return {}, [packed]
        return {"codec": WAYS[way][0], "whole": size}, [packed]

    def account(self) -> str:
        """What was packed how since the last call, in a few words."""
        tally, self._tally = self._tally, Counter()
        said = []
        for way in (PLAIN, *WAYS):
            size, packed = tally[way, "in"], tally[way, "out"]
            if size and way == PLAIN:
                said.append(f"{size / 1e6:.1f} MB plain")
            elif size:
                said.append(f"{size / 1e6:.1f} MB by {way} to {packed / size:.0%}")
        return ", ".join(said)

    def _packed(
        self, whole: bytes, link_bytes_per_s: float, *, side_by_side: bool
    ) -> tuple[str, bytes]:
        if len(whole) < SMALLEST_BYTES or not self._ways or not self._shrinks(whole):
            return PLAIN, whole
        if not self._speeds or (side_by_side and self._batches % TRIAL_EVERY == 0):
            self._try_all(whole[:TRIAL_BYTES])
        self._batches += 1
        way = choose(self._speeds, len(whole), link_bytes_per_s, side_by_side=side_by_side)
        if way == PLAIN:
            return PLAIN, whole
        packed = self._pack(way, whole)
        return (way, packed) if len(packed) < WORTH * len(whole) else (PLAIN, whole)

    def _shrinks(self, whole: bytes) -> bool:
        """Whether a small sample, from all over, becomes smaller by the quickest way."""
        step = max(SCOUT_PIECE_BYTES, len(whole) // SCOUT_PIECES)
        pieces = [whole[at : at + SCOUT_PIECE_BYTES] for at in range(0, len(whole), step)]
        sample = b"".join(pieces)
        name, level = WAYS[self._ways[0]]
        return len(codec.find(name).pack(sample, level)) < WORTH * len(sample)

    def _try_all(self, sample: bytes) -> None:
        for way in self._ways:
            self._pack(way, sample)

    def _pack(self, way: str, whole: bytes) -> bytes:
        name, level = WAYS[way]
        began_s = time.perf_counter()
        packed = codec.find(name).pack(whole, level)
        took_s = max(time.perf_counter() - began_s, 1e-9)
        newer = Speed(len(packed) / len(whole), len(whole) / took_s)
        self._speeds[way] = self._speeds[way].mixed(newer) if way in self._speeds else newer
        return packed


def expand(head: Mapping[str, Any], data: bytes) -> bytes:
    """Undo `Squeezer.squeeze`: content as it was, told by the head that came with it.

    Raises
    ------
    ValueError
        If the content is damaged or not of the size it should have.
    """
    if "codec" not in head:
        return data
    try:
        whole = codec.find(head["codec"]).expand(data, head["whole"])
    except ValueError as error:
        raise ValueError(f"compressed content arrived damaged: {error}") from error
    if len(whole) != head["whole"]:
        raise ValueError(f"compressed content is {len(whole)} bytes in place of {head['whole']}")
    return whole
