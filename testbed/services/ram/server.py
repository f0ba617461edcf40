r"""A server that keeps memory and rewrites part of it at a steady rate (MSMF, section 5.4.1).

A request is ``SEQUENCE FIRST PAGES\n``, its answer ``SEQUENCE {"count", "processing_s", "written",
"checksum"}\n``: the checksum of that stretch of memory (`content.checksum`), read from the memory
itself, at the moment when ``written`` pages had been rewritten.
"""

import threading
import time
import zlib
from typing import Any

from testbed.services import conversations
from testbed.services.ram.content import PAGE_BYTES, Layout, checksum

LONGEST_PAUSE_S = 0.1
TICK_S = 0.01


class Memory:
    """The memory, and the thread that rewrites it."""

    def __init__(self, layout: Layout, rewrite_mb_per_s: float) -> None:
        self.layout = layout
        self.written = 0
        self._content = bytearray(layout.pages * PAGE_BYTES)
        self._rate = rewrite_mb_per_s * 1e6 / PAGE_BYTES if layout.moving else 0.0
        self._lock = threading.Lock()
        for number in range(layout.pages):
            self._put(number, 0)

    def keep_rewriting(self) -> None:
        """Rewrite for ever, page after page, as many as are due."""
        owed, then_s = 0.0, time.monotonic()
        while self._rate:
            time.sleep(TICK_S)
            now_s = time.monotonic()
            # After a move the clock may be another machine's: neither backwards nor all at once.
            owed += min(max(now_s - then_s, 0.0), LONGEST_PAUSE_S) * self._rate
            then_s = now_s
            self.rewrite(int(owed))
            owed -= int(owed)

    def rewrite(self, pages: int) -> None:
        """Rewrite the next pages."""
        for _ in range(pages):
            with self._lock:
                self._put(*self.layout.next_page(self.written))
                self.written += 1

    def answer(self, words: bytes) -> dict[str, Any]:
        """Checksum of a stretch.

        Raises
        ------
        ValueError
            If the words are not two numbers within the memory.
        """
        numbers = words.split()
        if len(numbers) != 2 or not all(n.isdigit() for n in numbers):  # noqa: PLR2004 - protocol
            raise ValueError("write SEQUENCE FIRST PAGES")
        first, pages = map(int, numbers)
        if first + pages > self.layout.pages:
            raise ValueError(f"there are {self.layout.pages} pages")
        with self._lock, memoryview(self._content) as view:
            sums = b"".join(
                zlib.crc32(view[at : at + PAGE_BYTES]).to_bytes(4)
                for at in range(first * PAGE_BYTES, (first + pages) * PAGE_BYTES, PAGE_BYTES)
            )
            return {"written": self.written, "checksum": checksum(sums)}

    def _put(self, number: int, generation: int) -> None:
        at = number * PAGE_BYTES
        self._content[at : at + PAGE_BYTES] = self.layout.page(number, generation)


def main() -> None:
    """Listen and serve."""
    parser = conversations.arguments("Keep memory and rewrite it.", port=8002)
    parser.add_argument("--memory-mb", type=float, default=300.0)
    parser.add_argument("--rewrite-mb-per-s", type=float, default=5.0)
    parser.add_argument("--rewrite-share", type=float, default=0.5, help="of the memory, 0 to 1")
    parser.add_argument("--random-share", type=float, default=1.0, help="of each page, 0 to 1")
    options = parser.parse_args()
    try:
        layout = Layout.of(options.memory_mb, options.rewrite_share, options.random_share)
    except ValueError as error:
        parser.error(str(error))
    memory = Memory(layout, options.rewrite_mb_per_s)
    threading.Thread(target=memory.keep_rewriting, daemon=True).start()
    conversations.serve(memory.answer, options, words="lines")


if __name__ == "__main__":
    main()
