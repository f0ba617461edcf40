"""Pages made smaller where the link is slower than the processor (as in VM handoff, adaptively)."""

import zlib
from collections.abc import Sequence

from .channel import Buffer

FAST_LINK_BYTES_PER_S = 25e6
"""Above it, compressing takes longer than sending."""
SMALLEST_BYTES = 8 << 10
SAMPLE_BYTES = 32 << 10
WORTH = 0.8
LEVEL = 1


def squeeze(parts: Sequence[Buffer], link_bytes_per_s: float) -> bytes | None:
    """All parts as one compressed piece; None where it would not pay.

    Parameters
    ----------
    parts : sequence of Buffer
        What is to be sent.
    link_bytes_per_s : float
        How fast the link has taken bytes lately; infinite where nobody knows yet.
    """
    size = sum(len(part) for part in parts)
    if size < SMALLEST_BYTES or link_bytes_per_s > FAST_LINK_BYTES_PER_S:
        return None
    whole = b"".join(parts)
    middle = (size - SAMPLE_BYTES) // 2 if size > SAMPLE_BYTES else 0
    sample = whole[middle : middle + SAMPLE_BYTES]
    if len(zlib.compress(sample, LEVEL)) > WORTH * len(sample):
        return None
    return zlib.compress(whole, LEVEL)


def expand(data: bytes, size: int) -> bytes:
    """Undo `squeeze`.

    Raises
    ------
    ValueError
        If the content is damaged or not of the size it should have.
    """
    try:
        whole = zlib.decompress(data, bufsize=size)
    except zlib.error as error:
        raise ValueError(f"compressed pages arrived damaged: {error}") from error
    if len(whole) != size:
        raise ValueError(f"compressed pages hold {len(whole)} bytes in place of {size}")
    return whole
