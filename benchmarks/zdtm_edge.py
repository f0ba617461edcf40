"""Runs on an edge: starts CRIU's test programs in holders, has plain CRIU carry them, judges them.

One JSON object per line comes in, one goes out.
A program becomes a daemon once it is up: its child of the holder's init is what is moved, as if an
edge had started it as a service.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from testbed.edge import container, criu
from testbed.edge.complaints import LOG_LINES, errors
from testbed.edge.container import FIRST_SERVICE_PID, RUNTIME, Holder
from testbed.edge.criu import INSIDE
from testbed.edge.source import CRIU_FIRST_PID
from testbed.edge.spec import Spec

PROGRAMS = "zdtm/static"
CRIU_TIMEOUT_S, UP_TIMEOUT_S = 60.0, 10.0
LAST_WORDS = 600
BURIAL_S = 0.5
USER = ("ZDTM_UID=18943", "ZDTM_GID=58467", "ZDTM_GROUPS=27495 48244")
"""Who a program is that need not be root: as CRIU's own test driver has it."""
CAP_SYS_RESOURCE = 24
OURS = ("--manage-cgroups=ignore", "--network-lock=skip")
"""What plain CRIU is told as well: this edge's cgroups are left alone, its firewall too."""


def start(spec: dict[str, Any], program: str, *, suid: bool) -> str:
    """Start a program in a new holder; return why it did not come up, empty where it did."""
    holder = container.create(Spec.from_json(spec))
    last = f"echo {FIRST_SERVICE_PID - 1} > /proc/sys/kernel/ns_last_pid"
    container.run(["nsenter", "-t", str(holder.init), "-p", "--", "sh", "-c", last])
    inside = (
        f"echo 0 > {INSIDE}/cgroup/cgroup.procs; cd /{PROGRAMS}; "
        f'command=$(grep -e "--pidfile={program}.pid " commands) || exit 127; '
        f'exec sh -c "exec $command" < /dev/null > {program}.said 2>&1'
    )
    environment = [*holder.spec.environment, *(() if suid or not may_read_limits() else USER)]
    words = [word for entry in environment for word in ("--env", entry)]
    command = [*RUNTIME, "exec", *words, holder.spec.container, "/bin/sh", "-c", inside]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=UP_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return f"did not come up within {UP_TIMEOUT_S:.0f} s"
    pid_file = _folder(holder) / f"{program}.pid"
    if done.returncode == 127:  # noqa: PLR2004 - as above
        return "could not be compiled"
    if done.returncode or not pid_file.exists():
        return _words(holder, program) or done.stderr.strip() or f"ended with {done.returncode}"
    holder.service = int(pid_file.read_text())
    holder.save()
    return ""


def may_read_limits() -> bool:
    """Whether CRIU may ask for the limits of another user's tasks here: it has to, to dump them."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(x for x in status.splitlines() if x.startswith("CapEff"))
    return bool(int(line.split()[1], 16) >> CAP_SYS_RESOURCE & 1)


def plain(name: str, dump: list[str], restore: list[str]) -> str:
    """Have CRIU dump and restore the program where it is; return why it cannot."""
    holder = Holder.load(name)
    folder = holder.spec.scratch / "plain"
    folder.mkdir()
    common = ["--images-dir", f"{INSIDE}/scratch/plain", "-v2", "--log-file"]
    dumped = ["dump", "--tree", str(holder.service), *common, "dump.log", *dump]
    restored = ["restore", "--restore-detached", *common, "restore.log", *restore]
    tasks = [os.pidfd_open(pid) for pid in holder.processes()]
    try:
        for arguments in (dumped, restored):
            failed = _criu(holder, [*arguments, *OURS])
            if failed:
                log = folder / f"{arguments[0]}.log"
                text = log.read_text(errors="replace") if log.exists() else ""
                said = "\n".join(errors(text)[-LOG_LINES:])
                return f"{arguments[0]}: {said or failed}"
            _await_end(tasks)  # whose pids will be wanted again
    finally:
        for task in tasks:
            os.close(task)
        shutil.rmtree(folder, ignore_errors=True)
    return ""


def _await_end(tasks: list[int]) -> None:
    """Wait until dumped tasks are dead and buried; one that was not dumped is not waited for."""
    deadline = time.monotonic() + BURIAL_S
    while time.monotonic() < deadline:
        if not any(_there(task) for task in tasks):
            return
        time.sleep(0.005)


def _there(task: int) -> bool:
    try:
        signal.pidfd_send_signal(task, 0)
    except ProcessLookupError:
        return False
    return True


def _criu(holder: Holder, arguments: list[str]) -> str:
    enter = ["nsenter", "-t", str(holder.init), "-m", "-n", "-i", "-u", "-r", "-w", "--"]
    # What is restored is to live in the service's cgroup; CRIU itself must not when it dumps.
    join = f'echo 0 > "{holder.spec.cgroup}/cgroup.procs"; ' if arguments[0] == "restore" else ""
    last = f"echo {CRIU_FIRST_PID} > /proc/sys/kernel/ns_last_pid"
    script = f'{join}exec nsenter -t {holder.init} -p -- sh -c \'{last}; exec "$@"\' sh "$@"'
    command = ["sh", "-c", script, "sh", *enter, *criu.command(0)[:-2], *arguments]
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=CRIU_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"CRIU took longer than {CRIU_TIMEOUT_S:.0f} s"
    return (done.stderr.strip() or f"ended with {done.returncode}") if done.returncode else ""


def judge(name: str, program: str, timeout_s: float) -> dict[str, Any]:
    """Ask the program for its verdict: ``passed``, ``failed``, ``hangs`` or ``gone``."""
    try:
        holder = Holder.load(name)
    except KeyError:
        return {"verdict": "gone", "said": "no container"}
    task = next((p for p in holder.processes() if _inside(p) == holder.service), None)
    if task is None:
        return {"verdict": "gone", "said": _words(holder, program)}
    watched = os.pidfd_open(task)
    try:
        signal.pidfd_send_signal(watched, signal.SIGTERM)
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            return {"verdict": "hangs", "said": _words(holder, program)}
    finally:
        os.close(watched)
    said = _words(holder, program)
    out = _folder(holder) / f"{program}.out"
    passed = out.exists() and "PASS" in out.read_text(errors="replace").split()
    return {"verdict": "passed" if passed else "failed", "said": said}


def _inside(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    line = next(x for x in status.splitlines() if x.startswith("NSpid"))
    return int(line.split()[-1])


def _folder(holder: Holder) -> Path:
    return Path(f"/proc/{holder.init}/root") / PROGRAMS


def _words(holder: Holder, program: str) -> str:
    """What the program wrote last."""
    for ending in (".out", ".out.inprogress", ".said"):
        path = _folder(holder) / f"{program}{ending}"
        if path.exists() and (text := path.read_text(errors="replace").strip()):
            return text[-LAST_WORDS:]
    return ""


CALLS: dict[str, Callable[..., Any]] = {"start": start, "plain": plain, "judge": judge}


def main() -> None:
    """Answer until standard input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": CALLS[request.pop("call")](**request)}
        except Exception as error:  # noqa: BLE001 - the benchmark must hear of it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
