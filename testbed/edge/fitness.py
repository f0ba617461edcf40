"""What decides whether a service of one edge can be restored on another, beside the hosts' facts.

It is only gathered here; `testbed.migration.preflight` on the controller, which knows both edges,
judges it.
"""

import contextlib
import re
from pathlib import Path
from typing import Any

from . import container
from .container import Holder
from .spec import runtime_config

NAMESPACES = ("mnt", "pid", "net", "uts", "user")
"""Not that of time: CRIU gives each restored service one, so that its clocks go on as they were.
Nor that of IPC: it goes along with the System V objects in it (`edge.sysv`)."""
_ELF, _CLASS = b"\x7fELF", 4
_BITS = {1: 32, 2: 64}


def of_service(name: str) -> dict[str, Any]:
    """A service that is here: its tasks, its memory, and what it made for itself.

    ``mounts`` are mount points in the container beyond those that every holder has. A task's
    ``namespaces`` are those that are not its container's.
    """
    holder = Holder.load(name)
    config = runtime_config(holder.spec)
    known = {"/", *config["linux"]["readonlyPaths"]}
    known |= {mount["destination"] for mount in config["mounts"]}
    lines = Path(f"/proc/{holder.init}/mountinfo").read_text(encoding="utf-8").splitlines()
    mounts = [line.split()[4] for line in lines]
    tasks = []
    for pid in holder.processes():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            tasks.append(_task(pid, holder.init))
    return {
        "tasks": tasks,
        "mounts": sorted({mount for mount in mounts if mount not in known}),
        "private_bytes": sum(task["private_bytes"] for task in tasks),
        "address": holder.spec.address,
        "number": holder.spec.number,
    }


def of_host() -> dict[str, Any]:
    """What is taken on this edge: containers, whether a service lives in them, and free memory."""
    found = []
    for path in sorted(container.STATE.glob("*.json")):
        with contextlib.suppress(KeyError, FileNotFoundError):  # it goes just now
            holder = Holder.load(path.stem)
            spec, lives = holder.spec, holder.lives
            found.append(
                {"name": spec.name, "address": spec.address, "number": spec.number, "lives": lives}
            )
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    available = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return {
        "containers": found,
        "available_bytes": int(available[1]) * 1024 if available else 0,
    }


def _task(pid: int, init: int) -> dict[str, Any]:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    words = dict(re.findall(r"^(\w+):\s*(.*)$", status, re.MULTILINE))
    return {
        "pid": int(words.get("NSpid", "0").split()[-1]),
        "name": words.get("Name", ""),
        "bits": bits(Path(f"/proc/{pid}/exe")),
        "namespaces": [
            kind for kind in NAMESPACES if _namespace(pid, kind) != _namespace(init, kind)
        ],
        "private_bytes": sum(
            int(words.get(k, "0").split()[0]) * 1024 for k in ("RssAnon", "VmSwap")
        ),
    }


def bits(program: Path) -> int:
    """32 or 64, as the head of a program says; 0 where it cannot be read or is no ELF file."""
    try:
        with program.open("rb") as file:
            head = file.read(_CLASS + 1)
    except OSError:
        return 0
    return _BITS.get(head[_CLASS], 0) if head.startswith(_ELF) and len(head) > _CLASS else 0


def _namespace(pid: int, kind: str) -> str:
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
