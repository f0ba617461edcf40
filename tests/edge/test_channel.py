import io
import json
import os
import socket
import struct
import threading
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.edge import channel as channel_module
from testbed.edge.channel import (
    LARGEST_HEAD,
    Channel,
    ChannelClosedError,
    DamagedError,
    Line,
    RemoteFailureError,
)
from testbed.edge.pace import GUESS_BYTES_PER_S

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
    check = struct.pack("<I", zlib.crc32(text + data))
    return struct.pack("<I", len(text)) + text + data + check


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


@settings(deadline=None)
@given(head=heads, data=st.binary(min_size=1, max_size=3000), at=st.integers(0, 10**6),
       bit=st.integers(0, 7))  # fmt: skip
def test_no_damaged_frame_is_taken_for_a_whole_one(head, data, at, bit):
    damaged = bytearray(frame(head, data))
    damaged[4 + at % (len(damaged) - 4)] ^= 1 << bit
    with pytest.raises((DamagedError, ChannelClosedError)):
        receiving(bytes(damaged)).receive()


def test_damage_is_told_with_the_message_and_does_not_harm_the_next_frame():
    damaged = bytearray(frame({"message": "pages"}, b"content"))
    damaged[-8] ^= 1
    channel = receiving(bytes(damaged) + frame({"message": "sync"}))
    with pytest.raises(DamagedError, match=r"'pages' with 7 bytes arrived damaged") as damage:
        channel.receive()
    assert damage.value.head["message"] == "pages"
    assert channel.receive()[0]["message"] == "sync"


def test_a_head_that_is_no_head_ends_the_channel():
    with pytest.raises(ChannelClosedError, match="cannot be read"):
        receiving(struct.pack("<I", 4) + b"[1]]" + bytes(4)).receive()


# -- life


@pytest.fixture
def patience_s():
    return 0.6


@pytest.fixture
def alive(monkeypatch, patience_s):
    """Two channels over pipes that expect to hear of each other; the rest of the pipes."""
    monkeypatch.setattr(channel_module, "BEAT_S", 0.05)
    monkeypatch.setattr(channel_module, "PATIENCE_S", patience_s)
    monkeypatch.setattr(channel_module, "LONGEST_START_S", patience_s)
    pipes = [os.pipe(), os.pipe()]
    files = [os.fdopen(end, mode, buffering=0)
             for pipe in pipes for end, mode in zip(pipe, ("rb", "wb"), strict=True)]  # fmt: skip
    pair = Channel(files[0], files[3]), Channel(files[2], files[1])
    yield pair
    for channel in pair:
        channel.close()
    for file in files:
        file.close()


@pytest.mark.parametrize("patience_s", [4.0])  # eighty beats, on a busy machine
def test_who_is_busy_is_not_taken_for_dead(alive):
    here, there = alive
    here.keep_alive()
    there.keep_alive()
    answer = threading.Timer(5.0, there.send, ({"answer": 1},))
    answer.start()
    assert here.ask({"message": "restore"})["answer"] == 1
    answer.join()


def test_silence_is_the_end(alive):
    here, _ = alive
    here.keep_alive()
    began_s = time.monotonic()
    with pytest.raises(ChannelClosedError, match="nothing was heard of the other edge"):
        here.ask({"message": "restore"})
    assert time.monotonic() - began_s >= 0.6


def test_bytes_that_nobody_takes_are_the_end(alive):
    here, _ = alive
    here.keep_alive()
    with pytest.raises(ChannelClosedError, match=r"it took nothing for"):
        here.send({"message": "pages"}, [bytes(1 << 20)])


def test_whether_the_other_half_lives_is_asked_of_its_next_beat(alive):
    here, there = alive
    here.keep_alive()
    there.keep_alive()
    assert here.is_there()
    there.close()
    time.sleep(0.2)  # old beats may wait in the pipe
    assert not here.is_there()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.binary(max_size=60_000), max_size=200))
def test_many_pieces_go_through_a_pipe_that_must_not_block(pieces):
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as reader, os.fdopen(write, "wb", buffering=0) as out:
        sender, receiver = Channel(io.BytesIO(), out), Channel(reader, io.BytesIO())
        sender.keep_alive()
        thread = threading.Thread(target=sender.send, args=({"message": "pages"}, pieces))
        thread.start()
        assert receiver.receive()[1] == b"".join(pieces)
        thread.join(20)
        sender.close()


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


def test_a_channel_notes_how_fast_the_other_side_takes_bytes():
    class Slow(io.BytesIO):
        def write(self, data):
            time.sleep(len(data) / 400e6)
            return len(data)

    channel = Channel(io.BytesIO(), Slow())
    for _ in range(6):
        channel.send({}, [bytes(4 << 20)])
    assert channel.pace.bytes_per_s < 420e6
    assert channel.pace.bytes_per_s != GUESS_BYTES_PER_S
