import io
import json
import math
import os
import signal
import socket
import struct
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.edge import channel as channel_module
from testbed.edge.channel import (
    LARGEST_HEAD,
    Channel,
    ChannelClosedError,
    Line,
    RemoteFailureError,
    patience,
)

words = st.text(max_size=12)
heads = st.dictionaries(
    words.filter(lambda key: key not in {"size", "error"}),
    st.one_of(st.integers(), words, st.booleans(), st.none(), st.lists(st.integers(), max_size=3)),
    max_size=4,
)
parts = st.lists(st.binary(max_size=3000), max_size=4)
frames = st.lists(st.tuples(heads, parts), min_size=1, max_size=5)


@pytest.fixture
def ends():
    """Two channels that speak to each other."""
    one, other = socket.socketpair()
    files = [(s.makefile("rb"), s.makefile("wb")) for s in (one, other)]
    yield [Channel(*pair) for pair in files]
    for file in (*files[0], *files[1]):
        try:
            file.close()
        except OSError:  # what nobody wanted any more
            continue
    one.close()
    other.close()


def frame(head, data=b""):
    text = json.dumps({**head, "size": len(data)}).encode()
    return struct.pack("<I", len(text)) + text + data


def receiving(data):
    return Channel(io.BytesIO(data), io.BytesIO())


@settings(deadline=None)
@given(frames)
def test_frames_arrive_as_they_were_sent_and_in_order(sent):
    wire = io.BytesIO()
    sender = Channel(io.BytesIO(), wire)
    for head, pieces in sent:
        sender.send(head, pieces)
    assert sender.sent_bytes == len(wire.getvalue())
    receiver = receiving(wire.getvalue())
    for head, pieces in sent:
        data = b"".join(pieces)
        assert receiver.receive() == ({**head, "size": len(data)}, data)
    with pytest.raises(ChannelClosedError):
        receiver.receive()


@settings(deadline=None)
@given(head=heads, pieces=parts, cut=st.integers(0, 10**6))
def test_half_a_frame_is_none(head, pieces, cut):
    whole = frame(head, b"".join(pieces))
    with pytest.raises(ChannelClosedError):
        receiving(whole[: cut % len(whole)]).receive()


def test_a_large_frame_goes_through_a_pipe_that_is_small(ends):
    here, there = ends
    data = os.urandom(3 << 20)
    thread = threading.Thread(target=here.send, args=({"message": "pages"}, [memoryview(data)]))
    thread.start()
    head, received = there.receive()
    thread.join(20)
    assert (head["message"], received) == ("pages", data)


@pytest.mark.parametrize("length", [LARGEST_HEAD + 1, 2**32 - 1])
def test_a_head_too_large_to_be_ours_is_refused_before_it_is_read(length):
    class Greedy(io.BytesIO):
        asked = 0

        def read(self, size=-1):
            self.asked += size
            return super().read(size)

    reader = Greedy(struct.pack("<I", length) + b"x" * 100)
    with pytest.raises(ChannelClosedError, match="not our protocol"):
        Channel(reader, io.BytesIO()).receive()
    assert reader.asked == 4


def test_a_question_gets_its_answer(ends):
    here, there = ends
    there.send({"answer": 42})
    assert here.ask({"message": "sync"}, [b"payload"])["answer"] == 42
    assert there.receive() == ({"message": "sync", "size": 7}, b"payload")


def test_an_error_at_the_other_end_is_raised_here_with_its_log(ends):
    here, there = ends
    there.send({"error": "CriuError: no", "log": "Error (criu/x.c:1): why"})
    with pytest.raises(RemoteFailureError, match="CriuError: no") as failed:
        here.ask({"message": "restore"})
    assert failed.value.log == "Error (criu/x.c:1): why"


def test_an_error_without_a_log_is_an_error(ends):
    here, there = ends
    there.send({"error": "gone wrong"})
    with pytest.raises(RemoteFailureError) as failed:
        here.ask({"message": "restore"})
    assert failed.value.log == ""


def test_an_end_that_goes_away_is_noticed_by_who_waits_for_it():
    one, other = socket.socketpair()
    reader, writer = one.makefile("rb"), one.makefile("wb")
    other.close()
    with reader, pytest.raises(ChannelClosedError, match="ended"):
        Channel(reader, writer).receive()
    writer.close()
    one.close()


def test_an_end_that_went_away_is_noticed_by_who_sends():
    read, write = os.pipe()
    os.close(read)
    writer = os.fdopen(write, "wb")
    with pytest.raises(ChannelClosedError, match="does not take any more"):
        Channel(io.BytesIO(), writer).send({"message": "pages"}, [bytes(1 << 20)])
    with pytest.raises(BrokenPipeError):
        writer.close()


def test_what_could_not_be_sent_is_not_counted():
    closed = io.BytesIO()
    closed.close()
    channel = Channel(io.BytesIO(), closed)
    with pytest.raises(ChannelClosedError):
        channel.send({"message": "pages"}, [b"x"])
    assert channel.sent_bytes == 0


# -- the line that carries a channel


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """Puts a program named ``ssh`` before the real one; returns where it writes its arguments."""

    def stand_in(body):
        program = tmp_path / "ssh"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/said"\n{body}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return tmp_path / "said"

    return stand_in


def test_a_line_calls_the_other_edge_and_carries_frames(ssh):
    said = ssh("exec cat")
    line = Line("10.78.0.12", ["python3", "-m", "edge.target"])
    assert line.channel.ask({"message": "echo"}, [b"x"])["message"] == "echo"
    line.close()
    assert line.process.returncode == 0
    assert said.read_text().splitlines()[-4:] == [
        "root@10.78.0.12", "python3", "-m", "edge.target"
    ]  # fmt: skip
    assert "StrictHostKeyChecking=yes" in said.read_text()
    assert "BatchMode=yes" in said.read_text()


def test_a_line_that_ends_early_says_so_and_can_be_hung_up(ssh):
    ssh("exit 255")
    line = Line("10.78.0.12", ["true"])
    with pytest.raises(ChannelClosedError):
        line.channel.ask({"message": "prepare"}, [bytes(1 << 20)])
    line.close()
    assert line.process.returncode == 255


def test_the_lines_own_errors_are_the_modules():
    assert issubclass(ChannelClosedError, ConnectionError)
    assert channel_module.RemoteFailureError("x", "y").log == "y"


def test_how_fast_the_other_side_takes_bytes_is_told_once_enough_went():
    class Slow(io.BytesIO):
        def write(self, data):
            time.sleep(len(data) / 400e6)
            return len(data)

    channel = Channel(io.BytesIO(), Slow())
    assert channel.taken_bytes_per_s == math.inf
    for _ in range(6):
        channel.send({}, [bytes(4 << 20)])
    assert 100e6 < channel.taken_bytes_per_s < 420e6


def test_silence_ends_a_wait_and_words_in_time_do_not():
    mine, theirs = os.pipe()
    with pytest.raises(ChannelClosedError, match="nothing came for"), patience(0.05):
        os.read(mine, 1)
    os.write(theirs, b"x")
    with patience(20.0):
        assert os.read(mine, 1) == b"x"
    due = iter([False, False, True])
    with pytest.raises(ChannelClosedError), patience(0.02, lambda: next(due)):
        os.read(mine, 1)
    assert list(due) == []
    with patience(0):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    os.close(mine)
    os.close(theirs)
