"""The user of the simple service: counts must be exactly consecutive, echoes must match.

Standard library and our two modules only, which lie beside it on the user's host.
"""

import argparse
import socket
import sys

from testbed.services import codecs, probe


class Lines(codecs.LineCodec):
    r"""``SEQUENCE\n`` there, ``SEQUENCE COUNT PROCESSING_US\n`` back."""

    def request(self, sequence: int) -> bytes:
        """One line."""
        return b"%d\n" % sequence

    def answer(self, line: bytes) -> probe.Answer:
        """Three numbers."""
        return _answer(line)


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
        said = connection.makefile("rb").readline(codecs.LONGEST_LINE).split()
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
