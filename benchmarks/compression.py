"""What does packing gain on the way between edges? Real pages, every way to pack, several links.

Pages are read from running processes: a Python heap, OpenCV with a Haar cascade as in the face
detection, and the simple service, whose memory is random. Each way's ratio and throughput is
measured on them; then everything is sent through the testbed's own outbox over a channel of
limited rate: as the testbed chooses, without packing, and always with zlib (level 1).

    .venv/bin/python benchmarks/compression.py [--quick] [--json FILE]
"""

import argparse
import contextlib
import io
import json
import math
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from testbed.edge import codec, squeeze
from testbed.edge.channel import Channel
from testbed.edge.outbox import Outbox
from testbed.edge.pages import PAGE, ZEROS, read_task
from testbed.measurement.summary import render

BATCH_BYTES = 1 << 20
BUFFERED_S = 0.05
"""How much of its own rate a link of the benchmark swallows before it blocks."""
LINKS_BPS = (20e6, 100e6, 1000e6)
MOST_BYTES, QUICK_BYTES = 48 << 20, 16 << 20
LONGER, LEARNING_S = 1.1, 0.1
"""What is chosen may take so much longer than the better of the fixed ways, and time to learn."""
HEAP = (
    "import json\nheld = [{'number': n, 'text': str(n) * 3, 'half': n / 2} for n in range(250_000)]"
)
HAAR = """
import cv2, numpy
path = cv2.data.haarcascades + "haarcascade_frontalface_default.xml"
cascade, noise = cv2.CascadeClassifier(path), numpy.random.default_rng(1)
for _ in range(3):
    picture = noise.integers(0, 255, (480, 640), numpy.uint8)
    cascade.detectMultiScale(cv2.GaussianBlur(picture, (9, 9), 0))
"""
RANDOM = "import os\nheld = [bytearray(os.urandom(1 << 20)) for _ in range(100)]"
CONTENTS = {"Python heap": HEAP, "OpenCV, Haar cascade": HAAR, "random memory": RANDOM}
WAIT = "\nprint('ready', flush=True)\nimport sys\nsys.stdin.read()"


def pages_of(program: str, most_bytes: int) -> list[bytes]:
    """The pages that a Python program has once it is ready, in batches from all over."""
    with subprocess.Popen(
        [sys.executable, "-c", program + WAIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("pipes were asked for")
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the program whose pages are to be packed ended early")
        whole = b"".join(data for _, data in read_task(process.pid))
        process.stdin.close()
    batches = [whole[at : at + BATCH_BYTES] for at in range(0, len(whole), BATCH_BYTES)]
    return batches[:: math.ceil(len(whole) / most_bytes)]


def repeated(batches: list[bytes]) -> tuple[float, float]:
    """Which share of the pages are zeros, and which repeat another page that is not."""
    pages = [b[at : at + PAGE] for b in batches for at in range(0, len(b), PAGE)]
    counted = Counter(pages)
    zeros = counted.pop(ZEROS, 0)
    return zeros / len(pages), (counted.total() - len(counted)) / len(pages)


def speeds(batches: list[bytes]) -> dict[str, squeeze.Speed]:
    """What each way that this machine has gives on all of them."""
    found = {}
    for way, (name, level) in squeeze.WAYS.items():
        if name in codec.available():
            used = codec.find(name)
            used.pack(batches[0], level)
            began_s = time.perf_counter()
            packed = sum(len(used.pack(batch, level)) for batch in batches)
            took_s = time.perf_counter() - began_s
            whole = sum(map(len, batches))
            found[way] = squeeze.Speed(packed / whole, whole / took_s)
    return found


class Link(io.RawIOBase):
    """Takes bytes at a steady rate and forgets them."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._empty_s = time.monotonic()

    def writable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def write(self, data: Any) -> int:
        """Wait until there is room."""
        self._empty_s = max(self._empty_s, time.monotonic()) + len(data) / self._bytes_per_s
        threading.Event().wait(max(0.0, self._empty_s - BUFFERED_S - time.monotonic()))
        return len(data)

    def drain(self) -> None:
        """Wait until all is across."""
        threading.Event().wait(max(0.0, self._empty_s - time.monotonic()))


@contextlib.contextmanager
def only(ways: dict[str, tuple[str, int]]) -> Iterator[None]:
    """Let a squeezer know these ways and always take one of them."""
    known, chosen = squeeze.WAYS, squeeze.choose
    squeeze.WAYS = ways
    squeeze.choose = lambda speeds, *_, **__: next(iter(speeds))
    try:
        yield
    finally:
        squeeze.WAYS, squeeze.choose = known, chosen


def sent(batches: list[bytes], rate_bps: float, how: str) -> tuple[float, int, str]:
    """Seconds and bytes to get everything across, and what was packed how."""
    link = Link(rate_bps / 8)
    with contextlib.ExitStack() as stack:
        if how == "zlib":
            stack.enter_context(only({"zlib-1": ("zlib", 1)}))
        codecs = {"chosen": codec.available(), "plain": [], "zlib": ["zlib"]}[how]
        outbox = Outbox(Channel(io.BytesIO(), link), codecs)  # type: ignore[arg-type]
        began_s = time.monotonic()
        for batch in batches:
            outbox.send({"message": "pages"}, [batch])
        outbox.flush()
        link.drain()
        took_s = time.monotonic() - began_s
        said, size = outbox.account(), outbox.sent_bytes
        outbox.close()
    return took_s, size, said


def row(name: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
    """One number as the other benchmarks tell theirs."""
    told = dict.fromkeys(("peer", "ratio", "goal", "met"))
    return {"name": name, "value": round(value, 3), "unit": unit, **told, **more}


def measure(content: str, batches: list[bytes], links: tuple[float, ...]) -> list[dict[str, Any]]:
    """All rows for one kind of content; the tables are printed on the way."""
    zeros, again = repeated(batches)
    whole = sum(map(len, batches))
    print(
        f"\n{content}: {whole / 1e6:.0f} MB; {zeros:.1%} of the pages are zeros, {again:.1%} repeat"
    )
    rows = [
        row(f"{content}: pages of zeros", zeros * 100, "%"),
        row(f"{content}: pages that repeat another", again * 100, "%"),
    ]
    table: list[tuple[str, ...]] = []
    for way, speed in speeds(batches).items():
        rows.append(row(f"{content}, {way}: bytes in per byte out", 1 / speed.ratio, "times"))
        rows.append(row(f"{content}, {way}: throughput", speed.bytes_per_s / 1e6, "MB/s"))
        table.append((way, f"{1 / speed.ratio:.2f}", f"{speed.bytes_per_s / 1e6:.0f}"))
    print(render(("way", "times smaller", "MB/s"), table, right=(1, 2)))
    table = []
    for rate_bps in links:
        took = {how: sent(batches, rate_bps, how) for how in ("plain", "zlib", "chosen")}
        best_s = min(took["plain"][0], took["zlib"][0])
        chosen_s, size, said = took["chosen"]
        link = f"{rate_bps / 1e6:.0f} Mbit/s"
        ratio, goal_s = best_s / chosen_s, LONGER * best_s + LEARNING_S
        beside = f"plain {took['plain'][0]:.2f} s, always zlib {took['zlib'][0]:.2f} s"
        rows.append(
            row(
                f"{content}, {link}: until everything is across",
                chosen_s,
                "s",
                peer=beside,
                ratio=round(ratio, 2),
                goal=round(goal_s, 3),
                met=chosen_s <= goal_s,
            )
        )
        times = [f"{took[how][0]:.2f}" for how in ("plain", "zlib", "chosen")]
        table.append((link, *times, f"{size / 1e6:.1f}", said.split("; ")[0]))
    headers = ("link", "plain s", "zlib s", "chosen s", "MB sent", "how")
    print(render(headers, table, right=range(1, 5), width=130))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--quick", action="store_true", help="less of each content, two links")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    rows = []
    for content, program in CONTENTS.items():
        batches = pages_of(program, QUICK_BYTES if options.quick else MOST_BYTES)
        rows += measure(content, batches, LINKS_BPS[1:] if options.quick else LINKS_BPS)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    missed = [r["name"] for r in rows if r["met"] is False]
    print("\n" + (f"NOT MET: {'; '.join(missed)}" if missed else "every goal met"))
    return 1 if missed else 0


RAW = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    sys.exit(main())
