import json
import os
import signal
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import HostUnreachableError, RemoteCommandError
from testbed.hosts.remote import EDGE_FOLDER, Remote, agent_command

PATIENCE_S = 20.0
"""How long a test waits for what must come; nothing is decided by how long it takes."""

AGENT = '''
"""In the place of ssh: speaks the agent's side, and does odd things on demand."""
import json, os, sys, threading, time

def emit(message):
    sys.stdout.write(json.dumps(message) + "\\n")
    sys.stdout.flush()

if "silent" in sys.argv:
    sys.stderr.write("Permission denied (publickey).\\n")
    sys.exit(255)
emit({"event": "ready", "pid": os.getpid()})
waiting = []
for line in sys.stdin:
    request = json.loads(line)
    call, arguments = request["call"], request["arguments"]
    if call == "echo":
        emit({"id": request["id"], "result": arguments})
    elif call == "arguments":
        emit({"id": request["id"], "result": sys.argv[1:]})
    elif call == "fail":
        emit({"id": request["id"], "error": "OSError: no", "log": "line 1\\nline 2"})
    elif call == "report":
        emit({"event": arguments["event"], "move": 7})
        emit({"id": request["id"], "result": None})
    elif call == "later":
        waiting.append(request["id"])
    elif call == "backwards":
        for number in [request["id"], *reversed(waiting)]:
            emit({"id": number, "result": number})
        waiting.clear()
    elif call == "stray":
        emit({"id": 10**6, "result": "nobody asked"})
        emit({"id": request["id"], "result": "right"})
    elif call == "die":
        sys.stderr.write("Connection to edge-1 closed by remote host.\\n")
        sys.exit(255)
    elif call == "mute":
        sys.stdout.flush()
        os.close(1)
with open(sys.argv[1], "w") as file:
    file.write("ended in order")
if "stubborn" in sys.argv:
    time.sleep(1000)
'''


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    file = tmp_path_factory.mktemp("ssh") / "ssh.py"
    file.write_text(AGENT, encoding="utf-8")
    return file


@pytest.fixture
def ended(tmp_path):
    """What the agent writes when its session ends in order."""
    return tmp_path / "ended"


@pytest.fixture
def connect(program, ended):
    """Opens a session; whatever is open when the test ends is ended."""
    opened = []

    def open_session(*words, on_event=None):
        ssh = [sys.executable, str(program), str(ended), *words]
        opened.append(Remote("edge-1", ssh, on_event))
        return opened[-1]

    yield open_session
    for remote in opened:
        if remote._process.poll() is None:
            remote._process.kill()
        remote.close()


@pytest.fixture
def remote(connect):
    return connect().wait_ready(PATIENCE_S)


def test_a_call_gives_its_result(remote):
    assert remote.call("echo", a=1, b=["x", None]) == {"a": 1, "b": ["x", None]}


@pytest.fixture(scope="module")
def one_for_all(program, tmp_path_factory):
    ssh = [sys.executable, str(program), str(tmp_path_factory.mktemp("ended") / "e")]
    with Remote("edge-1", ssh) as remote:
        yield remote


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,5}", fullmatch=True).filter(
            lambda key: key not in {"call", "self"}
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=5,
        ),
        max_size=4,
    )
)
def test_arguments_arrive_as_they_were_given(one_for_all, arguments):
    assert one_for_all.call("echo", **arguments) == arguments


def test_the_agent_is_started_from_the_edge_s_own_folder(remote):
    assert remote.call("arguments")[1:] == agent_command("agent")
    assert agent_command("agent") == [
        "env", f"PYTHONPATH={EDGE_FOLDER}", "python3", "-m", "edge.agent"
    ]  # fmt: skip


def test_answers_find_their_questions_in_whatever_order_they_come(remote):
    waiting = [remote.start("later") for _ in range(5)]
    first = remote.start("backwards")
    numbers = [future.result(PATIENCE_S) for future in (*waiting, first)]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 6


def test_many_threads_may_ask_at_once(remote):
    answers = {}

    def ask(number):
        answers[number] = remote.call("echo", number=number)["number"]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert answers == {n: n for n in range(20)}


def test_a_call_that_fails_there_is_an_error_here_with_host_and_log(remote):
    with pytest.raises(RemoteCommandError, match="edge-1: OSError: no") as failed:
        remote.call("fail")
    assert (failed.value.host, failed.value.log) == ("edge-1", "line 1\nline 2")
    assert remote.call("echo", still=True) == {"still": True}


def test_an_answer_that_nobody_waits_for_is_passed_over(remote):
    assert remote.call("stray") == "right"


def test_an_answer_that_does_not_come_is_an_unreachable_host(remote):
    with pytest.raises(HostUnreachableError, match="edge-1: later did not answer within 0 s"):
        remote.call("later", timeout_s=0.0)
    assert remote.call("echo", x=1) == {"x": 1}


def test_events_are_delivered_with_the_host_they_come_from(connect):
    heard = []
    remote = connect(on_event=heard.append).wait_ready(PATIENCE_S)
    remote.call("report", event="frozen")
    assert heard == [{"event": "frozen", "move": 7, "host": "edge-1"}]


def test_events_are_heard_before_the_answer_that_follows_them(connect):
    order = []
    remote = connect(on_event=lambda event: order.append(event["event"])).wait_ready(PATIENCE_S)
    for number in range(10):
        remote.call("report", event=number)
        assert order == list(range(number + 1))


def test_without_a_listener_events_are_passed_over(remote):
    assert remote.call("report", event="frozen") is None


def test_when_the_session_dies_every_waiting_call_fails_with_its_last_words(remote):
    waiting = [remote.start("later") for _ in range(3)]
    waiting.append(remote.start("die"))
    for future in waiting:
        error = future.exception(PATIENCE_S)
        assert isinstance(error, HostUnreachableError)
        assert "edge-1: the SSH session ended" in str(error)


def test_the_last_words_of_a_dead_session_are_told(remote):
    remote.start("die").exception(PATIENCE_S)
    for thread in remote._threads:
        thread.join(PATIENCE_S)
    with pytest.raises(HostUnreachableError, match="closed by remote host"):
        remote.call("echo")


def test_a_killed_session_fails_what_waits_and_what_comes(remote):
    waiting = remote.start("later")
    os.kill(remote._process.pid, signal.SIGKILL)
    assert isinstance(waiting.exception(PATIENCE_S), HostUnreachableError)
    remote._process.wait(PATIENCE_S)
    with pytest.raises(HostUnreachableError):
        remote.call("echo")


def test_a_session_that_will_never_answer_again_refuses_new_calls(remote):
    """SSH may live on for a while after its agent's answers have ended."""
    assert isinstance(remote.start("mute").exception(PATIENCE_S), HostUnreachableError)
    assert remote._process.poll() is None
    later = remote.start("echo")
    assert isinstance(later.exception(3), HostUnreachableError)


def test_an_agent_that_never_speaks_is_said_so_with_its_last_words(connect):
    remote = connect("silent")
    for thread in remote._threads:
        thread.join(PATIENCE_S)
    with pytest.raises(HostUnreachableError, match="Permission denied") as refused:
        remote.wait_ready(PATIENCE_S)
    assert "testbed lab status" in str(refused.value)


def test_no_ssh_at_all_is_an_error_of_its_own(tmp_path):
    with pytest.raises(FileNotFoundError):
        Remote("edge-1", [str(tmp_path / "no-such-ssh")])


def test_closing_ends_the_agent_in_order(remote, ended):
    remote.close()
    assert ended.read_text() == "ended in order"
    assert remote._process.returncode == 0
    assert not any(thread.is_alive() for thread in remote._threads)
    with pytest.raises(HostUnreachableError):
        remote.call("echo")


def test_closing_twice_is_closing_once(remote):
    remote.close()
    remote.close()


def test_a_block_opens_and_closes_a_session(connect, ended):
    with connect() as remote:
        assert remote.call("echo", x=1) == {"x": 1}
    assert ended.exists()


def test_an_agent_that_does_not_end_is_ended(connect, monkeypatch):
    remote = connect("stubborn").wait_ready(PATIENCE_S)
    wait = remote._process.wait
    monkeypatch.setattr(
        remote._process, "wait", lambda timeout=None: wait(0.01 if timeout else None)
    )
    remote.close()
    assert remote._process.returncode == -signal.SIGKILL


def test_ctrl_c_is_not_for_the_agents(remote):
    assert os.getsid(remote._process.pid) != os.getsid(0)


def test_what_goes_over_the_wire_is_one_json_object_a_line(program, ended, monkeypatch, connect):
    remote = connect().wait_ready(PATIENCE_S)
    written = []
    real = remote._process.stdin.write
    monkeypatch.setattr(
        remote._process.stdin, "write", lambda text: (written.append(text), real(text))
    )
    remote.call("echo", text="two\nlines")
    (line,) = written
    assert line.count("\n") == 1
    assert json.loads(line) == {"id": 0, "call": "echo", "arguments": {"text": "two\nlines"}}
