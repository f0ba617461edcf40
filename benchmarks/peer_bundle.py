"""An ordinary container of runc or crun: what the peers move that drive a runtime themselves.

It has the service as its init, as such containers have, and the same image, address, environment
and capabilities as ours. Its bundle with root and network stands ready at both ends; images lie in
memory. The services write no files, so only memory has to travel.
"""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from arena import SOURCE, Arena
from peer_steps import DISK_THERE, LAYERS, make_network, open_line, remove_network
from report import Case

from testbed.edge.spec import Spec, runtime_config

WRITABLE = f"{DISK_THERE}/peer"
MEMORY = "/run/peer"
OURS = "/.testbed/"


def bundle(spec: Spec) -> str:
    """Folder of the container's configuration, on an edge."""
    return f"{MEMORY}/{spec.name}"


def images(spec: Spec) -> str:
    """Memory-backed folder for CRIU's images, on an edge."""
    return f"{bundle(spec)}/images"


def work(spec: Spec) -> str:
    """Where CRIU puts its logs, statistics and sockets, on an edge."""
    return f"{bundle(spec)}/work"


def configuration(spec: Spec) -> dict[str, Any]:
    """The runtime configuration: our holder's, with the service in it and nothing of ours."""
    content = runtime_config(spec)
    user, _, group = spec.user.partition(":")
    process = {
        **content["process"],
        "user": {"uid": int(user), "gid": int(group or 0)},
        "args": list(spec.command),
        "env": list(spec.environment),
        "cwd": spec.directory,
    }
    mounts = [m for m in content["mounts"] if not m["destination"].startswith(OURS)]
    linux = {**content["linux"], "cgroupsPath": f"/peer/{spec.name}"}
    root = {"path": f"{bundle(spec)}/root", "readonly": False}
    return {**content, "process": process, "mounts": mounts, "linux": linux, "root": root}


@contextmanager
def running(arena: Arena, case: Case, spec: Spec, runtime: str) -> Iterator[None]:
    """Have the container run at `SOURCE`, its place at the target and the line to it ready."""
    edges = (SOURCE, case.target)
    try:
        for edge in edges:
            _make(arena, edge, spec)
        open_line(arena, case)
        # Nothing of the edge is open in it, else CRIU could not restore it elsewhere.
        arena.on(
            SOURCE,
            f"{runtime} --log {work(spec)}/start.log run --detach --bundle {bundle(spec)} "
            f"{spec.name} </dev/null >/dev/null 2>&1",
        )
        yield
    finally:
        for edge in edges:
            arena.on(
                edge,
                f"{runtime} delete --force {spec.name} >/dev/null 2>&1 || true; "
                f"umount -l {bundle(spec)}/root 2>/dev/null || true; "
                f"rm -rf {bundle(spec)} {WRITABLE}/{spec.name}; {remove_network(spec)}",
            )


def _make(arena: Arena, edge: str, spec: Spec) -> None:
    """Make the bundle, root and network of a container; nothing is started."""
    make_network(arena, edge, spec)
    lower = ":".join(reversed(spec.layers))
    upper, inner = f"{WRITABLE}/{spec.name}/upper", f"{WRITABLE}/{spec.name}/work"
    arena.on(
        edge,
        f"mkdir -p {bundle(spec)}/root {images(spec)} {work(spec)} {upper} {inner}; cd {LAYERS}; "
        "LIBMOUNT_FORCE_MOUNT2=always mount -t overlay -o "
        f"lowerdir={lower},upperdir={upper},workdir={inner} none {bundle(spec)}/root; "
        f"echo {shlex.quote(json.dumps(configuration(spec)))} > {bundle(spec)}/config.json",
    )
