import fcntl
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import testbed
from testbed.edge import deputy, guard
from testbed.edge.ending import Ending
from testbed.edge.guard import Guard, held
from testbed.edge.spec import Spec
from testbed.edge.states import State

SPEC = Spec("counter", "10.88.0.1", 1, ("sha256:a",), ("python3",))


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(guard.container, "STATE", tmp_path / "containers")
    monkeypatch.setenv("PYTHONPATH", str(Path(testbed.__file__).parent))
    return tmp_path


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ((), {"cgroup.kill": "1\n"}),
        (("whole",), {"cgroup.freeze": "1\n"}),
        (("whole", "done"), {}),
        (("whole", "done", "whole"), {}),
        (("done",), {}),
    ],
)
def test_what_becomes_of_a_service_whose_half_dies(tmp_path, said, written):
    with held("nobody-has-this-name") as lock:
        this = Guard("nobody-has-this-name", tmp_path, lock)
        for word in said:
            this.say(word)
        this._process.communicate(timeout=30)  # as if this process had died
    assert {path.name: path.read_text() for path in tmp_path.glob("cgroup.*")} == written


def test_a_guard_that_is_dismissed_does_nothing(tmp_path):
    with held("counter") as lock:
        this = Guard("counter", tmp_path, lock)
        this.dismiss()
        this.say("whole")  # too late: no harm
    assert list(tmp_path.glob("cgroup.*")) == []


def test_nobody_decides_before_the_guard_has_put_things_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "LONGEST_LOCKED_S", 0.2)
    with held("counter") as lock:
        this = Guard("counter", tmp_path, lock)
    with pytest.raises(TimeoutError, match="another migration of 'counter'"), held("counter"):
        pass
    this.dismiss()
    with held("counter"):
        pass


HANGS = """
import fcntl, os, sys, time
lock = open(sys.argv[1] + ".lock", "a+")
fcntl.flock(lock, fcntl.LOCK_EX)
open(sys.argv[1] + ".owner", "w").write(str(os.getpid()))
print("has it", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("name", "longest_s", "ended"),
    [("edge.target", None, True), ("edge.agent", None, False), ("edge.target", 0.3, False)],
)
def test_only_a_half_that_hangs_is_ended(monkeypatch, name, longest_s, ended):
    monkeypatch.setattr(guard, "LONGEST_ALIVE_S", 0.1)
    monkeypatch.setattr(guard, "LONGEST_LOCKED_S", 30.0 if ended else 0.3)
    guard.container.STATE.mkdir()
    words = [sys.executable, "-c", HANGS, str(guard.container.STATE / "counter"), name]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as half:
        assert half.stdout.readline() == "has it\n"
        if ended:
            with held("counter"):
                pass
        else:
            with pytest.raises(TimeoutError), held("counter", longest_s=longest_s):
                pass
            assert half.poll() is None
            half.kill()


def test_a_lock_is_let_go_whatever_happens():
    def fail():
        with held("counter"):
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()


# -- the deputy


@pytest.mark.parametrize("states", [[], ["opened", "ahead", "ahead"], ["frozen", "sent"]])
def test_the_deputy_takes_over_in_the_state_it_heard_last(monkeypatch, states):
    ending, took = Ending(SPEC, "10.78.0.12", ("true",), "wan-edge-2"), []
    lines = [json.dumps(ending.to_json()), *states]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    monkeypatch.setattr(Ending, "settle_alone", lambda *words: took.append(words))
    deputy.main()
    ((what, progress, _),) = took
    assert (what, progress.state) == (ending, State(states[-1] if states else "new"))


@pytest.mark.parametrize("last", ["moved", "dropped"])
def test_the_deputy_leaves_a_move_that_is_over_alone(monkeypatch, last):
    ending = Ending(SPEC, "10.78.0.12", ("true",), "wan-edge-2")
    lines = [json.dumps(ending.to_json()), "opened", last]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    monkeypatch.setattr(Ending, "settle_alone", lambda *_: pytest.fail("it acted"))
    deputy.main()


def test_a_lock_survives_in_whoever_got_its_descriptor(tmp_path):
    with held("counter") as lock, (tmp_path / "containers" / "counter.lock").open() as other:
        assert lock != other.fileno()
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
