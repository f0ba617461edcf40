"""MSMF's RAM simulation (section 5.4.1): much memory, part of which keeps changing.

Size, share and rate of what changes, and how well it compresses, are options: they are what the
cost of a migration depends on.
"""

from pathlib import Path

from testbed.services.service import Needs, Service

MEMORY = {"memory_mb": 300.0, "rewrite_share": 0.5, "random_share": 1.0}

SERVICE = Service(
    name="ram",
    folder=Path(__file__).parent,
    port=8002,
    server_options={**MEMORY, "rewrite_mb_per_s": 5.0},
    client_options={**MEMORY, "whole_every": 100},
    shared=("testbed/services/ram/content.py",),
    interval_s=0.05,
    needs=Needs(memory_mb=350.0, cores=0.1, latency="cloud"),
)
