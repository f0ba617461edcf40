"""Ngo's dumb server (section V.A): it answers every request with an incremented counter.

On request it also holds memory and rewrites it at a steady rate, which makes it the yardstick for
migrations: any size, any rate of change, and an answer that shows whether anything was lost.
"""

from pathlib import Path

from testbed.services.service import Needs, Service

SERVICE = Service(
    name="simple",
    folder=Path(__file__).parent,
    port=8000,
    server_options={"memory_mb": 0.0, "rewrite_mb_per_s": 0.0},
    interval_s=0.02,
    needs=Needs(memory_mb=20.0, cores=0.1, latency="local"),
)
