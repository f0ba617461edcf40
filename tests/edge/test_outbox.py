import io
import socket
import threading

import pytest

from testbed.edge import codec
from testbed.edge import outbox as outbox_module
from testbed.edge.channel import Channel, ChannelClosedError
from testbed.edge.outbox import WAITING_FRAMES, Outbox
from testbed.edge.squeeze import expand

HEAP = b"".join(b"object %d of a heap, " % n for n in range(9000))


@pytest.fixture
def ends():
    """Two channels that speak to each other."""
    one, other = socket.socketpair()
    files = [s.makefile(mode) for s in (one, other) for mode in ("rb", "wb")]
    yield Channel(*files[:2]), Channel(*files[2:]), one
    for file in files:
        try:
            file.close()
        except OSError:  # what nobody wanted any more
            continue
    one.close()
    other.close()


class Gate(io.BytesIO):
    """Takes nothing until it is opened."""

    def __init__(self):
        super().__init__()
        self.open = threading.Event()

    def write(self, data):
        self.open.wait(20)
        return super().write(data)


def received(channel, count):
    frames = [channel.receive() for _ in range(count)]
    return [(head["number"], expand(head, data)) for head, data in frames]


@pytest.mark.parametrize("hurried", [False, True])
def test_frames_arrive_in_order_and_as_they_were(ends, hurried):
    here, there, _ = ends
    outbox = Outbox(here, codec.available())
    if hurried:
        outbox.hurry()
    wanted = [(number, HEAP[number * 1000 :] if number % 3 else b"") for number in range(40)]
    found = []
    reader = threading.Thread(target=lambda: found.extend(received(there, 40)))
    reader.start()
    for number, data in wanted:
        outbox.send({"message": "pages", "number": number}, [data] if data else [])
    outbox.flush()
    reader.join(20)
    assert found == wanted
    assert outbox.sent_bytes == here.sent_bytes > 0
    outbox.close()


@pytest.mark.parametrize("hurried", [False, True])
def test_before_anything_follows_much_the_target_has_taken_it_in(ends, monkeypatch, hurried):
    """A line that takes nothing for some seconds counts as broken."""
    monkeypatch.setattr(outbox_module, "MUCH_BYTES", 1000)
    here, there, _ = ends
    outbox, sent = Outbox(here), threading.Event()
    if hurried:
        outbox.hurry()

    def send():
        outbox.send({"message": "files"}, [bytes(600), bytes(600)])
        sent.set()
        outbox.send({"message": "pages"}, [bytes(900)])

    sender = threading.Thread(target=send)
    sender.start()
    assert [there.receive()[0]["message"] for _ in range(2)] == ["files", "sync"]
    assert not sent.is_set()
    there.send({})
    assert there.receive()[0]["message"] == "pages"
    sender.join(20)
    outbox.close()


def test_what_changes_after_it_was_sent_arrives_as_it_was_then():
    gate = Gate()
    outbox = Outbox(Channel(io.BytesIO(), gate))
    content = bytearray(b"before")
    with memoryview(content) as view:
        outbox.send({"message": "pages"}, [view])
    content[:] = b"later!"
    gate.open.set()
    outbox.flush()
    assert Channel(io.BytesIO(gate.getvalue()), gate).receive()[1] == b"before"
    outbox.close()


def test_looking_goes_on_while_the_link_is_busy_but_not_for_ever():
    gate = Gate()
    outbox = Outbox(Channel(io.BytesIO(), gate))
    for _ in range(WAITING_FRAMES):
        outbox.send({"message": "pages"}, [b"x"])
    assert outbox.sent_bytes == 0
    late = threading.Thread(target=lambda: [outbox.send({}, [b"x"]) for _ in range(3)])
    late.start()
    late.join(0.1)
    assert late.is_alive()
    gate.open.set()
    late.join(20)
    assert not late.is_alive()
    outbox.flush()
    outbox.close()


def test_an_end_that_goes_away_is_noticed_by_who_sends_or_waits(ends):
    here, _, mine = ends
    mine.shutdown(socket.SHUT_RDWR)
    outbox = Outbox(here)
    with pytest.raises(ChannelClosedError):  # noqa: PT012 - now or at the next frame
        outbox.send({"message": "pages"}, [bytes(1 << 20)])
        outbox.flush()
    with pytest.raises(ChannelClosedError):
        outbox.send({"message": "pages"}, [b"x"])
    outbox.close()


def test_what_waits_when_the_move_is_over_is_not_sent():
    gate = Gate()
    outbox = Outbox(Channel(io.BytesIO(), gate))
    for _ in range(3):
        outbox.send({"message": "pages"}, [b"x"])
    closing = threading.Thread(target=outbox.close)
    closing.start()
    closing.join(20)
    gate.open.set()
    with pytest.raises(ChannelClosedError, match="over"):
        outbox.flush()
    assert gate.getvalue().count(b"pages") <= 1
