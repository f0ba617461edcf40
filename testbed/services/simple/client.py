"""The user of the simple service: counts must be exactly consecutive, echoes must match.

Standard library and `testbed.services.probe` only, which lies beside it on the user's host.
"""

import argparse
import socket
import sys

from testbed.services import probe

LONGEST_LINE = 4096


class Lines:
    r"""``SEQUENCE\n`` there, ``SEQUENCE COUNT PROCESSING_US\n`` back."""

    def __init__(self) -> None:
        self._heard = b""

    def start(self, sequence: int) -> None:  # noqa: ARG002 - sequences are said in full
        """Forget half a line of the last connection."""
        self._heard = b""

    def request(self, sequence: int) -> bytes:
        """One line."""
        return b"%d\n" % sequence

    def hear(self, content: bytes) -> list[probe.Answer]:
        """One answer for each whole line."""
        *lines, self._heard = (self._heard + content).split(b"\n")
        if len(self._heard) > LONGEST_LINE:
            lines, self._heard = [*lines, self._heard[:LONGEST_LINE]], b""
        return [_answer(line) for line in lines]


def _answer(line: bytes) -> probe.Answer:
    words = line.split()
    if len(words) == 3 and all(word.isdigit() for word in words):  # noqa: PLR2004 - the protocol
        sequence, count, processing_us = map(int, words)
        return probe.Answer(sequence, count, processing_us / 1e6)
    said = line[:80].decode("ascii", "replace")
    return probe.Answer(-1, -1, problem=f"not an answer: {said!r}")


def checksum(options: argparse.Namespace) -> int:
    """Ask once for the checksum of the memory that is never rewritten, and print it."""
    where = (options.address, options.port)
    with socket.create_connection(where, timeout=options.connect_s) as connection:
        connection.sendall(b"checksum\n")
        said = connection.makefile("rb").readline(LONGEST_LINE).split()
    if len(said) != 3 or said[0] != b"checksum":  # noqa: PLR2004 - the protocol
        print(f"not a checksum: {said!r}", file=sys.stderr)  # noqa: T201
        return 1
    print(said[1].decode(), said[2].decode())  # noqa: T201 - the interface
    return 0


def main() -> int:
    """Run until SIGTERM."""
    parser = probe.arguments("Use the simple service.", interval_s=0.02, most_outstanding=1_000_000)
    parser.add_argument("--checksum", action="store_true", help="print CRC and bytes, and end")
    options = parser.parse_args()
    return checksum(options) if options.checksum else probe.run(Lines(), options)


if __name__ == "__main__":
    sys.exit(main())
