"""The edges' root file system with the peers in it that the benchmark compares with.

Made by the same recipe as every edge's (`testbed.hosts.root`), with a few packages more, and kept
in a cache folder of its own: whoever is given that folder as its cache starts edges with the peers.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from testbed.hosts import root as recipe

PEER_PACKAGES = [
    "conmon",
    "containerd",
    "crun",
    "docker-cli",
    "docker.io",
    "iptables",
    "nftables",
    "podman",
    "rsync",
]
"""CRIU locks connections with iptables or nftables where it is not told to leave that to others."""
NEWER_PACKAGES = ["runc"]
"""Stable's runc cannot be told to leave the host's cgroups alone."""


def peer_cache(cache: Path, progress: Callable[[str], None]) -> Path:
    """Return a cache folder whose edge root file system has the peers; make it if need be.

    Raises
    ------
    LabError
        If the root file system cannot be built.
    """
    words = " ".join([recipe.recipe_hash(), *PEER_PACKAGES, *NEWER_PACKAGES])
    folder = cache / "benchmarks" / hashlib.sha256(words.encode()).hexdigest()[:16]
    recipe.edge_root(folder, progress, PEER_PACKAGES, NEWER_PACKAGES)
    return folder
