import os
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.edge import sysv

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="an IPC namespace is entered by root"
)
APART = """
import ctypes, sys
libc = ctypes.CDLL(None)
assert libc.unshare(0x08000000) == 0
print("apart", flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


@pytest.fixture
def apart():
    """A process in an IPC namespace of its own, which evaluates what it is told."""
    with subprocess.Popen(
        [sys.executable, "-c", APART], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def do(words):
            process.stdin.write(words + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        assert process.stdout.readline() == "apart\n"
        yield process.pid, do
        process.stdin.close()


@pytest.mark.parametrize(
    ("made", "removed"),
    [
        ("libc.msgget(0, 0o1600)", "libc.msgctl({}, 0, None)"),
        ("libc.semget(0, 1, 0o1600)", "libc.semctl({}, 0, 0)"),
        ("libc.shmget(0, 4096, 0o1600)", "libc.shmctl({}, 0, None)"),
    ],
)
def test_objects_are_seen_where_they_are_and_as_long_as_they_are_there(apart, made, removed):
    pid, do = apart
    assert not sysv.used(pid)
    number = do(made)
    assert number >= 0
    assert sysv.used(pid)
    assert do(removed.format(number)) == 0
    assert not sysv.used(pid)


def test_looking_leaves_this_process_where_it_was(apart):
    pid, _ = apart
    before = Path("/proc/self/ns/ipc").readlink()
    sysv.used(pid)
    assert Path("/proc/self/ns/ipc").readlink() == before
    assert Path(f"/proc/{pid}/ns/ipc").readlink() != before


def test_a_process_that_is_gone_is_an_error():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    with pytest.raises(OSError):
        sysv.used(process.pid)
