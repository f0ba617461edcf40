"""MSMF's game server (section 5.4.1): a match with bots, over UDP.

With the user's own archive of Xonotic (option ``archive``, or ``models/xonotic.zip`` below
TESTBED_DATA) it is Xonotic's dedicated server; otherwise Nexuiz, its ancestor on the same engine,
from Debian.
"""

from pathlib import Path

from testbed.services.context import OwnFile
from testbed.services.service import Needs, Service
from testbed.services.xonotic.models import ARCHIVE, write_models

SERVICE = Service(
    name="xonotic",
    folder=Path(__file__).parent,
    port=8005,
    protocol="udp",
    server_options={"bots": 6, "map": "stormkeep"},
    client_options={"bots": 6},
    interval_s=0.1,
    own_files=(OwnFile("archive", ARCHIVE),),
    write_models=write_models,
    needs=Needs(memory_mb=160.0, cores=0.2, latency="local"),
)
