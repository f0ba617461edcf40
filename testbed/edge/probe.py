"""What one host can do: facts as JSON on standard output, found by trying rather than guessing.

``python3 -m edge.probe`` changes nothing that stays: whatever needs a mount, a device, a rule or a
kernel setting is tried in a child process with namespaces of its own, which then ends. A feature
is ``{"works": true | false | null, "detail": "..."}``; null means that it could not be tried.
What the facts mean is for `testbed.hosts.doctor` to say.
"""

import contextlib
import ctypes
import hashlib
import json
import mmap
import os
import platform
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .probe_engine import try_claim, try_lazy_restore, try_tracker
from .probe_memory import try_pagemap_scan, try_soft_dirty, try_userfaultfd, try_wp_async
from .trial import (
    NEWCGROUP,
    NEWIPC,
    NEWNET,
    NEWNS,
    NEWPID,
    NEWUTS,
    NotTriedError,
    attempt,
    check,
    libc,
    private_mounts,
    tell,
    unshare,
)

VERSION = 1
CAPABILITIES = {
    "NET_ADMIN": 12,
    "SYS_CHROOT": 18,
    "SYS_PTRACE": 19,
    "SYS_ADMIN": 21,
    "SYS_NICE": 23,
    "SYS_RESOURCE": 24,
    "CHECKPOINT_RESTORE": 40,
}
TOOLS = ("ip", "tc", "iptables", "ping", "rsync", "sshd", "criu", "crun", "runc", "mmdebstrap")

_TUNSETIFF, _TUNSETOFFLOAD, _IFF_TUN_NO_PI_VNET_HDR, _TUN_F_ALL = (
    0x400454CA,
    0x400454D0,
    0x5001,
    0x67,
)


def try_namespaces() -> str:
    """Make one of each kind that a namespace host needs."""
    unshare(NEWNS | NEWNET | NEWPID | NEWUTS | NEWIPC | NEWCGROUP)
    return "mnt net pid uts ipc cgroup"


def try_qdisc(*words: str) -> Callable[[], str]:
    """Return a trial that puts a qdisc on the loopback device of a network namespace of its own."""

    def trial() -> str:
        unshare(NEWNET)
        tell(["tc", "qdisc", "add", "dev", "lo", "root", *words])
        return " ".join(words)

    return trial


def try_policy_rules() -> str:
    """Route by source address in a network namespace of its own."""
    unshare(NEWNET)
    tell(["ip", "rule", "add", "from", "192.0.2.1", "lookup", "100"])
    return "ip rule"


def try_tun() -> str:
    """Make a TUN device that takes whole segments, in a network namespace of its own."""
    unshare(NEWNET)
    tun = os.open("/dev/net/tun", os.O_RDWR)
    request = struct.pack("16sH22x", b"tbprobe", _IFF_TUN_NO_PI_VNET_HDR)
    check(libc().ioctl(tun, ctypes.c_ulong(_TUNSETIFF), request), "make a TUN device")
    offload = ctypes.c_ulong(_TUNSETOFFLOAD)
    if libc().ioctl(tun, offload, ctypes.c_ulong(_TUN_F_ALL)) < 0:  # before kernel 6.2
        return "TCP segments whole"
    return "TCP and UDP segments whole"


def try_overlay() -> str:
    """Mount an overlay over directories in memory."""
    private_mounts()
    with tempfile.TemporaryDirectory() as top:
        check(libc().mount(b"tmpfs", top.encode(), b"tmpfs", 0, b"size=1m"), "mount tmpfs")
        try:
            for name in ("lower", "upper", "work", "merged"):
                (Path(top) / name).mkdir()
            options = f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work".encode()
            merged = f"{top}/merged".encode()
            check(libc().mount(b"overlay", merged, b"overlay", 0, options), "mount overlay")
            check(libc().umount2(merged, 2), "umount overlay")
        finally:
            libc().umount2(top.encode(), 2)
    return "overlay mounted"


def try_cgroup(switch: str) -> Callable[[], str]:
    """Return a trial that freezes or kills a process in a cgroup of its own."""

    def trial() -> str:
        private_mounts()
        with tempfile.TemporaryDirectory() as top:
            mounted = libc().mount(b"cgroup2", top.encode(), b"cgroup2", 0, None)
            check(mounted, "mount cgroup2")
            group = Path(top) / f"testbed-probe-{os.getpid()}"
            group.mkdir()
            try:
                return _use_cgroup(group, switch)
            finally:
                _wait(lambda: "populated 0" in (group / "cgroup.events").read_text())
                group.rmdir()
                libc().umount2(top.encode(), 2)

    return trial


def _use_cgroup(group: Path, switch: str) -> str:
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        (group / "cgroup.procs").write_text(str(child))
        (group / switch).write_text("1")
        if switch == "cgroup.kill":
            return f"killed by {switch}: signal {os.waitpid(child, 0)[1]}"
        _wait(lambda: "frozen 1" in (group / "cgroup.events").read_text())
        (group / switch).write_text("0")
        return "frozen and thawed"
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _wait(condition: Callable[[], bool], timeout_s: float = 2.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError(f"not within {timeout_s:g} s")
        time.sleep(1e-3)


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, ``6.18.44-x`` as ``(6, 18, 44)``."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def criu_problem(version: str, kernel: str) -> str:
    """Why this CRIU cannot work on this kernel, as far as is known; empty if nothing is known."""
    criu, linux = numbers(version), numbers(kernel)
    if not criu or not linux:
        return ""
    if criu[:2] <= (3, 17) and linux[:2] >= (6, 13):
        return (
            f"CRIU {version} fails at start on kernels from 6.13 (`Unexpected rt vDSO area "
            "bounds`, criu#2532)"
        )
    if criu[:2] < (4, 2) and linux[:2] >= (6, 16):
        return (
            f"CRIU {version} fails on TCP sockets on kernels from 6.16 (`Can't get 1:16 opt`, "
            "criu#2705)"
        )
    return ""


def program_version(name: str) -> str | None:
    """The version that a program says it has; ``None`` where it is not installed."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [name, "--version"], capture_output=True, text=True, timeout=5, check=False
        )
        found = re.search(r"\d+\.\d+(\.\d+)*", done.stdout + done.stderr)
        return found[0] if found else ""
    return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def cpu_facts() -> dict[str, Any]:
    """Count, model and feature flags: a process moves only to where its processor's flags are."""
    text = _read("/proc/cpuinfo")
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    model = re.search(r"^(?:model name|Model)\s*:\s*(.*)$", text, re.MULTILINE)
    words = sorted(flags[1].split()) if flags else []
    return {
        "count": os.cpu_count() or 0,
        "model": model[1].strip() if model else platform.processor(),
        "flags": words,
        "flags_sha256": hashlib.sha256(" ".join(words).encode()).hexdigest() if words else "",
    }


def memory_facts() -> dict[str, int]:
    """Memory in bytes: all of it, and what a new program may take."""
    text = _read("/proc/meminfo")
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE))
    return {
        "total_bytes": int(found.get("MemTotal", 0)) * 1024,
        "available_bytes": int(found.get("MemAvailable", 0)) * 1024,
    }


def capability_facts() -> dict[str, bool]:
    """Which of the capabilities that matter here are effective."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", _read("/proc/self/status"), re.MULTILINE)
    mask = int(found[1], 16) if found else 0
    return {name: bool(mask >> bit & 1) for name, bit in CAPABILITIES.items()}


def setting_facts() -> dict[str, str]:
    """Settings of the whole system that may change how long a migration takes."""
    settings = {}
    for path in SETTINGS:
        chosen = _read(path).strip()
        in_force = re.search(r"\[(.+?)\]", chosen)  # the others are what could be chosen
        settings[path.rpartition("/sys/")[2]] = in_force[1] if in_force else chosen
    return settings


def understands_32_bits() -> bool | None:
    """Whether CRIU moves 32-bit tasks here; ``None`` where there is no CRIU."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        asking = ["criu", "check", "--feature", "compat_cr"]
        return subprocess.run(asking, capture_output=True, timeout=5, check=False).returncode == 0
    return None


def routes() -> list[dict[str, Any]]:
    """The main routing table, as ``ip -j route`` gives it; empty where there is no ``ip``."""
    with contextlib.suppress(OSError, ValueError, NotTriedError, subprocess.SubprocessError):
        found: list[dict[str, Any]] = json.loads(tell(["ip", "-j", "route", "show"]) or "[]")
        return found
    return []


def cgroup2_mount() -> str:
    """Where cgroup2 is mounted; empty where it is not."""
    found = re.search(r"^\S+ (\S+) cgroup2 ", _read("/proc/mounts"), re.MULTILINE)
    return found[1] if found else ""


SETTINGS = (
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/kernel/mm/transparent_hugepage/defrag",
    "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
    "/proc/sys/fs/pipe-max-size",
    "/proc/sys/vm/unprivileged_userfaultfd",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/swappiness",
)

TRIALS: dict[str, Callable[[], str]] = {
    "namespaces": try_namespaces,
    "netem": try_qdisc("netem", "delay", "1ms"),
    "tbf": try_qdisc("tbf", "rate", "1mbit", "burst", "10000", "limit", "10000"),
    "tun": try_tun,
    "policy_rules": try_policy_rules,
    "overlayfs": try_overlay,
    "cgroup_freeze": try_cgroup("cgroup.freeze"),
    "cgroup_kill": try_cgroup("cgroup.kill"),
    "soft_dirty": try_soft_dirty,
    "userfaultfd": try_userfaultfd,
    "wp_async": try_wp_async,
    "pagemap_scan": try_pagemap_scan,
    "tracker": try_tracker,
    "claim": try_claim,
    "lazy_restore": try_lazy_restore,
}


def facts() -> dict[str, Any]:
    """Everything that is asked of a host, as JSON's own types."""
    kernel, criu = platform.release(), program_version("criu")
    return {
        "version": VERSION,
        "host": platform.node(),
        "system": platform.system(),
        "kernel": kernel,
        "architecture": platform.machine(),
        "page_size_bytes": mmap.PAGESIZE,
        "python": platform.python_version(),
        "root": hasattr(os, "geteuid") and os.geteuid() == 0,
        "cpu": cpu_facts(),
        "memory": memory_facts(),
        "disk_free_bytes": shutil.disk_usage("/").free,
        "capabilities": capability_facts(),
        "criu": {
            "version": criu,
            "problem": criu_problem(criu, kernel) if criu else "",
            "moves_32_bits": understands_32_bits(),
        },
        "settings": setting_facts(),
        "runtimes": {name: program_version(name) for name in ("crun", "runc")},
        "tools": {name: shutil.which(name) for name in TOOLS},
        "cgroup2_mount": cgroup2_mount(),
        "routes": routes(),
        "features": {name: attempt(trial) for name, trial in TRIALS.items()},
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(facts()) + "\n")
