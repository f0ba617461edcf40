import os
import subprocess
import sys
import threading

import pytest

from testbed.edge import urgency

THREADED = """
import threading, sys
over = threading.Event()
threads = [threading.Thread(target=over.wait, daemon=True) for _ in range(2)]
for thread in threads: thread.start()
print(flush=True)
sys.stdin.readline()
"""


def order(pid):
    """How a thread queues: policy, priority, niceness."""
    niceness = os.getpriority(os.PRIO_PROCESS, pid)
    return os.sched_getscheduler(pid), os.sched_getparam(pid).sched_priority, niceness


@pytest.fixture
def realtime():
    """Skip where this user or this machine gives nobody real-time priority."""
    try:
        with subprocess.Popen(["sleep", "9"]) as other:
            try:
                os.sched_setscheduler(other.pid, os.SCHED_RR, os.sched_param(1))
            finally:
                other.kill()
    except PermissionError as error:
        pytest.skip(f"real-time priority is not to be had here: {error}")


@pytest.fixture
def threaded():
    """A process of three threads with a niceness of its own."""
    command = [sys.executable, "-c", THREADED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        for thread in urgency.threads(process.pid):
            os.setpriority(os.PRIO_PROCESS, thread, 3)
        yield process
        process.kill()


def test_a_thread_is_put_first_and_back(realtime):
    seen = []

    def work():
        urgency.put_first()
        seen.append(order(0))
        urgency.put_back()
        seen.append(order(0))

    before = order(0)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [queue[:2] for queue in seen] == [(os.SCHED_RR, 1), (os.SCHED_OTHER, 0)]
    assert order(0) == before


def test_every_thread_of_a_task_is_lifted_and_queues_afterwards_as_it_did(realtime, threaded):
    threads = urgency.threads(threaded.pid)
    assert len(threads) == 3
    with urgency.lifted([threaded.pid]):
        assert {order(thread)[:2] for thread in threads} == {(os.SCHED_RR, 1)}
    assert {order(thread) for thread in threads} == {(os.SCHED_OTHER, 0, 3)}


def test_whoever_has_ended_is_passed_over():
    with subprocess.Popen(["true"]) as gone:
        pass
    with urgency.lifted([gone.pid]):
        urgency.put_first(gone.pid)
    urgency.put_back(gone.pid)


def test_where_real_time_is_refused_niceness_serves(monkeypatch):
    def refuse(*_):
        raise PermissionError

    said = []
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "setpriority", lambda *words: said.append(words))
    urgency.put_first(7)
    assert said == [(os.PRIO_PROCESS, 7, urgency.NICEST)]


def test_where_nothing_is_allowed_it_queues_as_before(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "setpriority", refuse)
    urgency.put_first()
    urgency.put_back()


def test_nobody_carries_what_no_ssh_server_has_started():
    script = "from testbed.edge.urgency import carrier; print(carrier())"
    done = subprocess.run(
        ["setsid", "--fork", "--wait", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == 0
