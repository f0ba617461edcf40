"""The peer: ``podman container checkpoint --export``, a copy over SSH, ``restore --import``.

What a podman user would do, with everything in its favour that he could arrange (`peer_steps`): the
same image, address and data link; the export lies in memory; it is compressed only where the link
is slow.
"""

import json
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

STORE = f"{DISK_THERE}/podman"
EXPORT, STATISTICS = "/tmp/checkpoint.tar", "/tmp/checkpoint.json"  # noqa: S108 - on an edge
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
"""


def version(arena: Arena) -> str:
    """Which podman this is."""
    return "podman " + arena.on(SOURCE, "podman --version").split()[-1]


def prepare(arena: Arena, service: str) -> None:
    """Give podman on every edge the image of a service: the same one, with the same identity."""
    edges = arena.scenario.hosts_with("server")
    image = _image(arena, service)
    archive = f"{DISK_THERE}/{image}.tar"
    for edge in edges:
        arena.on(edge, CONFIGURATION)
    arena.on(
        SOURCE,
        f"podman image exists localhost/{image} && exit; "
        f"{merged(arena.spec(service))}; "
        f"tar -C {MERGED} -c . | podman import -q - localhost/{image}; umount {MERGED}; "
        f"rm -f {archive}; podman save -q -o {archive} localhost/{image}",
    )
    made = disk(SOURCE, archive)
    for edge in edges:
        if edge != SOURCE and made.exists():
            # It does not matter how images come.
            loaded = disk(edge, archive)
            loaded.unlink(missing_ok=True)
            loaded.hardlink_to(made)
            arena.on(edge, f"podman load -q -i {archive}; rm {archive}")
    made.unlink(missing_ok=True)


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
            make_network(arena, edge, spec)
        open_line(arena, case)
        _start(arena, spec)
        script = _script(arena, case)
        seen = use_and_move(arena, case, lambda: take_steps(arena, case, "podman", script, stamps))
        told = json.loads(arena.on(SOURCE, f"cat {STATISTICS}"))
        size_bytes = float(arena.on(SOURCE, f"stat -c %s {EXPORT}"))
    finally:
        for edge in (SOURCE, case.target):
            _remove(arena, edge, spec)
    criu = told["container_statistics"][0]["criu_statistics"]
    return measured(seen, stamps, frozen_bytes=size_bytes, freeze_s=criu["frozen_time"] / 1e6)


def _start(arena: Arena, spec: Spec) -> None:
    environment = [word for item in spec.environment for word in ("--env", item)]
    command = [
        *("podman", "run", "--detach", "--name", spec.name, "--user", spec.user),
        *("--network", f"ns:/run/netns/{spec.netns}", "--workdir", spec.directory, *environment),
        *(f"localhost/{_image(arena, spec.name)}", *spec.command),
    ]
    arena.on(SOURCE, shlex.join(command))


def _script(arena: Arena, case: Case) -> str:
    compress = "none" if case.rate_bps is None else "zstd"
    target = there(arena, case)
    return (
        f"podman container checkpoint --tcp-established --compress {compress} --print-stats "
        f"--export {EXPORT} {case.service} > {STATISTICS}; echo checkpoint; "
        f"{target} 'cat > {EXPORT}' < {EXPORT}; echo copy; "
        f"{target} podman container restore --tcp-established --import {EXPORT} >/dev/null; "
        "echo restore"
    )


def _remove(arena: Arena, edge: str, spec: Spec) -> None:
    arena.on(
        edge,
        f"podman rm --force --time 0 {spec.name} >/dev/null 2>&1 || true; rm -f {EXPORT}; "
        f"{remove_network(spec)}",
    )
