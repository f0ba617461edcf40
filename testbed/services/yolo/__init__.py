"""Ngo's object recognition (section V.A): YOLOv3 on OpenCV's DNN module, without a graphics card.

With the user's own ``yolov3.weights`` (option ``weights``, or ``models/`` below TESTBED_DATA) it is
the full network; otherwise YOLOv3-tiny.
"""

from pathlib import Path

from testbed.services.context import PICTURES, OwnFile
from testbed.services.service import Needs, Service
from testbed.services.yolo.inputs import write_inputs
from testbed.services.yolo.models import WEIGHTS, WEIGHTS_SHA256, write_models

SERVICE = Service(
    name="yolo",
    folder=Path(__file__).parent,
    port=8003,
    client_options={"most_outstanding": 2, "least_overlap": 0.5},
    write_inputs=write_inputs,
    interval_s=0.5,
    modules=(PICTURES,),
    own_files=(OwnFile("weights", WEIGHTS, WEIGHTS_SHA256),),
    write_models=write_models,
    needs=Needs(memory_mb=400.0, cores=1.0, latency="regional"),
)
