"""What two edges that suit one another say of themselves."""

FACTS = {
    "host": "edge",
    "system": "Linux",
    "kernel": "6.12.9",
    "architecture": "x86_64",
    "page_size_bytes": 4096,
    "python": "3.13.5",
    "root": True,
    "memory": {"total_bytes": 8 << 30, "available_bytes": 7 << 30},
    "disk_free_bytes": 50 << 30,
    "capabilities": dict.fromkeys(("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_RESOURCE"), True),
    "cpu": {"count": 2, "model": "made", "flags": ["avx2", "constant_tsc", "sse4_2"]},
    "criu": {"version": "4.2.1", "problem": "", "moves_32_bits": True},
    "runtimes": {"crun": "1.21", "runc": None},
    "features": {
        name: {"works": True, "detail": "fine"}
        for name in ("netem", "tbf", "tun", "policy_rules", "cgroup_freeze", "cgroup_kill",
                     "wp_async", "pagemap_scan", "tracker", "claim", "lazy_restore")
    },
}  # fmt: skip
CONTAINER = {
    "tasks": [
        {"pid": 1000, "name": "python3", "bits": 64, "namespaces": [], "private_bytes": 20 << 20}
    ],
    "mounts": [],
    "private_bytes": 20 << 20,
    "address": "10.88.0.11",
    "number": 1,
}
ROOM = {"containers": [], "available_bytes": 4 << 30}
