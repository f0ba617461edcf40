"""Faces in the user's video: OpenCV's Haar cascade on frames that the client sends."""

from pathlib import Path

from testbed.services.context import PICTURES
from testbed.services.face_detection.inputs import write_inputs
from testbed.services.service import Needs, Service

SERVICE = Service(
    name="face-detection",
    folder=Path(__file__).parent,
    port=8001,
    client_options={"tolerance_px": 0, "most_outstanding": 4},
    write_inputs=write_inputs,
    interval_s=0.1,
    modules=(PICTURES,),
    needs=Needs(memory_mb=100.0, cores=0.5, latency="regional"),
)
