"""A server that finds faces in JPEG frames. Standard library, OpenCV and numpy.

A request is the length of a JPEG (4 bytes, big-endian) and the JPEG; its answer the length of a
JSON text and the text: ``{"sequence", "count", "faces": [[x, y, width, height], ...],
"processing_s"}``. ``sequence`` numbers the requests of a connection from 1, ``count`` the frames of
all. What is no JPEG is answered with ``{"sequence", "error"}`` and not counted; after an announced
length over 4 MB nothing can be understood any more, and that connection is closed.
"""

import argparse
import json
import os
import signal
import socketserver
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

MOST_BYTES = 4_000_000
CASCADE = "haarcascade_frontalface_default.xml"
PARAMETERS: dict[str, Any] = {"scaleFactor": 1.1, "minNeighbors": 3, "minSize": (48, 48)}


def load_detector() -> Any:
    """The cascade that OpenCV's own package ships; one thread, no graphics card."""
    cv2.setNumThreads(1)
    cv2.ocl.setUseOpenCL(False)
    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / CASCADE))


def detect(jpeg: bytes, detector: Any) -> list[list[int]]:
    """Faces in a JPEG as ``[x, y, width, height]`` in pixels, sorted.

    Raises
    ------
    ValueError
        If it is no JPEG that can be read.
    """
    try:
        frame = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:
        raise ValueError("not a readable JPEG") from error
    if frame is None:
        raise ValueError("not a readable JPEG")
    faces = detector.detectMultiScale(frame, **PARAMETERS)
    return sorted([int(number) for number in face] for face in faces)


class State:
    """What must survive a move: the number of frames seen."""

    def __init__(self) -> None:
        self.count = 0
        self.detector = load_detector()
        self.turn = threading.Lock()

    def answer(self, sequence: int, jpeg: bytes) -> dict[str, Any]:
        """Look for faces; one frame at a time."""
        with self.turn:
            began_s = time.perf_counter()
            try:
                faces = detect(jpeg, self.detector)
            except ValueError as error:
                return {"sequence": sequence, "error": str(error)}
            self.count += 1
            took_s = round(max(time.perf_counter() - began_s, 0.0), 6)
            return {
                "sequence": sequence,
                "count": self.count,
                "faces": faces,
                "processing_s": took_s,
            }


class Server(socketserver.ThreadingTCPServer):
    """Listens; a thread for each client."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], state: State) -> None:
        super().__init__(address, Conversation)
        self.state = state

    def handle_error(self, *_: object) -> None:
        """Nobody but the client concerned is affected, and it has gone."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(*_)  # type: ignore[arg-type]


class Conversation(socketserver.StreamRequestHandler):
    """One client."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Answer frames until the client goes or cannot be understood."""
        state: State = self.server.state  # type: ignore[attr-defined]
        sequence = 0
        while len(header := self.rfile.read(4)) == 4:  # noqa: PLR2004 - the protocol
            sequence += 1
            (length,) = struct.unpack(">I", header)
            if length > MOST_BYTES:
                self._say(
                    {"sequence": sequence, "error": f"more than {MOST_BYTES} bytes announced"}
                )
                return
            jpeg = self.rfile.read(length)
            if len(jpeg) < length:
                return
            self._say(state.answer(sequence, jpeg))

    def _say(self, answer: dict[str, Any]) -> None:
        text = json.dumps(answer).encode()
        self.wfile.write(struct.pack(">I", len(text)) + text)


def main() -> None:
    """Listen and serve."""
    parser = argparse.ArgumentParser(description="Find faces in frames.")
    parser.add_argument("--address", default="0.0.0.0")  # noqa: S104 - inside a container
    parser.add_argument("--port", type=int, default=8001, help="0 takes a free one and prints it")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with Server((options.address, options.port), State()) as server:
        if options.port == 0:
            print(server.server_address[1], flush=True)  # noqa: T201 - for tests
        server.serve_forever(poll_interval=60.0)


if __name__ == "__main__":
    main()
