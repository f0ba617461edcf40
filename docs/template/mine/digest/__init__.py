"""A service of one's own: it digests what it is sent."""

from pathlib import Path

from testbed.services.service import Needs, Service

SERVICE = Service(
    name="digest",
    folder=Path(__file__).parent,
    port=8100,
    server_options={"rounds": 1},
    client_options={"rounds": 1},
    interval_s=0.02,
    needs=Needs(memory_mb=20.0, cores=0.1, latency="local"),
)
