"""Pages that the target still has of an earlier visit: told by their content, not sent again.

The target says at the start of a move what it has, a digest for each page. While the first round
is sent, each page of it is looked up there, wherever it lay then: what was moved in memory, what a
forked task shares with its parent and what another service of the same image left are found alike.
"""

import hashlib
import time
from collections.abc import Sequence
from functools import partial

from .pages import PAGE, Buffer, Span, take_out

DIGEST_BYTES = 16
"""Of BLAKE2b. Pages pass for equal if their digests are, and nobody looks further, so chance and
malice must both be out of the question: among a billion pages at either end (4 TB each) two that
differ agree with a probability of 1 to 10**20, far below that of a memory error that nobody
notices, and a page made to fit the digest of another takes 2**128 tries."""
ENOUGH_TO_TELL_BYTES = 1 << 20
"""So much is digested before it is judged how fast that goes."""
Kept = tuple[int, int, int]
"""Start and end address, and the number of the first page among those the target told."""


def digest_of(page: Buffer) -> bytes:
    """What a page is known by."""
    return hashlib.blake2b(page, digest_size=DIGEST_BYTES).digest()


class Offered:
    """What the target has, as the source knows it.

    Parameters
    ----------
    digests : bytes
        Of each page, in the target's order.
    """

    def __init__(self, digests: bytes) -> None:
        self._digests = digests
        places = range(0, len(digests), DIGEST_BYTES)
        self._places = {digests[at : at + DIGEST_BYTES]: at for at in places}
        self._next = 0
        self._bytes, self._took_s = 0, 0.0
        self.there_bytes = self.passed_bytes = 0

    def take_out(
        self, spans: Sequence[Span], parts: Sequence[Buffer], link_bytes_per_s: float
    ) -> tuple[list[Span], list[Buffer], list[Kept]]:
        """Take out of spans and their content what the target has; return what is left, and that.

        Where the link takes bytes faster than they can be digested, nothing is looked up.
        """
        if not self._pays(link_bytes_per_s):
            self.passed_bytes += sum(end - start for start, end in spans)
            return list(spans), list(parts), []
        began_s = time.thread_time()
        left: list[Span] = []
        content: list[Buffer] = []
        kept: list[Kept] = []
        for span, part in zip(spans, parts, strict=True):
            found = self._found(part)
            more, pieces, _ = take_out([span], [part], partial(_keys, found))
            left += more
            content += pieces
            for number, place in found.items():
                _add(kept, span[0] + number * PAGE, place // DIGEST_BYTES)
        self._bytes += sum(end - start for start, end in spans)
        self._took_s += time.thread_time() - began_s
        self.there_bytes += sum(end - start for start, end, _ in kept)
        return left, content, kept

    def notes(self) -> list[str]:
        """What was not looked up, and why."""
        if not self.passed_bytes:
            return []
        size, rate = self.passed_bytes / 1e6, self._bytes / self._took_s / 1e6
        why = f"to digest it ({rate:.0f} MB/s) takes longer than to send it"
        return [f"{size:.1f} MB were not looked for in an earlier visit: {why}"]

    def _pays(self, link_bytes_per_s: float) -> bool:
        known = self._bytes >= ENOUGH_TO_TELL_BYTES
        return not known or link_bytes_per_s * self._took_s <= self._bytes

    def _found(self, part: Buffer) -> dict[int, int]:
        """Numbers of the pages that the target has, and where their digests stand."""
        found = {}
        for number in range(len(part) // PAGE):
            digest = digest_of(part[number * PAGE : (number + 1) * PAGE])
            place = self._next
            if self._digests[place : place + DIGEST_BYTES] != digest:  # mostly they follow
                if digest not in self._places:
                    continue
                place = self._places[digest]
            found[number] = place
            self._next = place + DIGEST_BYTES
        return found


def _keys(found: dict[int, int], _: Buffer) -> list[int]:
    return list(found)


def _add(kept: list[Kept], address: int, number: int) -> None:
    """Add a page, to the last run if it follows there as here."""
    if kept:
        start, end, first = kept[-1]
        if end == address and first + (end - start) // PAGE == number:
            kept[-1] = start, address + PAGE, first
            return
    kept.append((address, address + PAGE, number))
