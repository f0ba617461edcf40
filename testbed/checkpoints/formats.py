"""What stands in CRIU's images, as far as it is shown: magic numbers, fields, and their words.

The numbers are CRIU's own (its ``images/*.proto``, ``magic.h`` and ``image.h``). A later version
adds fields, which are skipped, and keeps those that there are.
"""

from testbed.checkpoints.wire import Field, Table

COMMON, SERVICE = 0x54564319, 0x55105940
"""First word of an image, before its magic number; the oldest kinds of image lack it."""
MAGIC = {
    "inventory": 0x58313116,
    "pstree": 0x50273030,
    "core": 0x55053847,
    "ids": 0x54432030,
    "mm": 0x57492820,
    "pagemap": 0x56084025,
    "fdinfo": 0x56213732,
    "files": 0x56303138,
    "tcp-stream": 0x51465506,
    "stats": 0x57093306,
}

INVENTORY: Table = {1: Field("version"), 8: Field("uptime_us")}
PSTREE: Table = {
    1: Field("pid", needed=True),
    2: Field("ppid"),
    3: Field("group"),
    4: Field("session"),
    5: Field("threads", many=True),
}
IDS: Table = {1: Field("memory"), 2: Field("files")}
_TASK: Table = {1: Field("state"), 6: Field("name", "text")}
_X86: Table = {2: Field("registers", "message", {28: Field("mode")})}
CORE: Table = {
    1: Field("machine"),
    2: Field("x86", "message", _X86),
    3: Field("task", "message", _TASK),
    4: Field("ids", "message", IDS),
}
VMA: Table = {
    1: Field("start", needed=True),
    2: Field("end", needed=True),
    3: Field("offset"),
    4: Field("backing"),
    5: Field("protection"),
    6: Field("flags"),
    7: Field("status", needed=True),
}
MM: Table = {
    5: Field("stack"),
    8: Field("arguments_start"),
    9: Field("arguments_end"),
    12: Field("program"),
    14: Field("mappings", "message", VMA, many=True),
}
PAGEMAP_HEAD: Table = {1: Field("pages_id")}
FDINFO: Table = {1: Field("id", needed=True), 3: Field("type"), 4: Field("fd", needed=True)}

_FLAGS = {1: Field("id"), 2: Field("flags")}
INET: Table = {
    2: Field("inode"),
    3: Field("family"),
    4: Field("type"),
    5: Field("protocol"),
    6: Field("state"),
    7: Field("local_port"),
    8: Field("remote_port"),
    9: Field("flags"),
    11: Field("local", many=True),
    12: Field("remote", many=True),
}
UNIX: Table = {
    2: Field("inode"),
    3: Field("type"),
    4: Field("state"),
    5: Field("flags"),
    8: Field("peer"),
    11: Field("name", "bytes"),
}
REGULAR: Table = {2: Field("flags"), 3: Field("position"), 6: Field("name", "text", needed=True),
                  8: Field("size")}  # fmt: skip
PIPE: Table = {2: Field("pipe"), 3: Field("flags")}
FILE: Table = {
    1: Field("type"),
    2: Field("id", needed=True),
    3: Field("regular", "message", REGULAR),
    4: Field("inet", "message", INET),
    8: Field("eventfd", "message", {**_FLAGS, 4: Field("counter")}),
    16: Field("unix", "message", UNIX),
    17: Field("fifo", "message", {2: Field("pipe"), 3: Field("regular_id")}),
    18: Field("pipe", "message", PIPE),
    20: Field("memfd", "message", {**_FLAGS, 3: Field("position"), 5: Field("inode")}),
}
TCP_STREAM: Table = {1: Field("received"), 3: Field("unacknowledged")}
_DUMP: Table = {
    1: Field("freezing_us"),
    2: Field("frozen_us"),
    3: Field("memory_us"),
    7: Field("pages_written"),
}
STATS: Table = {1: Field("dump", "message", _DUMP)}

TASK_STATES = {1: "alive", 2: "dead", 3: "zombie", 6: "stopped"}
MACHINES = {
    1: "x86-64", 2: "arm", 3: "arm64", 4: "ppc64", 5: "s390", 6: "mips", 7: "loongarch64",
    8: "riscv64",
}  # fmt: skip
COMPAT = 2
"""``mode`` of the registers of a 32-bit task on x86-64."""
FILE_TYPES = {
    1: "file", 2: "pipe", 3: "fifo", 4: "socket", 5: "unix socket", 6: "eventfd", 7: "epoll",
    8: "inotify", 9: "signalfd", 10: "packet socket", 11: "terminal", 12: "fanotify",
    13: "netlink socket", 14: "namespace", 15: "tun", 16: "external file", 17: "timerfd",
    18: "memfd", 19: "bpf map", 20: "pidfd",
}  # fmt: skip
MAPPING_KINDS = (
    (1 << 2, "vsyscall"),
    (1 << 3, "vdso"),
    (1 << 12, "vvar"),
    (1 << 5, "heap"),
    (1 << 13, "aio ring"),
    (1 << 14, "memfd"),
    (1 << 10, "System V memory"),
    (1 << 11, "packet ring"),
    (1 << 8, "shared memory"),
    (1 << 9, "anonymous"),
    (1 << 7, "shared file"),
    (1 << 6, "private file"),
)
"""Bits of a mapping's ``status``; the first that is set names the kind."""
STACK = 1 << 1
"""Is not set on every stack."""
BACKED_BY_FILE = (1 << 6) | (1 << 7)
BACKED_BY_SHARED_MEMORY = (1 << 8) | (1 << 10)
FAMILIES = {2: "IPv4", 10: "IPv6"}
PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 136: "UDP-Lite", 255: "raw"}
SOCKET_TYPES = {1: "stream", 2: "datagram", 3: "raw", 5: "seqpacket"}
SOCKET_STATES = {
    1: "established", 2: "SYN sent", 3: "SYN received", 4: "FIN wait 1", 5: "FIN wait 2",
    6: "time wait", 7: "closed", 8: "close wait", 9: "last ACK", 10: "listening", 11: "closing",
}  # fmt: skip
