"""What a container is, before it is made: names, places, runtime configuration, commands. Pure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRATCH = Path("/run/testbed/scratch")
ROOTS = Path("/var/lib/testbed/containers")
CGROUPS = Path("/sys/fs/cgroup/testbed")
GATEWAY = "169.254.1.1"
CAPABILITIES = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
]


@dataclass(frozen=True)
class Spec:
    """What a container is: the same on every edge that may hold it.

    name : the service's name in the scenario.
    address : its own address, which moves with it.
    number : a small number, different for every service of the lab (devices, hardware addresses).
    layers : digests of the image's layers, lowest first.
    command : what to run, as the image's configuration and the service's options give it.
    """

    name: str
    address: str
    number: int
    layers: tuple[str, ...]
    command: tuple[str, ...]
    environment: tuple[str, ...] = ()
    directory: str = "/"
    user: str = "0:0"

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Spec":
        """Read what `dataclasses.asdict` and JSON made of a specification."""
        lists = {key: tuple(content[key]) for key in ("layers", "command", "environment")}
        return cls(**{**content, **lists})

    @property
    def container(self) -> str:
        """The runtime's name for it."""
        return f"testbed-{self.name}"

    @property
    def device(self) -> str:
        """The edge's end of the container's cable."""
        return f"svc-{self.number}"

    @property
    def netns(self) -> str:
        """The network namespace, which outlives container and processes."""
        return f"testbed-{self.name}"

    @property
    def root(self) -> Path:
        """The container's root file system as the edge sees it."""
        return ROOTS / self.name / "root"

    @property
    def upper(self) -> Path:
        """The writable layer."""
        return ROOTS / self.name / "upper"

    @property
    def scratch(self) -> Path:
        """Memory-backed folder for images, seen inside as ``/.testbed/scratch``."""
        return SCRATCH / self.name

    @property
    def cgroup(self) -> Path:
        """Where the service's processes live and are frozen."""
        return CGROUPS / self.name


def runtime_config(spec: Spec) -> dict[str, Any]:
    """The OCI runtime configuration of a holder for ``spec``."""
    capabilities = dict.fromkeys(
        ("bounding", "effective", "permitted", "inheritable"), CAPABILITIES
    )
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        },
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["mode=1777"]},  # noqa: S108
        {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]},  # noqa: S108
        _bind("/.testbed/edge", "/", "ro"),
        _bind("/.testbed/init", "/usr/bin/catatonit", "ro"),
        _bind("/.testbed/scratch", str(spec.scratch), "rw"),
        _bind("/.testbed/cgroup", str(spec.cgroup), "rw"),
    ]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["/.testbed/init", "-P"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": capabilities,
            "noNewPrivileges": True,
        },
        "root": {"path": str(spec.root), "readonly": False},
        "hostname": spec.name,
        "mounts": mounts,
        "linux": {
            # Settings of a network namespace do not travel: nobody may change them.
            "readonlyPaths": ["/proc/sys/net"],
            "cgroupsPath": f"/testbed/{spec.name}.init",
            "namespaces": [
                {"type": "pid"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "mount"},
                {"type": "network", "path": f"/run/netns/{spec.netns}"},
            ],
        },
    }


def _bind(destination: str, source: str, mode: str) -> dict[str, Any]:
    return {
        "destination": destination,
        "type": "bind",
        "source": source,
        "options": ["bind", mode],
    }


def network_commands(spec: Spec) -> list[list[str]]:
    """Commands that make the container's network namespace with its address in it."""
    inside = ["ip", "-n", spec.netns]
    service_mac, edge_mac = f"02:00:0a:58:00:{spec.number:02x}", f"02:00:0a:58:01:{spec.number:02x}"
    return [
        ["ip", "netns", "add", spec.netns],
        ["ip", "link", "add", spec.device, "type", "veth", "peer", "name", "eth0", "netns",
         spec.netns],
        ["ip", "link", "set", spec.device, "address", edge_mac, "up"],
        ["ip", "addr", "replace", f"{GATEWAY}/32", "dev", spec.device],
        ["ip", "neigh", "replace", spec.address, "lladdr", service_mac, "dev", spec.device, "nud",
         "permanent"],
        [*inside, "link", "set", "lo", "up"],
        [*inside, "link", "set", "eth0", "address", service_mac, "up"],
        [*inside, "addr", "add", f"{spec.address}/32", "dev", "eth0"],
        [*inside, "route", "add", GATEWAY, "dev", "eth0"],
        [*inside, "route", "add", "default", "via", GATEWAY],
        [*inside, "neigh", "replace", GATEWAY, "lladdr", edge_mac, "dev", "eth0", "nud",
         "permanent"],
    ]  # fmt: skip
