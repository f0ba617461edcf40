"""Hosts made of namespaces on this one machine.

Each host has its own network, processes, mounts, root file system, cgroup, sshd and addresses, so
that nothing that comes after can tell it from a remote machine. Everything carries the lab's name
and is found again by it: `take_down` needs no memory of what was made.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from testbed.errors import LabError
from testbed.hosts import plan as planning
from testbed.hosts.plan import LabPlan
from testbed.hosts.root import edge_root
from testbed.hosts.strays import end_marked
from testbed.hosts.wan import plan_delay_line

RUN = Path("/run/testbed")
DISK = Path("/var/lib/testbed-labs")
START_TIMEOUT_S = 20.0
CABLE_MAC = "02:00:0a:4e:00:01"
Progress = Callable[[str], None]


def silent(_: str) -> None:
    """A progress report that nobody reads."""


def cgroup_root() -> Path:
    """Where this machine mounts cgroup version 2."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise LabError("no cgroup2 is mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`")


def lab_cgroup(name: str) -> Path:
    """The cgroup in which every process of a lab lives."""
    return cgroup_root() / f"testbed-{name}"


def bring_up(plan: LabPlan, *, cache: Path, backend: str, progress: Progress = silent) -> Path:
    """Start every host of the plan; return the folder of the lab's state.

    Parameters
    ----------
    plan : LabPlan
        What to make.
    cache : Path
        Where the edge root file system is kept between labs.
    backend : str
        ``netem`` joins hosts by veth pairs, ``delay-line`` by TUN devices of a user-space process.
    progress : callable
        Told each step in a plain line.

    Raises
    ------
    LabError
        If a lab of this name runs already, or a host does not answer in time. What was made until
        then is removed.
    """
    state = RUN / plan.name
    if lab_cgroup(plan.name).exists() or state.exists():
        raise LabError(
            f"lab {plan.name!r} is up already, or was not taken down: `testbed lab down` removes it"
        )
    root = edge_root(cache, progress)
    try:
        state.mkdir(parents=True, mode=0o700)
        _save(plan, state, backend)
        _make_keys(plan, state)
        progress(f"starting {len(plan.hosts)} hosts")
        _make_networks(plan)
        for host in plan.hosts:
            _start_host(plan, host, root, state)
        _join(plan, backend, state)
        for host in plan.hosts:
            _ip(plan.netns(host), planning.plan_routes(plan, host))
        _await_ssh(plan, state)
    except BaseException:
        take_down(plan.name)
        raise
    return state


def take_down(name: str, progress: Progress = silent) -> list[str]:
    """Remove everything that carries the lab's name; return what was found.

    Safe at any time: after a crash, twice, or where no such lab ever was.

    Raises
    ------
    ScenarioError
        If this can be no lab's name; nothing is touched then.
    """
    planning.check_lab_name(name)
    removed: list[str] = []
    if workers := end_marked(f"{RUN / name}/"):
        removed.append(f"processes of a playbook: {workers}")
    for cgroup in [lab_cgroup(name)]:
        if cgroup.exists():
            progress("ending the lab's processes")
            _end_processes(cgroup)
            removed.append(f"cgroup {cgroup.name}")
    disk = DISK / name
    for mount in _mounts_below(disk):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        removed.append(f"mount {mount}")
    for netns in list_netns(name):
        subprocess.run(["ip", "netns", "delete", netns], check=False, capture_output=True)
        removed.append(f"network namespace {netns}")
    if Path(f"/sys/class/net/tb-{name}").exists():
        subprocess.run(["ip", "link", "delete", f"tb-{name}"], check=False, capture_output=True)
        removed.append(f"interface tb-{name}")
    for folder in (disk, RUN / name):
        if folder.exists():
            shutil.rmtree(folder)
            removed.append(f"folder {folder}")
        if folder.parent.is_dir() and not any(folder.parent.iterdir()):
            folder.parent.rmdir()
    return removed


def list_netns(name: str) -> list[str]:
    """Network namespaces on this machine that belong to the lab."""
    there = Path("/run/netns")
    prefix = f"tb-{name}-"
    return sorted(p.name for p in there.glob(f"{prefix}*")) if there.is_dir() else []


def read_state(name: str) -> dict[str, object]:
    """What `bring_up` wrote about a lab that is up.

    Raises
    ------
    LabError
        If there is no such lab.
    """
    path = RUN / name / "state.json"
    if not path.exists():
        raise LabError(f"no lab {name!r} is up; `testbed lab up` starts one")
    content: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return content


def ssh_command(state: Path, address: str) -> list[str]:
    """The beginning of an ``ssh`` command line that reaches a host of the lab."""
    return [
        "ssh",
        *("-i", str(state / "ssh" / "id")),
        *("-o", f"UserKnownHostsFile={state / 'ssh' / 'known_hosts'}"),
        *("-o", "StrictHostKeyChecking=yes"),
        *("-o", "IdentitiesOnly=yes"),
        *("-o", "BatchMode=yes"),
        *("-o", "LogLevel=ERROR"),
        *("-F", "none"),
        f"root@{address}",
    ]


def _save(plan: LabPlan, state: Path, backend: str) -> None:
    content = {
        "lab": plan.name,
        "backend": backend,
        "hosts": {name: host.control_address for name, host in plan.hosts.items()},
        "links": [list(pair) for pair in plan.pairs()],
    }
    (state / "state.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def _make_keys(plan: LabPlan, state: Path) -> None:
    """One key for the controller, one for the edges among themselves, one per sshd."""
    ssh = state / "ssh"
    ssh.mkdir(mode=0o700)
    names = ["id", "peer", *(f"host-{name}" for name in plan.hosts)]
    making = [
        subprocess.Popen(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", n, "-f", ssh / n])
        for n in names
    ]
    if any(process.wait() for process in making):
        raise LabError("ssh-keygen failed: is openssh-client installed?")
    lines = []
    for name, host in plan.hosts.items():
        key = " ".join((ssh / f"host-{name}.pub").read_text(encoding="utf-8").split()[:2])
        lines.append(f"{host.control_address},{host.data_address} {key}")
    (ssh / "known_hosts").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _ip(netns: str | None, lines: list[str]) -> None:
    where = ["-n", netns] if netns else []
    done = subprocess.run(
        ["ip", *where, "-batch", "-"], input="\n".join(lines), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise LabError(f"network of {netns or 'this machine'}: {done.stderr.strip()}")


def _make_networks(plan: LabPlan) -> None:
    for netns in (plan.core, *(plan.netns(host) for host in plan.hosts)):
        subprocess.run(["ip", "netns", "add", netns], check=True, capture_output=True)
    _ip(None, [f"link add {plan.cable} type veth peer name v-{plan.name} netns {plan.core}"])
    _ip(plan.core, planning.plan_switch(plan))
    _ip(
        None,
        [
            f"addr add {plan.control[254]}/{plan.control.prefixlen} dev {plan.cable}",
            f"link set {plan.cable} up",
        ],
    )
    for host in plan.hosts:
        _ip(plan.netns(host), [f"link add eth0 type veth peer name v-{host} netns {plan.core}"])
        _ip(plan.core, [f"link set v-{host} master br0 up"])
        _ip(plan.netns(host), planning.plan_addresses(plan, host))


def _start_host(plan: LabPlan, host: str, root: Path, state: Path) -> None:
    folder = DISK / plan.name / host
    for part in ("upper", "work", "root", "disk"):
        (folder / part).mkdir(parents=True)
    _write_identity(plan, host, folder / "upper", state)
    options = f"lowerdir={root},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    subprocess.run(
        ["mount", "-t", "overlay", f"testbed-{plan.name}", "-o", options, folder / "root"],
        check=True,
    )
    cgroup = lab_cgroup(plan.name) / host
    cgroup.mkdir(parents=True)
    init = files("testbed.hosts").joinpath("edge-init.sh")
    command = [
        *("ip", "netns", "exec", plan.netns(host)),
        *("unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--kill-child"),
        *("--propagation", "private", "sh", str(init), str(folder / "root"), host),
        *("/usr/bin/catatonit", "--", "/usr/sbin/sshd", "-D", "-e"),
    ]
    _start_in(cgroup, command, state / f"{host}.log")


def _start_in(cgroup: Path, command: list[str], log: Path) -> None:
    """Start a program of the lab that outlives this one, in its cgroup from the beginning."""
    joined = f'echo $$ > "{cgroup}/cgroup.procs" && exec setsid --fork "$@"'
    with log.open("wb") as output:
        subprocess.run(
            ["sh", "-c", joined, "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=True,
        )


def _lives(cgroup: Path) -> bool:
    return "populated 1" in (cgroup / "cgroup.events").read_text()


def _write_identity(plan: LabPlan, host: str, upper: Path, state: Path) -> None:
    """Names, keys and who may log in: what a card maker writes on a Raspberry Pi's card."""
    etc, login, ssh = upper / "etc", upper / "root" / ".ssh", state / "ssh"
    (etc / "ssh").mkdir(parents=True)
    login.mkdir(parents=True, mode=0o700)
    (upper / "root").chmod(0o700)
    for suffix, mode in (("", 0o600), (".pub", 0o644)):
        target = etc / "ssh" / f"ssh_host_ed25519_key{suffix}"
        shutil.copy(ssh / f"host-{host}{suffix}", target)
        target.chmod(mode)
    keys = [(ssh / f"{name}.pub").read_text(encoding="utf-8") for name in ("id", "peer")]
    (login / "authorized_keys").write_text("".join(keys), encoding="utf-8")
    (login / "authorized_keys").chmod(0o600)
    names = [f"{other.control_address} {name}" for name, other in plan.hosts.items()]
    (etc / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names, ""]), encoding="utf-8")
    (etc / "hostname").write_text(f"{host}\n", encoding="utf-8")


def _join(plan: LabPlan, backend: str, state: Path) -> None:
    """Lay a cable for every link."""
    if backend == "netem":
        for one, other in plan.pairs():
            a, b = planning.device(other), planning.device(one)
            _ip(
                plan.netns(one),
                [f"link add {a} type veth peer name {b} netns {plan.netns(other)}"],
            )
            # A cable without ARP: both ends bear one address, so whatever is sent is taken.
            _ip(plan.netns(one), [f"link set {a} address {CABLE_MAC} arp off up"])
            _ip(plan.netns(other), [f"link set {b} address {CABLE_MAC} arp off up"])
        return
    cgroup = lab_cgroup(plan.name) / "delay-line"
    cgroup.mkdir()
    config = plan_delay_line(
        plan.links,
        {host: plan.netns(host) for host in plan.hosts},
        ready_path=str(state / "delay-line.ready"),
        stats_path=str(state / "delay-line.stats"),
    )
    (state / "delay-line.json").write_text(config.to_json(), encoding="utf-8")
    _start_in(
        cgroup,
        [sys.executable, "-m", "testbed.hosts.delay_line", str(state / "delay-line.json")],
        state / "delay-line.log",
    )
    deadline = time.monotonic() + START_TIMEOUT_S
    while not (state / "delay-line.ready").exists():
        if not _lives(cgroup) or time.monotonic() > deadline:
            log = (state / "delay-line.log").read_text(encoding="utf-8")[-800:]
            raise LabError(f"the delay line that joins the hosts did not start:\n{log}")
        time.sleep(0.02)


def _await_ssh(plan: LabPlan, state: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    for host, planned in plan.hosts.items():
        cgroup = lab_cgroup(plan.name) / host
        while not speaks_ssh(planned.control_address):
            if not _lives(cgroup) or time.monotonic() > deadline:
                log = (state / f"{host}.log").read_text(encoding="utf-8")[-800:]
                raise LabError(f"host {host} did not come up:\n{log}")
            time.sleep(0.02)


def speaks_ssh(address: str) -> bool:
    """Tell whether an SSH server answers at an address."""
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _end_processes(cgroup: Path) -> None:
    """Kill every process below ``cgroup``, wait for the last, remove the cgroups."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        kill = cgroup / "cgroup.kill"
        if kill.exists():
            kill.write_text("1")
        else:  # kernels before 5.14
            for procs in cgroup.rglob("cgroup.procs"):
                for pid in procs.read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
        if not _lives(cgroup):
            break
        if time.monotonic() > deadline:
            raise LabError(f"processes in {cgroup} cannot be ended; see its cgroup.procs")
        time.sleep(0.02)
    for folder, _, _ in os.walk(cgroup, topdown=False):
        Path(folder).rmdir()


def _mounts_below(folder: Path) -> list[str]:
    """Mount points at or below ``folder``, deepest first."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    points = [line.split()[1] for line in lines]
    return sorted((p for p in points if Path(p).is_relative_to(folder)), reverse=True)
