import os
import threading

import pytest

from testbed.edge.channel import Channel, ChannelClosedError
from testbed.edge.conversation import Conversation

PATIENCE_S = 20


class Half:
    """The target's half, told what to do by a test, and what became of it."""

    def __init__(self, channel):
        self.order, self.entered, self.release = [], threading.Event(), threading.Event()
        self.thread = None
        self.talk = Conversation(
            channel,
            {
                "prepare": lambda *_: {"fill": "", "payload": b"digests"},
                "pages": self.pages,
                "sync": self.sync,
                "restore": self.restore,
            },
            fail=lambda: self.order.append("fail"),
            beside=self.beside,
        )
        self.loop = threading.Thread(target=self.go_on)

    def go_on(self):
        with pytest.raises(ChannelClosedError):
            self.talk.go_on()
        self.order.append("over")

    def pages(self, _, data):
        if data == b"bad":
            raise ValueError("no room")
        self.order.append("pages")

    def sync(self, *_):
        self.order.append("sync")
        return {"done": True}

    def restore(self, *_):
        self.entered.set()
        assert self.release.wait(PATIENCE_S)
        return {"restored_s": 1}

    def beside(self, action):
        self.thread = threading.Thread(target=action)
        self.thread.start()


@pytest.fixture
def talk():
    """A half, and the channel on which the source speaks to it."""
    pipes = [os.pipe(), os.pipe()]
    files = [os.fdopen(end, mode, buffering=0)
             for pipe in pipes for end, mode in zip(pipe, ("rb", "wb"), strict=True)]  # fmt: skip
    half = Half(Channel(files[0], files[3]))
    half.loop.start()
    yield half, Channel(files[2], files[1])
    files[1].close()
    half.release.set()
    half.loop.join(PATIENCE_S)
    if half.thread:
        half.thread.join(PATIENCE_S)
    assert "over" in half.order
    for file in files:
        file.close()


def asked(channel, head, parts=()):
    channel.send(head, parts)
    return channel.receive()[0]


def test_what_has_failed_is_not_gone_on_with_and_ended_before_it_is_told(talk):
    half, source = talk
    source.send({"message": "pages"}, [b"good"])
    source.send({"message": "pages"}, [b"bad"])
    source.send({"message": "pages"}, [b"good"])
    for _ in range(2):
        answer = asked(source, {"message": "sync"})
        assert answer["error"] == "ValueError: no room"
    assert half.order == ["pages", *["fail"] * 4]


def test_what_arrives_damaged_fails_like_all_else(talk):
    half, source = talk
    write = source._write
    source._write = lambda parts: write([*parts[:-1], bytes(4)])
    source.send({"message": "pages"}, [b"good"])
    source._write = write
    assert "arrived damaged" in asked(source, {"message": "sync"})["error"]
    assert half.order[0] == "fail"
    assert "pages" not in half.order


@pytest.mark.parametrize("follows", [True, False])
def test_others_are_heard_during_a_restore_only_where_memory_follows(talk, follows):
    half, source = talk
    source.send({"message": "restore", "stale": {} if follows else None})
    assert half.entered.wait(PATIENCE_S)
    source.send({"message": "sync"})
    if follows:
        assert source.receive()[0]["done"]
        half.release.set()
        assert source.receive()[0]["restored_s"] == 1
    else:
        assert half.order == []
        half.release.set()
        assert source.receive()[0]["restored_s"] == 1
        assert source.receive()[0]["done"]
    assert half.order == ["sync"]


def test_a_failure_beside_a_restore_is_told_after_what_is_restored_was_ended(talk):
    half, source = talk
    source.send({"message": "restore", "stale": {}})
    assert half.entered.wait(PATIENCE_S)
    source.send({"message": "pages"}, [b"bad"])
    told = asked(source, {"message": "sync"})
    assert told["error"] == "ValueError: no room"
    assert half.order == ["fail", "fail"]


def test_an_answer_may_have_bytes(talk):
    _, channel = talk
    answer = channel.ask({"message": "prepare"})
    assert (answer["fill"], answer["payload"]) == ("", b"digests")
    assert "payload" not in channel.ask({"message": "sync"})
