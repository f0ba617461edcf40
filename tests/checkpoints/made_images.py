"""Small checkpoints, written by hand as CRIU writes them: three processes of which one shares."""

import struct

from testbed.edge import images
from testbed.edge.images import LAZY, PARENT, PRESENT, Range

PAGE = 4096
COMMON, SERVICE = 0x54564319, 0x55105940
MAGIC = {
    "inventory": 0x58313116, "pstree": 0x50273030, "core": 0x55053847, "mm": 0x57492820,
    "fdinfo": 0x56213732, "files": 0x56303138, "tcp-stream": 0x51465506, "stats": 0x57093306,
}  # fmt: skip
HEAP, STACK, LIBRARY, SHARED = 0x10000000, 0x7FFD0000000, 0x7F0000000000, 0x7F1000000000
LIBRARY_FILE, SERVER, CLIENT, PIPE, UNIX, PROGRAM = 1, 2, 3, 4, 5, 6


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def message(fields):
    """Encode numbers, bytes, text, messages (dicts) and lists of these by field number."""
    out = b""
    for number, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, int):
                out += varint(number << 3) + varint(value)
                continue
            data = value if isinstance(value, bytes) else (
                value.encode() if isinstance(value, str) else message(value))  # fmt: skip
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def write(folder, name, *messages, tail=b""):
    kind = name.rpartition("-")[0] or name.partition(".")[0]
    kind = "stats" if name.startswith("stats") else kind
    first = {"inventory": b"", "stats": struct.pack("<I", SERVICE)}
    framed = b"".join(struct.pack("<I", len(m)) + m for m in map(message, messages))
    head = first.get(kind, struct.pack("<I", COMMON)) + struct.pack("<I", MAGIC[kind])
    (folder / name).write_bytes(head + framed + tail)


def area(start, pages, protection, status, *, flags=2, backing=0, offset=0):
    end = start + pages * PAGE
    return {1: start, 2: end, 3: offset, 4: backing, 5: protection, 6: flags, 7: 1 | status}


def arguments(*words):
    return b"".join(word.encode() + b"\0" for word in words)


def make(folder, *, heap=(b"a" * PAGE, bytes(PAGE), b"b" * PAGE), machine=1, page=PAGE, more=()):
    """Write a checkpoint: a server (1000), its child (1001), a zombie (1002).

    heap : content of the server's heap, page by page, from its begin; None for a page that was
    never touched, ``PARENT`` and ``LAZY`` for one that is elsewhere. more : ranges of flags.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, "inventory.img", {1: 2, 8: 123456})
    write(folder, "stats-dump", {1: {1: 200, 2: 12500, 7: 7}})
    write(
        folder, "pstree.img",
        {1: 1000, 2: 0, 3: 1000, 4: 1000, 5: [1000, 1003]},
        {1: 1001, 2: 1000, 3: 1000, 4: 1000, 5: 1001},
        {1: 1002, 2: 1000, 3: 1000, 4: 1000, 5: 1002},
    )  # fmt: skip
    for pid, name, state, files in (
        (1000, "server", 1, 1),
        (1001, "child", 1, 2),
        (1002, "z", 3, 0),
    ):
        write(folder, f"core-{pid}.img", {1: machine, 3: {1: state, 6: name}, 4: {2: files}})
    write(folder, "files.img", *open_files())
    write(folder, "fdinfo-1.img", {1: SERVER, 3: 4, 4: 3}, {1: CLIENT, 3: 4, 4: 4},
          {1: LIBRARY_FILE, 3: 1, 4: 0})  # fmt: skip
    write(folder, "fdinfo-2.img", {1: PIPE, 3: 2, 4: 1}, {1: UNIX, 3: 5, 4: 2})
    write(folder, "tcp-stream-ff.img", {1: 12, 2: 99, 3: 34}, tail=b"x" * 46)
    shared = area(SHARED, 2, 3, 1 << 8, flags=1, backing=77)
    words = arguments("server", "--port", "8000")
    stack = bytes(PAGE - len(words)) + words
    end = STACK + 2 * PAGE
    write(folder, "mm-1000.img", {
        5: end - len(words) - 64, 8: end - len(words), 9: end, 12: PROGRAM,
        14: [
            area(HEAP, 8, 3, (1 << 5) | (1 << 9)),
            area(LIBRARY, 4, 5, 1 << 6, backing=LIBRARY_FILE),
            shared, area(STACK, 2, 3, 1 << 9),
        ],
    })  # fmt: skip
    ranges, content = [], []
    for number, held in enumerate(heap):
        if held is None:
            continue
        flag = held if isinstance(held, int) else PRESENT
        ranges.append(Range(HEAP + number * page, 1, flag))
        if flag == PRESENT:
            content.append(held)
    ranges.append(Range(STACK + PAGE, 1, PRESENT))
    images.write_pagemap(folder / "pagemap-1000.img", 1, [*ranges, *more])
    (folder / "pages-1.img").write_bytes(b"".join([*content, stack]))
    write(folder, "mm-1001.img", {5: 1, 14: [shared]})
    images.write_pagemap(folder / "pagemap-1001.img", 2, [])
    images.write_pagemap(folder / "pagemap-shmem-77.img", 3, [Range(PAGE, 1, PRESENT)])
    (folder / "pages-3.img").write_bytes(b"s" * PAGE)
    return folder


def open_files():
    address = int.from_bytes(bytes([10, 88, 0, 11]), "little")
    user = int.from_bytes(bytes([10, 78, 0, 4]), "little")
    regular = {2: 0o2002, 3: 17, 6: "/usr/lib/libx.so.1", 8: 9000}
    listening = {2: 1, 3: 2, 4: 1, 5: 6, 6: 10, 7: 8000, 8: 0, 9: 2, 11: [0], 12: [0]}
    connected = {2: 255, 3: 2, 4: 1, 5: 6, 6: 1, 7: 8000, 8: 40000, 9: 2, 11: [address], 12: [user]}
    return [
        {1: 1, 2: LIBRARY_FILE, 3: regular},
        {1: 1, 2: PROGRAM, 3: {2: 0, 3: 0, 6: "/usr/bin/server"}},
        {1: 4, 2: SERVER, 4: listening},
        {1: 4, 2: CLIENT, 4: connected},
        {1: 2, 2: PIPE, 18: {1: 9, 2: 5, 3: 1}},
        {1: 5, 2: UNIX, 16: {2: 8, 3: 1, 4: 10, 5: 2, 11: b"\0hidden"}},
    ]


__all__ = ["HEAP", "LAZY", "LIBRARY", "PAGE", "PARENT", "SHARED", "STACK", "make", "write"]
