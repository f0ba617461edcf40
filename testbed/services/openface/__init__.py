"""Ngo's face recognition (section V.A): detect, align, embed in 128 dimensions, compare.

With the user's own OpenFace network (option ``network``, or ``models/nn4.small2.v1.t7`` below
TESTBED_DATA) faces are embedded as in the paper; otherwise by dlib's ResNet. The people it knows
are enrolled by its clients: they are part of the state that moves.
"""

from pathlib import Path

from testbed.services.context import PICTURES, OwnFile
from testbed.services.openface.inputs import write_inputs
from testbed.services.openface.models import NETWORK, NETWORK_SHA256, write_models
from testbed.services.service import Needs, Service

SERVICE = Service(
    name="openface",
    folder=Path(__file__).parent,
    port=8004,
    client_options={"most_outstanding": 2},
    write_inputs=write_inputs,
    interval_s=0.4,
    modules=(PICTURES,),
    own_files=(OwnFile("network", NETWORK, NETWORK_SHA256),),
    write_models=write_models,
    needs=Needs(memory_mb=250.0, cores=1.0, latency="local"),
)
