"""A lab leaves the machine as it was: after its end, after Ctrl-C, after kill -9."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from small_lab import SCENARIO

from testbed.hosts.namespace import cgroup_root, take_down

NAME = "gone"


def traces():
    """Everything on this machine that a lab of this name could have made."""
    ip = ["ip", "-o", "link"], ["ip", "netns", "list"], ["ip", "route"], ["ip", "rule"]
    seen = [subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in ip]
    seen.append(Path("/proc/self/mounts").read_text())
    seen.append("\n".join(str(p) for p in cgroup_root().iterdir()))
    for folder in ("/run/testbed", "/var/lib/testbed-labs"):
        seen += [str(p) for p in Path(folder).iterdir()] if Path(folder).is_dir() else []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if ") Z " not in (process / "stat").read_text():  # dead, waiting for its parent
                seen.append((process / "cgroup").read_text())
        except OSError:
            continue
        with suppress(OSError):
            seen += (process / "environ").read_text(errors="replace").split("\0")
    seen += [str(p) for p in Path(tempfile.gettempdir()).glob("testbed-*")]
    words = (f"tb-{NAME}", f"testbed-{NAME}", f"testbed/{NAME}", f"/{NAME}", f"v-{NAME}")
    lines = "\n".join(seen).splitlines()
    return [line for line in lines if any(word in line for word in words)]


@pytest.fixture
def scenario(tmp_path):
    take_down(NAME)
    file = tmp_path / "small.yml"
    file.write_text(SCENARIO, encoding="utf-8")
    yield file
    take_down(NAME)
    assert traces() == []


def start(scenario, *words):
    command = [sys.executable, "-m", "testbed.cli", *words, str(scenario), "--name", NAME]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=scenario.parent
    )


def wait_for_hosts(process, moment="provisioning"):
    """Until the lab's hosts are up and something is done with them."""
    for line in process.stdout:
        if moment in line:
            time.sleep(2)
            return
    pytest.fail("the lab never got so far")


@pytest.mark.parametrize("moment", ["provisioning", "measuring"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_takes_the_lab_down(scenario, moment, number):
    process = start(scenario, "run", "--duration", "30 s")
    wait_for_hosts(process, moment)
    assert traces()
    process.send_signal(number)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 130, rest
    assert traces() == []


def test_lab_down_cleans_up_after_kill_9(scenario):
    process = start(scenario, "lab", "up")
    wait_for_hosts(process)
    process.kill()
    process.communicate(timeout=60)
    assert traces()
    down = [sys.executable, "-m", "testbed.cli", "lab", "down", "--name", NAME]
    said = subprocess.run(down, capture_output=True, text=True, check=True).stdout
    assert f"network namespace tb-{NAME}-core" in said
    assert traces() == []
    again = subprocess.run(down, capture_output=True, text=True, check=True).stdout
    assert "nothing" in again


def test_a_lab_that_cannot_start_leaves_nothing(scenario, tmp_path):
    # A cache in which the edges' root file system is an empty folder: no host can come up.
    from testbed.hosts.root import recipe_hash  # noqa: PLC0415

    broken = tmp_path / "cache"
    (broken / "edge-root" / recipe_hash()).mkdir(parents=True)
    real = Path(os.environ.get("TESTBED_CACHE", "/var/cache/testbed"))
    (broken / "images").symlink_to(real / "images")
    (broken / "inputs").symlink_to(real / "inputs")
    command = [sys.executable, "-m", "testbed.cli", "lab", "up", str(scenario), "--name", NAME]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env={**os.environ, "TESTBED_CACHE": str(broken)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "did not come up" in done.stderr
    assert "Traceback" not in done.stderr
    assert traces() == []
