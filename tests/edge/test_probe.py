import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.edge import probe, probe_engine

LINUX = sys.platform == "linux"


@pytest.mark.parametrize(
    ("criu", "kernel", "problem"),
    [
        ("3.17.1", "6.12.9", ""),
        ("3.17.1", "6.13.0-rc1", "vDSO"),
        ("4.1.1", "6.15.4", ""),
        ("4.1.1", "6.16.0", "TCP sockets"),
        ("4.2", "6.18.44-fc", ""),
        ("4.2.1", "7.0.1", ""),
        ("", "6.18", ""),
    ],
)
def test_a_criu_that_cannot_work_on_a_kernel_is_known(criu, kernel, problem):
    said = probe.criu_problem(criu, kernel)
    assert problem in said
    assert bool(problem) == bool(said)


def test_a_trial_that_fails_dies_or_cannot_be_made_is_an_answer():
    def fails():
        raise OSError("no such thing")

    def cannot():
        raise probe.NotTriedError("needs a hat")

    expected = {
        fails: (False, "no such thing"),
        cannot: (None, "needs a hat"),
        (lambda: os._exit(1)): (None, "the trial was killed or hung"),
        (lambda: "fine"): (True, "fine"),
    }
    for trial, (works, detail) in expected.items():
        assert probe.attempt(trial) == {"works": works, "detail": detail}


def test_a_program_that_is_not_there_has_no_version():
    assert probe.program_version("no-such-program") is None
    assert probe.program_version(sys.executable).startswith("3.")


@pytest.mark.skipif(not LINUX, reason="reads Linux' /proc")
def test_it_runs_alone_and_leaves_the_machine_as_it_was():
    def state():
        files = ("/proc/self/mounts", "/proc/net/dev", "/proc/sys/vm/unprivileged_userfaultfd")
        seen = [Path(name).read_text().splitlines() for name in files if Path(name).exists()]
        return [sorted(line.split(":")[0].split()[0] for line in lines) for lines in seen]

    before = state()
    code = (
        "import runpy, sys; sys.path.insert(0, sys.argv[1]); "
        "runpy.run_module('edge.probe', run_name='__main__')"
    )
    alone = [sys.executable, "-I", "-S", "-c", code, str(Path(probe.__file__).parents[1])]
    done = subprocess.run(alone, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["system"] == "Linux"
    assert found["page_size_bytes"] in {4096, 16384, 65536}
    assert found["cpu"]["count"] >= 1
    assert found["memory"]["total_bytes"] > 0
    assert found["settings"]["fs/pipe-max-size"].isdecimal()
    assert len(found["settings"]) == len(probe.SETTINGS)
    assert set(found["features"]) == set(probe.TRIALS)
    for answer in found["features"].values():
        assert answer["works"] in {True, False, None}
        assert answer["detail"]
    if not found["root"]:
        assert found["features"]["namespaces"]["works"] is None
    assert state() == before


@pytest.mark.skipif(not LINUX, reason="starts processes")
@pytest.mark.parametrize(("program", "works"), [("/no/such/program", None), ("/bin/true", False)])
def test_a_tracker_that_is_not_there_or_does_not_track_is_told(monkeypatch, program, works):
    monkeypatch.setattr(probe_engine.tracker, "PROGRAM", Path(program))
    assert probe.attempt(probe_engine.try_tracker)["works"] is works


@pytest.mark.skipif(not LINUX, reason="reads Linux' /proc")
@pytest.mark.parametrize("name", ["soft_dirty", "pagemap_scan"])
def test_trackers_of_dirty_pages_do_not_contradict_the_kernel(name):
    answer = probe.attempt(probe.TRIALS[name])
    assert "not what was written" not in answer["detail"]
