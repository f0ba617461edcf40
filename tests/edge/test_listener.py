import os
import threading

import pytest

from testbed.edge.channel import Channel, ChannelClosedError, RemoteFailureError
from testbed.edge.listener import Listener


def over(listener):
    """Whether nothing comes any more."""
    try:
        listener.hear(block=True)
    except ChannelClosedError:
        return True
    return False


@pytest.fixture
def line():
    """A listener, the channel of the other half, and where that one writes."""
    pipes = [os.pipe(), os.pipe()]
    files = [os.fdopen(end, mode, buffering=0)
             for pipe in pipes for end, mode in zip(pipe, ("rb", "wb"), strict=True)]  # fmt: skip
    listener = Listener(Channel(files[0], files[3]))
    yield listener, Channel(files[2], files[1]), files[1]
    files[1].close()
    while not over(listener):
        pass
    for file in files:
        file.close()


def test_nobody_has_to_wait_for_what_is_said(line):
    listener, there, _ = line
    assert listener.hear(block=False) is None
    later = threading.Timer(0.05, there.send, ({"number": 1},))
    later.start()
    assert listener.hear(block=True)["number"] == 1
    later.join()


def test_a_failure_is_raised_and_what_comes_after_it_is_heard(line):
    listener, there, _ = line
    there.send({"error": "no room", "log": "full"})
    there.send({"number": 2})
    with pytest.raises(RemoteFailureError, match="no room") as failure:
        listener.hear(block=True)
    assert failure.value.log == "full"
    assert listener.hear(block=True)["number"] == 2


def test_the_end_is_heard_by_everybody_who_asks(line):
    listener, there, wire = line
    there.send({"number": 3})
    wire.close()
    assert listener.hear(block=True)["number"] == 3
    for _ in range(2):
        with pytest.raises(ChannelClosedError):
            listener.hear(block=True)


def test_what_is_damaged_is_the_end(line):
    listener, there, _ = line
    write = there._write
    there._write = lambda parts: write([*parts[:-1], bytes(4)])
    there.send({"number": 4})
    with pytest.raises(ChannelClosedError, match="damaged"):
        listener.hear(block=True)
