"""Programs written byte by byte."""

import struct

PAUSE = bytes.fromhex("b81d000000cd80ebf7")
"""``mov eax, 29 (pause); int 0x80``, again and again."""
BASE = 0x08048000


def elf32():
    """The smallest program for an i386 that waits."""
    size = 84 + len(PAUSE)
    head = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    head += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, BASE + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return head + struct.pack("<IIIIIIII", 1, 0, BASE, BASE, size, size, 5, 0x1000) + PAUSE
