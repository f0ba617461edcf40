"""Prepared containers (holders) and the services that live in them.

A holder is a container with all its namespaces, root file system, mounts and address, and nothing
in it but an init. The service is a child of that init. A migration moves the service from one
holder to another that was made long before: no namespace, mount or cgroup is dumped or rebuilt.
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from . import netlink, urgency
from .spec import CGROUPS, ROOTS, Spec, network_commands, runtime_config

STATE = Path("/run/testbed/containers")
LAYERS = Path("/var/lib/testbed/layers")
FIRST_SERVICE_PID = 1000
SCRATCH_SHARE = 0.75
START_TIMEOUT_S = 10.0


@dataclass
class Holder:
    """A container of this edge: its specification, its init, and the service if it is here.

    init : pid of the container's init on this edge. service : pid of the service, as the container
    sees it; 0 where the holder is empty. waiting : it was restored here, and its source has not
    said yet that it is to stay.
    """

    spec: Spec
    init: int
    service: int = 0
    waiting: bool = False

    def save(self) -> None:
        """Write down what is here, for agents to come."""
        STATE.mkdir(parents=True, exist_ok=True)
        path = STATE / f"{self.spec.name}.json"
        path.with_suffix(".new").write_text(json.dumps(asdict(self)), encoding="utf-8")
        path.with_suffix(".new").rename(path)

    @classmethod
    def load(cls, name: str) -> "Holder":
        """Find a holder of this edge by its service's name.

        Raises
        ------
        KeyError
            If this edge holds no such container.
        """
        path = STATE / f"{name}.json"
        if not path.exists():
            raise KeyError(f"this edge holds no container for service {name!r}")
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**content, "spec": Spec.from_json(content["spec"])})

    def processes(self) -> list[int]:
        """Pids, on this edge, of the service's processes."""
        return [int(p) for p in (self.spec.cgroup / "cgroup.procs").read_text().split()]

    @property
    def lives(self) -> bool:
        """Whether the service is here for good: not on trust, nor left over from a move."""
        return bool(self.service and self.processes()) and not self.waiting

    @property
    def runs(self) -> bool:
        """Whether the service lives here and does not stand still."""
        frozen = (self.spec.cgroup / "cgroup.freeze").read_text().strip() != "0"
        return self.lives and not frozen

    def adopt(self) -> None:
        """Keep the service that was restored here, and let it go on if it was stopped."""
        self.waiting = False
        self.save()
        netlink.replace_route(self.spec.address, self.spec.device)
        self.thaw()

    def freeze(self) -> None:
        """Stop every process of the service at once; return when all stand still.

        Raises
        ------
        TimeoutError
            If they do not within a second.
        """
        events = os.open(self.spec.cgroup / "cgroup.events", os.O_RDONLY)
        news = select.poll()
        news.register(events, select.POLLPRI)
        try:
            with urgency.lifted(self.processes()):
                (self.spec.cgroup / "cgroup.freeze").write_text("1")
                deadline = time.monotonic() + 1.0
                while b"frozen 1" not in os.pread(events, 256, 0):
                    if time.monotonic() > deadline:
                        self.thaw()
                        raise TimeoutError(f"{self.spec.name} could not be frozen within a second")
                    news.poll(100)
        finally:
            os.close(events)

    def thaw(self) -> None:
        """Let the service go on."""
        (self.spec.cgroup / "cgroup.freeze").write_text("0")

    def kill(self) -> None:
        """End the service's processes, frozen or not; the holder stays."""
        (self.spec.cgroup / "cgroup.kill").write_text("1")
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.001)
        self.thaw()  # not before: nobody is to take what is dying for a service that runs
        self.service = 0
        self.save()


def restored(name: str) -> Holder | None:
    """The holder of a service that is here, alive or standing still; None where there is none."""
    try:
        holder = Holder.load(name)
        return holder if holder.service and holder.processes() else None
    except (KeyError, FileNotFoundError):
        return None


def create(spec: Spec) -> Holder:
    """Make an empty holder on this edge, or a fresh one where there is an old, empty one.

    Raises
    ------
    RuntimeError
        If a layer of the image is not on this edge, or the runtime refuses.
    """
    missing = [digest for digest in spec.layers if not (LAYERS / digest).is_dir()]
    if missing:
        raise RuntimeError(
            f"{len(missing)} of {len(spec.layers)} layers of {spec.name} are not on this edge: "
            "provision it with the image first"
        )
    destroy(spec.name, spec=spec)
    Holder(spec, 0).save()  # so that whoever cleans up after us knows what there is
    for folder in (spec.root, spec.upper, ROOTS / spec.name / "work", spec.scratch, spec.cgroup):
        folder.mkdir(parents=True, exist_ok=True)
    _mount_root(spec)
    size = int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE") * SCRATCH_SHARE)
    run(["mount", "-t", "tmpfs", "-o", f"mode=700,size={size}", "testbed", str(spec.scratch)])
    for command in network_commands(spec):
        run(command)
    bundle = ROOTS / spec.name
    (bundle / "config.json").write_text(json.dumps(runtime_config(spec)), encoding="utf-8")
    _launch(spec.name, ["run", "--detach", "--bundle", str(bundle), spec.container])
    init = int(json.loads(run([*RUNTIME, "state", spec.container]))["pid"])
    holder = Holder(spec, init)
    holder.save()
    return holder


RUNTIME = ["crun", "--cgroup-manager=cgroupfs"]


def _mount_root(spec: Spec) -> None:
    """Lay the writable layer over the image's.

    Layers are named relative to their folder: the kernel takes a page of options. The classic
    mount call is asked for, because the new one takes 256 characters at most.
    """
    options = (
        f"lowerdir={':'.join(reversed(spec.layers))},upperdir={spec.upper},"
        f"workdir={ROOTS / spec.name / 'work'}"
    )
    run(
        ["mount", "-t", "overlay", "testbed", "-o", options, str(spec.root)],
        cwd=LAYERS,
        env={**os.environ, "LIBMOUNT_FORCE_MOUNT2": "always"},
    )


def start(name: str) -> Holder:
    """Start the service in its empty holder on this edge and lead its address to it.

    Raises
    ------
    RuntimeError
        If it is running already or ends at once.
    """
    holder = Holder.load(name)
    spec = holder.spec
    if holder.service:
        raise RuntimeError(f"service {name!r} runs here already")
    script = f"echo {FIRST_SERVICE_PID - 1} > /proc/sys/kernel/ns_last_pid"
    run(["nsenter", "-t", str(holder.init), "-p", "--", "sh", "-c", script])
    pid_file = ROOTS / name / "service.pid"
    environment = [word for item in spec.environment for word in ("--env", item)]
    command = [
        *("exec", "--detach", "--pid-file", str(pid_file), "--cwd", spec.directory),
        *("--user", spec.user, *environment, spec.container, *spec.command),
    ]
    _launch(name, command, f"/proc/{holder.init}/root/dev/null")
    outside = int(pid_file.read_text())
    _gather(holder)
    status = Path(f"/proc/{outside}/status")
    if not status.exists():
        raise RuntimeError(f"service {name!r} ended at once; see its log inside the container")
    line = next(x for x in status.read_text().splitlines() if x.startswith("NSpid"))
    holder.service = int(line.split()[-1])
    holder.save()
    netlink.replace_route(spec.address, spec.device)
    return holder


def _launch(name: str, arguments: list[str], null: str = os.devnull) -> None:
    """Have the runtime start something that stays, with nothing of this edge open in it.

    ``null`` is the null device as the container has it: one of another mount namespace could not
    be found again by CRIU.
    """
    log = ROOTS / name / "runtime.log"
    with open(null, "r+b", buffering=0) as nothing:  # noqa: PTH123 - a path through /proc
        done = subprocess.run(
            [*RUNTIME, f"--log={log}", *arguments],
            check=False,
            stdin=nothing,
            stdout=nothing,
            stderr=nothing,
        )
    if done.returncode:
        raise RuntimeError(f"crun {arguments[0]} of {name}: {log.read_text().strip()[-600:]}")


def _gather(holder: Holder) -> None:
    """Move the service, with whatever it has started by now, into the cgroup that is frozen."""
    everybody = CGROUPS / f"{holder.spec.name}.init" / "cgroup.procs"
    while others := [p for p in everybody.read_text().split() if int(p) != holder.init]:
        for pid in others:
            with contextlib.suppress(ProcessLookupError):
                (holder.spec.cgroup / "cgroup.procs").write_text(pid)


def destroy(name: str, *, spec: Spec | None = None) -> None:
    """Remove a container, its service, files, network and cgroup; no error where there is none."""
    with contextlib.suppress(KeyError):
        spec = Holder.load(name).spec
    if spec is None:
        return
    with contextlib.suppress(FileNotFoundError):
        (spec.cgroup / "cgroup.kill").write_text("1")
    subprocess.run([*RUNTIME, "delete", "--force", spec.container], check=False,
                   capture_output=True)  # fmt: skip
    with contextlib.suppress(FileNotFoundError):
        (spec.cgroup / "cgroup.freeze").write_text("0")
    netlink.unsilence(spec.device)
    for command in (["ip", "link", "delete", spec.device], ["ip", "netns", "delete", spec.netns]):
        subprocess.run(command, check=False, capture_output=True)
    for mount in (spec.scratch, spec.root):
        subprocess.run(["umount", "-l", str(mount)], check=False, capture_output=True)
    shutil.rmtree(ROOTS / name, ignore_errors=True)
    for folder in (spec.scratch, spec.cgroup):
        with contextlib.suppress(OSError):
            folder.rmdir()
    (STATE / f"{name}.json").unlink(missing_ok=True)


def run(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a program; return what it printed.

    Raises
    ------
    RuntimeError
        With command and output, if it fails.
    """
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        env=env,
    )
    if done.returncode:
        output = (done.stderr or done.stdout).strip()[-600:]
        raise RuntimeError(f"{' '.join(command[:6])}...: {output}")
    return done.stdout
