"""The users' words for `testbed.services.conversations`, on the side that asks.

Standard library and `testbed.services.probe` only: both lie beside a client on the user's host.
"""

import json
import struct
from typing import Any

from testbed.services import probe

MOST_BYTES = 1 << 20
LONGEST_LINE = 4096
MOST_SHOWN = 200


class LineCodec:
    r"""One answer per line; a client says in `answer` what a line means."""

    def __init__(self) -> None:
        self._heard = b""

    def start(self, sequence: int) -> None:  # noqa: ARG002 - sequences are said in full
        """Forget half a line of the last connection."""
        self._heard = b""

    def hear(self, content: bytes) -> list[probe.Answer]:
        """One answer for each whole line."""
        *lines, self._heard = (self._heard + content).split(b"\n")
        if len(self._heard) > LONGEST_LINE:
            lines, self._heard = [*lines, self._heard[:LONGEST_LINE]], b""
        return [self.answer(line) for line in lines]

    def answer(self, line: bytes) -> probe.Answer:
        """What a line says."""
        sequence, _, text = line.partition(b" ")
        if not sequence.isdigit():
            said = line[:80].decode("ascii", "replace")
            return probe.Answer(-1, -1, problem=f"not an answer: {said!r}")
        return judge(self, int(sequence), text)

    def problem(self, sequence: int, said: dict[str, Any]) -> str:
        """What is wrong with an answer's JSON; empty where it is right.

        A missing or mistyped part may raise KeyError, TypeError or ValueError.
        """
        raise NotImplementedError


class FrameCodec:
    """Length and content there, length and JSON back; a client says in `problem` what is right.

    Parameters
    ----------
    contents : list of bytes
        What is sent, over and over, in this order.
    """

    def __init__(self, contents: list[bytes]) -> None:
        self._contents = contents
        self._heard = b""
        self._first = 1

    def start(self, sequence: int) -> None:
        """Forget half an answer; the service numbers this connection's requests from 1."""
        self._heard, self._first = b"", sequence

    def which(self, sequence: int) -> int:
        """Index of what was sent under this number."""
        return (sequence - 1) % len(self._contents)

    def request(self, sequence: int) -> bytes:
        """The next content."""
        content = self._contents[self.which(sequence)]
        return struct.pack(">I", len(content)) + content

    def hear(self, content: bytes) -> list[probe.Answer]:
        """One answer for each whole text."""
        self._heard += content
        answers = []
        while len(self._heard) >= 4:  # noqa: PLR2004 - the protocol
            (length,) = struct.unpack(">I", self._heard[:4])
            if length > MOST_BYTES:
                raise ConnectionAbortedError(f"the service announced {length} bytes")
            if len(self._heard) < 4 + length:
                break
            answers.append(self._answer(self._heard[4 : 4 + length]))
            self._heard = self._heard[4 + length :]
        return answers

    def problem(self, sequence: int, said: dict[str, Any]) -> str:
        """What is wrong with an answer; empty where it is right (see `LineCodec.problem`)."""
        raise NotImplementedError

    def _answer(self, text: bytes) -> probe.Answer:
        try:
            sequence = self._first + int(json.loads(text)["sequence"]) - 1
        except (ValueError, KeyError, TypeError) as error:
            return probe.Answer(-1, -1, problem=f"not an answer: {error!r}")
        return judge(self, sequence, text)


def judge(codec: LineCodec | FrameCodec, sequence: int, text: bytes) -> probe.Answer:
    """Read an answer's JSON: count, processing time, and what the client says of the rest."""
    try:
        said: dict[str, Any] = json.loads(text)
        if "error" in said:
            return probe.Answer(sequence, -1, problem=f"error: {said['error']}"[:MOST_SHOWN])
        count, processing_s = int(said["count"]), float(said["processing_s"])
        problem = codec.problem(sequence, said)
    except (ValueError, KeyError, TypeError) as error:
        return probe.Answer(-1, -1, problem=f"not an answer: {error!r}")
    return probe.Answer(sequence, count, processing_s, problem, said)
