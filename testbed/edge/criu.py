"""CRIU, started ahead inside a prepared container and driven by its RPC.

It runs in the container's own namespaces, so that an image holds the processes only: no mount, no
network, no pid namespace is dumped or rebuilt. Its program and libraries are the edge's, seen in
the container under ``/.testbed/edge``; the container's own file system needs nothing.
"""

import contextlib
import os
import platform
import re
import socket
import subprocess
from pathlib import Path

from pycriu import rpc_pb2 as rpc

INSIDE = "/.testbed"
LIBRARIES = f"{platform.machine()}-linux-gnu"
LOADERS = {"x86_64": "lib64/ld-linux-x86-64.so.2", "aarch64": "lib/ld-linux-aarch64.so.1"}
LARGEST_ANSWER = 1 << 16
LOG_LINES = 12
WITHOUT_BREAKPOINTS = {"CRIU_FAULT": "130"}
"""CRIU steps through its parasite without hardware breakpoints: faster, at both ends alike."""
FEATURES = ("mem_track", "lazy_pages", "pidfd_store")
HARMLESS = ("RLIMIT_NOFILE", "tun: Unable to create tun", "Can't create a cgroup")
"""What CRIU complains about on hosts without CAP_SYS_RESOURCE or TUN, and gets on without."""


class CriuError(RuntimeError):
    """CRIU refused; ``log`` holds the lines of its log that say why."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


def command(descriptor: int) -> list[str]:
    """How CRIU's RPC worker is called inside a container, with the edge's loader and libraries."""
    edge = f"{INSIDE}/edge"
    libraries = f"{edge}/usr/lib/{LIBRARIES}:{edge}/lib/{LIBRARIES}"
    loader = f"{edge}/{LOADERS[platform.machine()]}"
    return [
        *(loader, "--library-path", libraries, f"{edge}/usr/sbin/criu"),
        *("swrk", str(descriptor)),
    ]


class Criu:
    """One RPC worker, waiting for one request.

    Parameters
    ----------
    holder : int
        Pid of the container's init, as this host sees it.
    cgroup : Path, optional
        Where the worker and whatever it restores is to live.
    first_pid : int
        Pids in the container start here for the worker, apart from the service's own.
    """

    def __init__(self, holder: int, *, cgroup: Path | None, first_pid: int) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        worker = " ".join(command(theirs.fileno()))
        enter = f"nsenter -t {holder} -m -n -i -u -r -w -- {worker}"
        # Writing ns_last_pid inside the pid namespace gives the worker a pid that no restored
        # process wants; only then does it enter the container's other namespaces.
        inside = f"echo {first_pid} > /proc/sys/kernel/ns_last_pid; exec {enter}"
        join = f'echo $$ > "{cgroup}/cgroup.procs"; ' if cgroup else ""
        self.process = subprocess.Popen(
            ["sh", "-c", f'{join}exec nsenter -t {holder} -p -- sh -c "{inside}"'],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **WITHOUT_BREAKPOINTS},
        )
        theirs.close()
        self._holder = holder
        self._log = Path(os.devnull)
        self.features()

    def dump(self, pid: int, folder: str, *, cgroup: str) -> None:
        """Write images of the frozen tree of ``pid`` (as the container sees it) into ``folder``.

        The processes stay where they are, frozen; only the cgroup's owner lets them go on.
        """
        self.begin_dump(pid, folder, cgroup=cgroup)
        self.end_dump()

    def begin_dump(self, pid: int, folder: str, *, cgroup: str, parent: str = "") -> None:
        """Have a dump begin, as `dump` does; `end_dump` waits for it.

        ``parent`` is a folder of images, relative to ``folder``, whose pages need not be written.
        """
        more = {"parent_img": parent, "track_mem": True} if parent else {}
        self._ask(rpc.DUMP, folder, "dump.log", pid=pid, leave_running=True, freeze_cgroup=cgroup,
                  **more)  # fmt: skip

    def end_dump(self) -> None:
        """Wait until the dump that was begun is over."""
        self._hear("checkpoint")

    def restore(self, folder: str, *, lazy: bool = False) -> None:
        """Bring the processes of ``folder`` to life as children of the container's init.

        ``lazy``: pages marked so come from whoever listens on ``lazy-pages.socket`` in there.
        """
        self._ask(rpc.RESTORE, folder, "restore.log", rst_sibling=False, lazy_pages=lazy)
        self._hear("restore")

    def close(self) -> None:
        """End the worker."""
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=2)
            return
        self.process.kill()
        self.process.wait()

    def features(self) -> dict[str, bool]:
        """What CRIU says that the kernel can do.

        Asked once before it is needed, it also saves 25 ms of a freeze.

        Raises
        ------
        CriuError
            If CRIU does not answer.
        """
        request = rpc.criu_req()
        request.type = rpc.FEATURE_CHECK
        request.keep_open = True
        for name in FEATURES:
            setattr(request.features, name, True)
        self._socket.send(request.SerializeToString())
        data = self._socket.recv(LARGEST_ANSWER)
        if not data:
            raise CriuError("CRIU ended at its start; does it run in a container of this edge?")
        answer = rpc.criu_resp()
        answer.ParseFromString(data)
        return {name: bool(getattr(answer.features, name)) for name in FEATURES}

    def _ask(self, kind: int, folder: str, log: str, **options: object) -> None:
        request = rpc.criu_req()
        request.type = kind
        request.keep_open = False
        wanted = {
            "images_dir_fd": -1,
            "images_dir": folder,
            "log_level": 2,
            "log_file": log,
            "tcp_established": True,
            "network_lock": rpc.SKIP,
            "manage_cgroups": True,
            "manage_cgroups_mode": rpc.IGNORE,
            "file_locks": True,
            "ext_unix_sk": True,
            **options,
        }
        for name, value in wanted.items():
            setattr(request.opts, name, value)
        self._socket.send(request.SerializeToString())
        self._log = Path(f"/proc/{self._holder}/root/{folder}/{log}")

    def _hear(self, action: str) -> None:
        data = self._socket.recv(LARGEST_ANSWER)
        error = CriuError("CRIU ended without an answer")
        if data:
            answer = rpc.criu_resp()
            answer.ParseFromString(data)
            if answer.success:
                return
            error = CriuError(f"errno {answer.cr_errno}")
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        raise CriuError(*explain(action, error, text))


def reasons(log: str) -> str:
    """The lines of a CRIU log that say why it failed, last ones last."""
    wanted = [line for line in log.splitlines() if re.search(r"Error|Warn", line)]
    wanted = [line for line in wanted if not any(word in line for word in HARMLESS)]
    errors = [line for line in wanted if "Error" in line]
    return "\n".join((errors or wanted)[-LOG_LINES:])


def explain(action: str, error: CriuError, log: str) -> tuple[str, str]:
    """Message and relevant log for a failed action; "errno 0" alone helps nobody."""
    why = reasons(log)
    last = why.splitlines()[-1] if why else f"{error}, and its log is silent"
    return f"CRIU could not {action}: {last}", why


def statistics(path: Path) -> dict[str, float]:
    """CRIU's own account of a dump, in seconds."""
    import pycriu  # noqa: PLC0415 - slow to import, and not needed while a service stands still

    if not path.exists():
        return {}
    with path.open("rb") as file:
        (entry,) = pycriu.images.load(file)["entries"]
    return {
        name.replace("_time", "_s"): value / 1e6
        for name, value in entry["dump"].items()
        if name.endswith("_time")
    }
