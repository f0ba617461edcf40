"""Pictures that clients send, decoded; a picture that is none, or is not whole, is refused.

Runs in the containers beside ``server.py``; needs OpenCV and numpy.
"""

import os
from typing import Any

MOST_PIXELS = 16_000_000
# A file of a few bytes can announce a picture of gigabytes; OpenCV reads its limit when it loads.
os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MOST_PIXELS)

import cv2  # noqa: E402
import numpy as np  # noqa: E402

_END = b"\xff\xd9"


def use_one_core() -> None:
    """Neither threads nor a graphics card: easier to freeze, and steadier."""
    cv2.setNumThreads(1)
    cv2.ocl.setUseOpenCL(False)


def read_jpeg(content: bytes, *, colour: bool = True) -> Any:
    """Decode a JPEG: an array of shape (height, width, 3) in blue, green, red, or (height, width).

    Raises
    ------
    ValueError
        If it is no JPEG that can be read, was cut short, or has more than `MOST_PIXELS`.
    """
    if not content.rstrip(b"\0").endswith(_END):
        raise ValueError("not a readable JPEG, or not all of it")
    try:
        how = cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), how)
    except cv2.error as error:
        raise ValueError(f"not a readable JPEG of at most {MOST_PIXELS} pixels") from error
    if picture is None:
        raise ValueError("not a readable JPEG")
    return picture
