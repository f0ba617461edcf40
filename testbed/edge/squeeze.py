"""Bytes made smaller where that saves time, as in VM handoff, adaptively.

What each codec gives is measured on what was sent lately, what the link takes by `edge.pace`. While
the service runs, packing and sending go on side by side, and the slower of both counts; while it
stands still, they come one after the other. A sample tells what cannot be made smaller: that is
sent as it is and nothing else is tried on it.
"""

import statistics
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
SAMPLE_PIECES, SAMPLE_PIECE_BYTES = 8, 4 << 10
TRIAL_BYTES = 128 << 10
FIRST_TRIALS, TRIAL_EVERY = 3, 32
ENOUGH_TO_TELL_BYTES = 32 << 10
WORTH = 0.9
"""Packed content this much smaller, and a way this much quicker, is worth it."""
REMEMBERED = 5
EXPANDED_BYTES_PER_S = 600e6
"""The other end's work, at least about; counts where nothing else goes on meanwhile."""


@dataclass(frozen=True)
class Speed:
    """What a way gives.

    ratio : bytes out for each byte in. bytes_per_s : how fast it takes them in.
    """

    ratio: float
    bytes_per_s: float


@dataclass
class Experience:
    """What a way gave lately; medians, since now and then the processor is elsewhere."""

    _shares: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _s_per_byte: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def __bool__(self) -> bool:
        """Whether anything is known."""
        return bool(self._shares)

    def add(self, share: float, s_per_byte: float) -> None:
        """Take in what one batch gave; ``share``: its ratio over the sample's."""
        self._shares.append(share)
        self._s_per_byte.append(s_per_byte)

    def expected(self, sample_ratio: float) -> Speed:
        """What a batch will give whose sample shrank so much."""
        ratio = min(1.0, sample_ratio * statistics.median(self._shares))
        return Speed(ratio, 1 / statistics.median(self._s_per_byte))


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
        self._known = {way: Experience() for way in self._ways}
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
        if len(whole) < SMALLEST_BYTES or not self._ways:
            return PLAIN, whole
        ratio = self._sample_ratio(whole)
        if ratio > WORTH:
            return PLAIN, whole
        piece = whole[:TRIAL_BYTES]
        if side_by_side and (self._batches < FIRST_TRIALS or self._batches % TRIAL_EVERY == 0):
            self._try(self._ways, piece, link_bytes_per_s)
        elif not any(self._known.values()):
            self._try(self._ways[:1], piece, link_bytes_per_s)
        self._batches += 1
        speeds = {way: known.expected(ratio) for way, known in self._known.items() if known}
        way = choose(speeds, len(whole), link_bytes_per_s, side_by_side=side_by_side)
        if way == PLAIN:
            return PLAIN, whole
        packed = self._pack(way, whole, ratio)
        return (way, packed) if len(packed) < WORTH * len(whole) else (PLAIN, whole)

    def _sample_ratio(self, whole: bytes) -> float:
        """How small a little from all over becomes by the quickest way."""
        step = max(SAMPLE_PIECE_BYTES, len(whole) // SAMPLE_PIECES)
        pieces = [whole[at : at + SAMPLE_PIECE_BYTES] for at in range(0, len(whole), step)]
        sample = b"".join(pieces)
        name, level = WAYS[self._ways[0]]
        return len(codec.find(name).pack(sample, level)) / len(sample)

    def _try(self, ways: Sequence[str], piece: bytes, link_bytes_per_s: float) -> None:
        """See what each way gives; after one that is slower than the link none can win."""
        ratio = self._sample_ratio(piece)
        for way in ways:
            self._pack(way, piece, ratio, trial=True)
            if self._known[way].expected(ratio).bytes_per_s < link_bytes_per_s:
                break

    def _pack(self, way: str, whole: bytes, ratio: float, *, trial: bool = False) -> bytes:
        name, level = WAYS[way]
        began_s = time.perf_counter()
        packed = codec.find(name).pack(whole, level)
        took_s = time.perf_counter() - began_s
        if trial or len(whole) >= ENOUGH_TO_TELL_BYTES:  # little takes longer, for its size
            share = len(packed) / len(whole) / ratio
            self._known[way].add(share, took_s / len(whole))
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
