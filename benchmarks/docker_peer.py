"""The peer: ``docker checkpoint create``, a copy over SSH, ``docker start --checkpoint``.

Docker moves nothing itself: its checkpoint has to be put where the other Docker looks for it. In
its favour the container at the target is created before, both share a network namespace with one
that does nothing (its only way into a namespace that stands ready), what Docker keeps of
checkpoints lies in memory, and the copy is a stream, compressed only where the link is slow. The
runtime is runc, Docker's default, wrapped so that it leaves the host's cgroups alone.
"""

import shlex

from arena import SOURCE, Arena
from peer_steps import (
    DISK_THERE,
    MERGED,
    disk,
    make_network,
    measured,
    merged,
    open_line,
    remove_network,
    take_steps,
    there,
    use_and_move,
)
from report import Case, Measured

from testbed.edge.spec import Spec

STORE = "/var/lib/testbed/docker"
MEMORY = ("containers", "containerd")
"""Folders of Docker's store through which a checkpoint goes."""
CHECKPOINT = "moved"
DAEMON = f"""
docker version >/dev/null 2>&1 && exit
for folder in {" ".join(MEMORY)}; do
    mkdir -p {STORE}/$folder
    mount -t tmpfs none {STORE}/$folder
done
mkdir -p /etc/criu /etc/docker
echo tcp-established > /etc/criu/runc.conf
cat > /etc/docker/daemon.json <<END
{{"experimental": true, "data-root": "{STORE}", "bridge": "none", "iptables": false,
 "ip6tables": false, "ip-forward": false, "log-driver": "none",
 "exec-opts": ["native.cgroupdriver=cgroupfs"], "default-runtime": "runc-ignore",
 "runtimes": {{"runc-ignore": {{"path": "/usr/local/bin/runc-ignore"}}}}}}
END
setsid --fork dockerd > /var/log/dockerd.log 2>&1 < /dev/null
for i in $(seq 150); do
    docker version >/dev/null 2>&1 && exit
    sleep 0.1
done
tail -n 5 /var/log/dockerd.log >&2
exit 1
"""


def start(arena: Arena) -> None:
    """Start Docker on every edge."""
    for edge in arena.scenario.hosts_with("server"):
        arena.on(edge, DAEMON)


def version(arena: Arena) -> str:
    """Which Docker this is."""
    return "docker " + arena.on(SOURCE, "docker version --format '{{.Server.Version}}'").strip()


def prepare(arena: Arena, service: str) -> None:
    """Give Docker on every edge the image of a service."""
    image = arena.parts.images[service].name
    if arena.on(SOURCE, f"docker images --quiet {image}"):
        return
    archive = f"{DISK_THERE}/{image}.tar"
    arena.on(
        SOURCE,
        f"{merged(arena.spec(service))}; tar -C {MERGED} -cf {archive} .; umount {MERGED}",
    )
    made = disk(SOURCE, archive)
    for edge in arena.scenario.hosts_with("server"):
        # The hosts' disks are folders of this machine; it does not matter how images come.
        if edge != SOURCE:
            disk(edge, archive).hardlink_to(made)
        arena.on(edge, f"docker import {archive} {image}")
        if edge != SOURCE:
            disk(edge, archive).unlink()
    made.unlink()


def move(arena: Arena, case: Case) -> Measured:
    """Start the service with Docker at `SOURCE`, move it under a user's eyes, remove it.

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
        source, target = (_create(arena, edge, spec) for edge in (SOURCE, case.target))
        open_line(arena, case)
        arena.on(SOURCE, f"docker start {spec.name}")
        stream = f"tar -C {source} -c {CHECKPOINT}"
        if case.rate_bps is not None:
            stream += " | zstd -q -1 -T0"
        unpack = "tar -x" if case.rate_bps is None else "zstd -q -d | tar -x"
        script = (
            f"docker checkpoint create {spec.name} {CHECKPOINT} >/dev/null; echo checkpoint; "
            f"{stream} | {there(arena, case)} 'cd {target} && {unpack}'; echo copy; "
            f"{there(arena, case)} docker start --checkpoint {CHECKPOINT} {spec.name} "
            ">/dev/null; echo restore"
        )
        seen = use_and_move(arena, case, lambda: take_steps(arena, case, "docker", script, stamps))
        frozen_bytes = float(arena.on(SOURCE, f"{stream} | wc -c"))
    finally:
        for edge in (SOURCE, case.target):
            arena.on(
                edge,
                f"docker rm --force {spec.name} {_network(spec)} >/dev/null 2>&1 || true; "
                f"{remove_network(spec)}",
            )
    return measured(seen, stamps, frozen_bytes=frozen_bytes)


def _network(spec: Spec) -> str:
    return f"{spec.name}-network"


def _create(arena: Arena, edge: str, spec: Spec) -> str:
    """Make the container with its network; return where its checkpoints are looked for."""
    image = arena.parts.images[spec.name].name
    environment = [word for item in spec.environment for word in ("--env", item)]
    command = [
        *("docker", "create", "--name", spec.name, "--user", spec.user),
        *("--network", f"container:{_network(spec)}", "--workdir", spec.directory, *environment),
        *(image, *spec.command),
    ]
    arena.on(edge, f"docker run --detach --name {_network(spec)} --network none {image} sleep inf")
    pid = f"$(docker inspect --format '{{{{.State.Pid}}}}' {_network(spec)})"
    make_network(arena, edge, spec, pid)
    number = arena.on(edge, shlex.join(command)).strip()
    folder = f"{STORE}/containers/{number}/checkpoints"
    arena.on(edge, f"mkdir -p {folder}")
    return folder
