"""The peer: ``podman container checkpoint --export``, a copy over SSH, ``restore --import``.

What a podman user would do, with everything in its favour that he could arrange: the same image,
address and data link; the target's network namespace with the service's address in it stands ready,
so the user's TCP connection survives; the SSH connection for the copy is open already; the whole
line of commands is one script on the source; the export lies in memory; it is compressed only where
the link is slow; and while nobody answers, the base station says so (RFC 6069), which keeps the
user's TCP from backing off for longer than the service is away.
"""

import json
import shlex
import subprocess
import time
from pathlib import Path

from arena import NAME, SOURCE, STATION, Arena
from report import NAN, Case, Measured

from testbed.edge.spec import Spec, network_commands
from testbed.errors import MigrationError
from testbed.hosts.namespace import DISK

LAYERS, STORE = "/var/lib/testbed/layers", "/var/lib/testbed/podman"
EXPORT, STATISTICS = "/tmp/checkpoint.tar", "/tmp/checkpoint.json"  # noqa: S108 - on an edge
PEER_LINE = "-o ControlPath=/run/peer-%h -o IPQoS=none -c aes128-gcm@openssh.com"
CONFIGURATION = f"""
cat > /etc/containers/storage.conf <<END
[storage]
driver = "overlay"
graphroot = "{STORE}"
runroot = "/run/podman-storage"
END
cat > /etc/containers/containers.conf <<END
[containers]
pids_limit = 0
log_driver = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "crun-ignore"
[engine.runtimes]
crun-ignore = ["/usr/local/bin/crun-ignore"]
END
cat > /usr/local/bin/crun-ignore <<"END"
#!/bin/sh
# crun that leaves the host's cgroups alone when it checkpoints or restores
told=
for word do
    shift
    set -- "$@" "$word"
    case $word in
        checkpoint | restore)
            [ "$told" ] || set -- "$@" --manage-cgroups-mode ignore
            told=yes
            ;;
    esac
done
exec crun "$@"
END
chmod 755 /usr/local/bin/crun-ignore
"""


def version(arena: Arena) -> str:
    """Which podman this is."""
    return "podman " + arena.on(SOURCE, "podman --version").split()[-1]


def prepare(arena: Arena, service: str) -> None:
    """Give podman on every edge the image of a service: the same one, with the same identity."""
    arena.on(STATION, "sysctl -qw net.ipv4.icmp_ratelimit=0")
    edges = arena.scenario.hosts_with("server")
    image = _image(arena, service)
    archive = f"/var/lib/testbed/{image}.tar"
    for edge in edges:
        arena.on(edge, CONFIGURATION)
    lower = ":".join(reversed(arena.spec(service).layers))
    arena.on(
        SOURCE,
        f"podman image exists localhost/{image} && exit; mkdir -p /tmp/merged; cd {LAYERS}; "
        f"LIBMOUNT_FORCE_MOUNT2=always mount -t overlay -o ro,lowerdir={lower} none /tmp/merged; "
        f"tar -C /tmp/merged -c . | podman import -q - localhost/{image}; umount /tmp/merged; "
        f"rm -f {archive}; podman save -q -o {archive} localhost/{image}",
    )
    made = _disk(SOURCE, archive)
    for edge in edges:
        if edge != SOURCE and made.exists():
            # The hosts' disks are folders of this machine; it does not matter how images come.
            there = _disk(edge, archive)
            there.unlink(missing_ok=True)
            there.hardlink_to(made)
            arena.on(edge, f"podman load -q -i {archive}; rm {archive}")
    made.unlink(missing_ok=True)


def _disk(edge: str, path: str) -> Path:
    return DISK / NAME / edge / "disk" / Path(path).relative_to("/var/lib/testbed")


def _image(arena: Arena, service: str) -> str:
    return arena.parts.images[service].name


def move(arena: Arena, case: Case) -> Measured:
    """Start the service with podman at `SOURCE`, move it under a user's eyes, remove it.

    Raises
    ------
    MigrationError
        If a command fails.
    ServiceError, WrongAnswerError
        If the user got a wrong answer, or none.
    """
    spec = arena.spec(case.service)
    stamps: dict[str, float] = {}
    try:
        for edge in (SOURCE, case.target):
            _make_network(arena, edge, spec)
        _open_line(arena, case)
        _start(arena, spec)
        arena.steer(case.service)
        arena.await_service(case.service)
        seen = arena.watched(case, move=lambda: _checkpoint_copy_restore(arena, case, stamps))
        told = json.loads(arena.on(SOURCE, f"cat {STATISTICS}"))
        size_bytes = float(arena.on(SOURCE, f"stat -c %s {EXPORT}"))
    finally:
        for edge in (SOURCE, case.target):
            _remove(arena, edge, spec)
    criu = told["container_statistics"][0]["criu_statistics"]
    names = ("checkpoint", "copy", "restore", "route")
    times = [stamps[name] for name in ("began", *names)]
    phases = {n: b - a for n, a, b in zip(names, times, times[1:], strict=False)}
    return Measured(
        gap_s=seen.gap_s,
        control_s=seen.control_s,
        ahead_gap_s=seen.ahead_gap_s,
        freeze_s=criu["frozen_time"] / 1e6,
        event_window_s=NAN,
        frozen_bytes=size_bytes,
        ahead_bytes=0.0,
        restore_s=phases["restore"],
        phases=phases,
    )


def _make_network(arena: Arena, edge: str, spec: Spec) -> None:
    """The network namespace that our holder would have, and the way to it."""
    commands = [
        *network_commands(spec),
        ["ip", "route", "replace", spec.address, "dev", spec.device],
    ]
    arena.on(edge, "; ".join(shlex.join(command) for command in commands))


def _open_line(arena: Arena, case: Case) -> None:
    address = arena.lab.plan.hosts[case.target].data_address
    arena.on(
        SOURCE,
        f"ssh -O check {PEER_LINE} root@{address} 2>/dev/null || "
        f"ssh -f -N -o ControlMaster=yes {PEER_LINE} root@{address} </dev/null >/dev/null 2>&1",
    )


def _start(arena: Arena, spec: Spec) -> None:
    environment = [word for item in spec.environment for word in ("--env", item)]
    command = [
        *("podman", "run", "--detach", "--name", spec.name, "--user", spec.user),
        *("--network", f"ns:/run/netns/{spec.netns}", "--workdir", spec.directory, *environment),
        *(f"localhost/{_image(arena, spec.name)}", *spec.command),
    ]
    arena.on(SOURCE, shlex.join(command))


def _checkpoint_copy_restore(arena: Arena, case: Case, stamps: dict[str, float]) -> None:
    address = arena.lab.plan.hosts[case.target].data_address
    service_address = arena.lab.plan.service_addresses[case.service]
    compress = "none" if case.rate_bps is None else "zstd"
    there = f"ssh {PEER_LINE} root@{address}"
    script = (
        f"podman container checkpoint --tcp-established --compress {compress} --print-stats "
        f"--export {EXPORT} {case.service} > {STATISTICS}; echo checkpoint; "
        f"{there} 'cat > {EXPORT}' < {EXPORT}; echo copy; "
        f"{there} podman container restore --tcp-established --import {EXPORT}; echo restore"
    )
    stamps["began"] = time.monotonic()
    with subprocess.Popen(
        [*arena.shell(SOURCE), f"sh -ec {shlex.quote(script)}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - asked for
        assert process.stderr is not None  # noqa: S101
        for line in process.stdout:
            stamps[line.strip()] = time.monotonic()
            if line.strip() == "checkpoint":
                arena.on(STATION, f"ip route replace unreachable {service_address}")
            elif line.strip() == "restore":
                arena.lead_to(case.service, case.target)
                stamps["route"] = time.monotonic()
        errors = process.stderr.read()
    if process.returncode:
        raise MigrationError(f"{case.name}, podman: {errors[-800:]}")


def _remove(arena: Arena, edge: str, spec: Spec) -> None:
    arena.on(
        edge,
        f"podman rm --force --time 0 {spec.name} >/dev/null 2>&1 || true; rm -f {EXPORT}; "
        f"ip link delete {spec.device} 2>/dev/null || true; "
        f"ip netns delete {spec.netns} 2>/dev/null || true",
    )
