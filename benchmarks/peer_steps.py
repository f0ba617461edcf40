"""What every peer's move has in common: network, SSH line, one script of steps, the user's route.

Whatever a user of a peer could arrange is arranged before: the target's network namespace with the
service's address in it stands ready, so the user's TCP connection survives; the SSH connection
between the edges is open; the whole line of commands is one script on the source; and while nobody
answers, the base station says so (RFC 6069), which keeps the user's TCP from backing off for longer
than the service is away.
"""

import shlex
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from arena import NAME, SOURCE, STATION, Arena, Seen
from report import NAN, Case, Measured

from testbed.edge.spec import Spec, network_commands
from testbed.errors import MigrationError
from testbed.hosts.namespace import DISK

PEER_LINE = "-o ControlPath=/run/peer-%h -o IPQoS=none -c aes128-gcm@openssh.com"
DISK_THERE = "/var/lib/testbed"
LAYERS = f"{DISK_THERE}/layers"
MERGED = "/run/merged"
WRAPPED = ("crun", "runc")
WRAPPER = """
cat > /usr/local/bin/{runtime}-ignore <<"END"
#!/bin/sh
# {runtime} that leaves the host's cgroups alone when it checkpoints or restores
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
exec {runtime} "$@"
END
chmod 755 /usr/local/bin/{runtime}-ignore
"""
STATISTICS = """
import json, sys, pycriu
try:
    (entry,) = pycriu.images.load(open(sys.argv[1], "rb"))["entries"]
    print(json.dumps(entry["dump"]))
except OSError:
    print("{}")
"""


def prepare(arena: Arena) -> None:
    """Have the base station say at once that nobody answers, and wrap the edges' runtimes."""
    arena.on(STATION, "sysctl -qw net.ipv4.icmp_ratelimit=0")
    wrappers = "".join(WRAPPER.format(runtime=runtime) for runtime in WRAPPED)
    for edge in arena.scenario.hosts_with("server"):
        arena.on(edge, wrappers)


def disk(edge: str, path: str) -> Path:
    """Where a file on an edge's disk lies on this machine: hosts' disks are folders of it."""
    return DISK / NAME / edge / "disk" / Path(path).relative_to(DISK_THERE)


def merged(spec: Spec) -> str:
    """The shell's words for laying a service's layers over one another at `MERGED`, read-only."""
    lower = ":".join(reversed(spec.layers))
    return (
        f"mkdir -p {MERGED}; cd {LAYERS}; "
        f"LIBMOUNT_FORCE_MOUNT2=always mount -t overlay -o ro,lowerdir={lower} none {MERGED}"
    )


def make_network(arena: Arena, edge: str, spec: Spec, init: str = "") -> None:
    """The network namespace that our holder would have, and the way to it.

    init : where another container's network is to be used, the shell's words for its pid.
    """
    make, *others = [shlex.join(command) for command in network_commands(spec)]
    if init:
        make = f"ip netns attach {spec.netns} {init}"
    route = f"ip route replace {spec.address} dev {spec.device}"
    arena.on(edge, "; ".join([make, *others, route]))


def remove_network(spec: Spec) -> str:
    """The shell's words for taking it away, whether it is there or not."""
    return (
        f"ip link delete {spec.device} 2>/dev/null || true; "
        f"ip netns delete {spec.netns} 2>/dev/null || true"
    )


def there(arena: Arena, case: Case) -> str:
    """The source's words for running a command at the target."""
    return f"ssh {PEER_LINE} root@{arena.lab.plan.hosts[case.target].data_address}"


def open_line(arena: Arena, case: Case) -> None:
    """Open the SSH connection over which `there` goes, where it is not open yet."""
    address = arena.lab.plan.hosts[case.target].data_address
    arena.on(
        SOURCE,
        f"ssh -O check {PEER_LINE} root@{address} 2>/dev/null || "
        f"ssh -f -N -o ControlMaster=yes {PEER_LINE} root@{address} </dev/null >/dev/null 2>&1",
    )


def take_steps(arena: Arena, case: Case, how: str, script: str, stamps: dict[str, float]) -> None:
    """Run a script on the source that prints a word after every step; the route follows.

    ``checkpoint`` is to be printed when the service has left the source, ``restore`` when it lives
    at the target. When each step ended is put into ``stamps``.

    Raises
    ------
    MigrationError
        With its last words, if the script fails.
    """
    address = arena.lab.plan.service_addresses[case.service]
    stamps["began"] = time.monotonic()
    with subprocess.Popen(
        [*arena.shell(SOURCE), f"bash -ec {shlex.quote(script)}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - asked for
        assert process.stderr is not None  # noqa: S101
        for line in process.stdout:
            step = line.strip()
            stamps[step] = time.monotonic()
            if step == "checkpoint":
                arena.on(STATION, f"ip route replace unreachable {address}")
            elif step == "restore":
                arena.lead_to(case.service, case.target)
                stamps["route"] = time.monotonic()
        errors = process.stderr.read()
    if process.returncode:
        raise MigrationError(f"{case.name}, {how}: {errors[-800:]}")


def use_and_move(arena: Arena, case: Case, move: Callable[[], None]) -> Seen:
    """Lead the user to the service at `SOURCE` and have it moved under its eyes."""
    arena.steer(case.service)
    arena.await_service(case.service)

    def move_and_recover() -> None:
        move()
        arena.await_answers(case.service)

    return arena.watched(case, move=move_and_recover)


def measured(
    seen: Seen,
    stamps: dict[str, float],
    *,
    frozen_bytes: float,
    freeze_s: float = NAN,
    fill_s: float = NAN,
) -> Measured:
    """What was seen of a peer's move, with the length of every step up to the route."""
    phases = lengths(stamps)
    return Measured(
        gap_s=seen.gap_s,
        control_s=seen.control_s,
        ahead_gap_s=seen.ahead_gap_s,
        freeze_s=freeze_s,
        event_window_s=NAN,
        frozen_bytes=frozen_bytes,
        ahead_bytes=0.0,
        restore_s=phases["restore"],
        phases=phases,
        fill_s=fill_s,
    )


def lengths(stamps: dict[str, float]) -> dict[str, float]:
    """How long each step took, of those until the user was led to the target."""
    times = sorted((at_s, step) for step, at_s in stamps.items() if at_s <= stamps["route"])
    return {step: at_s - before_s for (before_s, _), (at_s, step) in pairwise(times)}
