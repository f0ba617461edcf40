"""What stands in the memory of the RAM service: the same words for its server and its client.

Every page's content follows from its number and from how often it was rewritten, so the client can
work out what must be there without having the memory.
"""

import hashlib
import zlib
from dataclasses import dataclass

PAGE_BYTES = 4096


@dataclass(frozen=True)
class Layout:
    """How the memory is divided.

    pages : in all. moving : how many of them, the last ones, are rewritten in turn.
    random_bytes : how much of each page cannot be compressed; the rest is zeros.
    """

    pages: int
    moving: int
    random_bytes: int

    @classmethod
    def of(cls, memory_mb: float, rewrite_share: float, random_share: float) -> "Layout":
        """From megabytes (10^6 bytes) and shares between 0 and 1.

        Raises
        ------
        ValueError
            If there is not a page, or a share is none.
        """
        pages = int(memory_mb * 1e6) // PAGE_BYTES
        if pages < 1 or not (0 <= rewrite_share <= 1 and 0 <= random_share <= 1):
            raise ValueError(
                f"memory {memory_mb} MB, rewritten share {rewrite_share}, random share "
                f"{random_share}: at least a page is needed, and shares lie between 0 and 1"
            )
        return cls(pages, round(pages * rewrite_share), round(PAGE_BYTES * random_share))

    def page(self, number: int, generation: int) -> bytes:
        """Content of a page that was rewritten ``generation`` times."""
        content = hashlib.shake_128(b"%d %d" % (number, generation)).digest(self.random_bytes)
        return content + bytes(PAGE_BYTES - self.random_bytes)

    def next_page(self, written: int) -> tuple[int, int]:
        """Which page is rewritten after ``written`` rewritings, and its generation then."""
        round_number, place = divmod(written, self.moving)
        return self.pages - self.moving + place, round_number + 1


def checksum(page_checksums: bytes | bytearray) -> int:
    """Checksum of a stretch of pages: CRC-32 of their CRC-32s, 4 bytes each, big-endian."""
    return zlib.crc32(page_checksums)
