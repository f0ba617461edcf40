"""Processes that left their parent's group are found by their mark and ended, nobody else is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from testbed.hosts.strays import end_marked

# A worker that leaves its parent's session, as Ansible's do, and whose parent has ended.
WORKER = """
import os, sys, time
if os.fork():
    sys.exit()
os.setsid()
print(os.getpid(), flush=True)
time.sleep(60)
"""


def start(environment):
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER],
        env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process.stdout:
        pid = int(process.stdout.readline())
    process.wait()
    return pid


def alive(pid):
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False


def test_only_processes_with_the_mark_end(tmp_path):
    ours, other = start({"ANSIBLE_LOCAL_TEMP": f"{tmp_path}/local"}), start({})
    try:
        assert end_marked(str(tmp_path)) == 1
        assert not alive(ours)
        assert alive(other)
        assert end_marked(str(tmp_path)) == 0
    finally:
        os.kill(other, signal.SIGKILL)
