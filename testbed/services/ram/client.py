"""The user of the RAM service: asks for checksums of its memory and works out what they must be.

Standard library and our own modules only, which lie beside it on the user's host.
"""

import argparse
import sys
import zlib
from typing import Any

from testbed.services import codecs, probe
from testbed.services.ram.content import Layout, checksum

STRETCH_PAGES = 256


class Checksums(codecs.LineCodec):
    """Stretch after stretch of the memory, and now and then all of it.

    Parameters
    ----------
    layout : Layout
        The server's.
    whole_every : int
        Every so many requests the whole memory is asked for; 0: never.
    """

    def __init__(self, layout: Layout, whole_every: int = 0) -> None:
        super().__init__()
        self._layout = layout
        self._whole_every = whole_every
        self._written = 0
        self._sums = bytearray(b"".join(self._sum(number, 0) for number in range(layout.pages)))

    def stretch(self, sequence: int) -> tuple[int, int]:
        """First page and number of pages that a request asks for."""
        pages = self._layout.pages
        if self._whole_every and sequence % self._whole_every == 0:
            return 0, pages
        first = (sequence - 1) * STRETCH_PAGES % -(-pages // STRETCH_PAGES * STRETCH_PAGES)
        return first, min(STRETCH_PAGES, pages - first)

    def request(self, sequence: int) -> bytes:
        """One line."""
        return b"%d %d %d\n" % (sequence, *self.stretch(sequence))

    def problem(self, sequence: int, said: dict[str, Any]) -> str:
        """Whether the memory is another one than it must be by now."""
        written, found = int(said["written"]), int(said["checksum"])
        if written < self._written:
            return f"{written} pages rewritten, after {self._written}"
        self._follow(written)
        first, pages = self.stretch(sequence)
        expected = checksum(self._sums[first * 4 : (first + pages) * 4])
        wrong = f"checksum {found:08x} of pages {first} to {first + pages - 1}, not {expected:08x}"
        return "" if found == expected else wrong

    def _follow(self, written: int) -> None:
        """Work out the pages that were rewritten since the last answer, each once."""
        for number in range(max(self._written, written - self._layout.moving), written):
            page, generation = self._layout.next_page(number)
            self._sums[page * 4 : page * 4 + 4] = self._sum(page, generation)
        self._written = written

    def _sum(self, page: int, generation: int) -> bytes:
        return zlib.crc32(self._layout.page(page, generation)).to_bytes(4)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = probe.arguments("Use the RAM service.", interval_s=0.05, most_outstanding=1000)
    parser.add_argument("--memory-mb", type=float, default=300.0)
    parser.add_argument("--rewrite-share", type=float, default=0.5)
    parser.add_argument("--random-share", type=float, default=1.0)
    parser.add_argument("--whole-every", type=int, default=100, help="requests; 0: never")
    return parser.parse_args()


def main() -> int:
    """Run until SIGTERM."""
    options = parse()
    layout = Layout.of(options.memory_mb, options.rewrite_share, options.random_share)
    return probe.run(Checksums(layout, options.whole_every), options)


if __name__ == "__main__":
    sys.exit(main())
