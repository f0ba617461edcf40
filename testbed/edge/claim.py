"""Telling CRIU that the target has all pages already, so that its dump writes none.

CRIU's incremental dump leaves out pages that its parent image has and that the kernel's soft-dirty
bit calls clean. Here the parent image is a claim: it names every private mapping and holds nothing.
A kernel without soft-dirty calls every page clean. CRIU only has to believe that this kernel can
track: one byte of its cache of kernel features, which no documentation describes. So `pretend`
asks CRIU itself whether the byte means what it should, each time, and undoes it where it does not.
The second way is a dump with pages, which nobody reads (`docs/architecture.md`).
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from . import images
from .pages import PAGE, private_spans

FOLDER = "claim"
CACHE = "run/criu.kdat"
TOLD = "run/criu.kdat.told"
"""Says that the byte is ours, and not the kernel's own soft-dirty bits."""
HAS_DIRTY_TRACK = 32
"""Offset of the byte in CRIU 4.1 and 4.2, x86-64 and arm64."""
INVENTORY = 0x58313116
IMAGE_VERSION, DUMP_UPTIME = 1, 8


class Asked(Protocol):
    """CRIU, as far as it is asked here (`edge.criu.Criu`)."""

    def features(self) -> dict[str, bool]:
        """What it says that the kernel can do."""


def pretend(criu: Asked, root: Path) -> str:
    """Make CRIU in a container believe that the kernel tracks pages.

    Parameters
    ----------
    criu : Asked
        Waiting in the container.
    root : Path
        The container's root.

    Returns
    -------
    str
        Why it cannot be done; empty where it was.
    """
    before = criu.features()
    told = root / TOLD
    if before["mem_track"] and told.exists():
        return ""  # by an earlier move, which was given up
    if before["mem_track"]:
        return "this kernel has soft-dirty bits, and CRIU would look at them"
    try:
        with (root / CACHE).open("r+b", buffering=0) as cache:
            cache.seek(HAS_DIRTY_TRACK)
            was = cache.read(1)
            cache.seek(HAS_DIRTY_TRACK)
            cache.write(b"\1")
            if criu.features() == {**before, "mem_track": True} and was == b"\0":
                told.touch()
                return ""
            cache.seek(HAS_DIRTY_TRACK)
            cache.write(was)
    except OSError as error:
        return f"CRIU's cache of kernel features cannot be written: {error}"
    return "this CRIU keeps its kernel features elsewhere"


def write(folder: Path, maps: Mapping[int, str]) -> None:
    """Write the claim for frozen tasks: their pids inside and the text of their ``maps``."""
    folder.mkdir(exist_ok=True)
    for number, (task, text) in enumerate(maps.items(), 1):
        spans = private_spans(text, readable=False, vdso=True)
        ranges = [images.Range(a, (b - a) // PAGE, images.PRESENT) for a, b in spans]
        images.write_pagemap(folder / f"pagemap-{task}.img", number, ranges)
        (folder / f"pages-{number}.img").touch()
    # A claim younger than every task: CRIU takes a task born after it for another one.
    uptime_us = int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1e6)
    entry = {IMAGE_VERSION: 2, DUMP_UPTIME: uptime_us}
    images.write_image(folder / "inventory.img", INVENTORY, entry)
