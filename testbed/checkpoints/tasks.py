"""Processes of a checkpoint and what they have open, as CRIU's images tell it."""

import ipaddress
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

from testbed.checkpoints import formats
from testbed.checkpoints.store import Store

_SHARED = 1
_WRITE_ONLY, _BOTH, _APPEND = 0o1, 0o2, 0o2000
_V4_WORDS, _TCP = 1, 6
_HIDDEN_NAME = b"\0"


@dataclass(frozen=True)
class Task:
    """One process.

    memory : the fields of `formats.MM`; empty for a zombie. mappings, descriptors : messages of
    `formats.VMA` and `formats.FDINFO`. bits : 32 or 64; 0 where the image does not say.
    """

    pid: int
    ppid: int
    name: str
    state: str
    machine: str
    bits: int
    threads: tuple[int, ...]
    memory: dict[str, Any] = field(default_factory=dict)
    mappings: tuple[dict[str, Any], ...] = ()
    descriptors: tuple[dict[str, Any], ...] = ()


def read_tasks(store: Store) -> list[Task]:
    """Every process, parents before their children.

    Raises
    ------
    CheckpointError
        If an image is missing or not whole.
    """
    found = [_read_task(store, entry) for entry in store.entries("pstree.img", formats.PSTREE)]
    if not found:
        raise store.broken("pstree.img", "no process is in it")
    return found


def _read_task(store: Store, entry: dict[str, Any]) -> Task:
    pid = entry["pid"]
    core = store.only(f"core-{pid}.img", formats.CORE)
    task, mm, descriptors = core.get("task", {}), {}, []
    ids = core.get("ids") or (
        store.only(f"ids-{pid}.img", formats.IDS) if store.size(f"ids-{pid}.img") else {}
    )
    if store.size(f"mm-{pid}.img"):
        mm = store.only(f"mm-{pid}.img", formats.MM)
        if any(area["end"] <= area["start"] for area in mm["mappings"]):
            raise store.broken(f"mm-{pid}.img", "a mapping ends before it begins")
    if ids.get("files") and store.size(f"fdinfo-{ids['files']}.img"):
        descriptors = store.entries(f"fdinfo-{ids['files']}.img", formats.FDINFO)
    machine = formats.MACHINES.get(core.get("machine", 0), "unknown")
    return Task(
        pid=pid,
        ppid=entry.get("ppid", 0),
        name=task.get("name", ""),
        state=formats.TASK_STATES.get(task.get("state", 0), "unknown"),
        machine=machine,
        bits=_bits(core, machine),
        threads=tuple(entry["threads"]),
        memory=mm,
        mappings=tuple(mm.get("mappings", ())),
        descriptors=tuple(sorted(descriptors, key=lambda entry: int(entry["fd"]))),
    )


def _bits(core: dict[str, Any], machine: str) -> int:
    if machine == "x86-64":
        return 32 if core.get("x86", {}).get("registers", {}).get("mode") == formats.COMPAT else 64
    return {"arm": 32}.get(machine, 64) if machine in formats.MACHINES.values() else 0


def read_files(store: Store) -> dict[int, dict[str, Any]]:
    """What was open, by CRIU's number for it; nothing where there is no such image."""
    if not store.size("files.img"):
        return {}
    return {entry["id"]: entry for entry in store.entries("files.img", formats.FILE)}


def access(area: dict[str, Any]) -> str:
    """Rights of a mapping as ``/proc/PID/maps`` writes them: ``rw-p``."""
    protection = area.get("protection", 0)
    rights = (letter if protection & bit else "-" for bit, letter in ((1, "r"), (2, "w"), (4, "x")))
    return "".join(rights) + ("s" if area.get("flags", 0) & _SHARED else "p")


def mapping_kind(area: dict[str, Any], stack: int) -> str:
    """What a mapping is, in a word or two; ``stack``: where the process' stack begins."""
    status = area["status"]
    if status & formats.STACK or area["start"] <= stack < area["end"]:
        return "stack"
    return next((word for bit, word in formats.MAPPING_KINDS if status & bit), "other")


def describe_file(fd: int, kind: int, entry: dict[str, Any]) -> tuple[Any, ...]:
    """A row of `Checkpoint.files` without its pid."""
    known = formats.FILE_TYPES.get(kind, f"type {kind}")
    regular, position, size = entry.get("regular", {}), 0, 0
    flags = next((v["flags"] for v in entry.values() if isinstance(v, dict) and "flags" in v), None)
    what = ""
    if regular:
        what, position, size = regular["name"], regular.get("position", 0), regular.get("size", 0)
    elif "inet" in entry:
        what = " → ".join(end for end in _ends(entry["inet"]) if end)
    elif "unix" in entry:
        what = _unix_name(entry["unix"])
    elif "pipe" in entry or "fifo" in entry:
        what = f"pipe {(entry.get('pipe') or entry['fifo']).get('pipe', 0)}"
    elif "memfd" in entry:
        what, position = (
            f"memfd {entry['memfd'].get('inode', 0)}",
            entry["memfd"].get("position", 0),
        )
    return fd, known, what, _mode(flags), position, size


def describe_socket(store: Store, entry: dict[str, Any]) -> tuple[Any, ...] | None:
    """A row of `Checkpoint.sockets` without pid and descriptor; None where it is no socket."""
    if "inet" in entry:
        inet = entry["inet"]
        protocol = formats.PROTOCOLS.get(inet.get("protocol", 0), str(inet.get("protocol", 0)))
        state = formats.SOCKET_STATES.get(inet.get("state", 0), "") if protocol == "TCP" else ""
        stream = f"tcp-stream-{inet.get('inode', 0):x}.img"
        queues: dict[str, Any] = {}
        if store.size(stream):
            queues = store.only(stream, formats.TCP_STREAM)
        family = formats.FAMILIES.get(inet.get("family", 0), str(inet.get("family", 0)))
        waiting = queues.get("received", 0), queues.get("unacknowledged", 0)
        return family, protocol, state, *_ends(inet), *waiting
    if "unix" in entry:
        unix = entry["unix"]
        kind = formats.SOCKET_TYPES.get(unix.get("type", 0), str(unix.get("type", 0)))
        state = formats.SOCKET_STATES.get(unix.get("state", 0), "")
        peer = f"socket {unix['peer']}" if unix.get("peer") else ""
        return "unix", kind, state, _unix_name(unix), peer, 0, 0
    return None


def _ends(inet: dict[str, Any]) -> tuple[str, str]:
    """Local and remote address; the remote one is empty where there is none."""
    local = _address(inet["local"], inet.get("local_port", 0))
    connected = inet.get("remote_port", 0) > 0
    return local, _address(inet["remote"], inet["remote_port"]) if connected else ""


def _address(words: list[int], port: int) -> str:
    """Words as the kernel has them, in network order within the machine's own."""
    packed = struct.pack(f"<{len(words)}I", *words)
    if len(words) == _V4_WORDS:
        return f"{socket.inet_ntoa(packed)}:{port}"
    return f"[{ipaddress.IPv6Address(packed)}]:{port}" if words else f"*:{port}"


def _unix_name(unix: dict[str, Any]) -> str:
    name: bytes = unix.get("name", b"")
    hidden = name.startswith(_HIDDEN_NAME)
    plain = name.strip(b"\0").decode("utf-8", errors="replace")
    return f"@{plain}" if hidden and plain else plain


def _mode(flags: int | None) -> str:
    if flags is None:
        return ""
    word = {0: "r", _WRITE_ONLY: "w"}.get(flags & (_WRITE_ONLY | _BOTH), "rw")
    return f"{word}, append" if flags & _APPEND else word
