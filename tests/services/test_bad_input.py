"""Whatever one client does to a server, another one is answered at once, rightly, and counted."""

import contextlib
import json
import socket
import struct
import time

import pytest

from testbed.services.conversations import MOST_CLIENTS

GIGABYTE = struct.pack(">I", 1 << 30)
FRAMED = ["face-detection", "openface", "yolo"]
HEADS = {"openface": b"\n"}
LINED = {"ram": b"1 0 10", "simple": b"1"}
SMALL = {"ram": ("--memory-mb", "2")}
ABRUPT = b"\1\0\0\0\0\0\0\0"


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=20)


@pytest.fixture(params=[*FRAMED, *LINED])
def name(request):
    return request.param


@pytest.fixture
def port(serve, name):
    return serve(name, *SMALL.get(name, ()))


@pytest.fixture
def good(name, client_folder):
    """Bytes of one right request."""
    if name in LINED:
        return LINED[name] + b"\n"
    folder = client_folder(name) / "inputs"
    picture = min(folder.rglob("*.jpg")).read_bytes()
    return framed(HEADS.get(name, b"") + picture)


def framed(content):
    return struct.pack(">I", len(content)) + content


def count_of(reader, name):
    """The count in the next answer."""
    if name == "simple":
        return int(reader.readline().split()[1])
    if name in LINED:
        return json.loads(reader.readline().partition(b" ")[2])["count"]
    return said_by(reader)["count"]


def said_by(reader):
    return json.loads(reader.read(struct.unpack(">I", reader.read(4))[0]))


@contextlib.contextmanager
def undisturbed(port, name, good):
    """A client whose requests before and after the block must be counted 1 and 2."""
    with connect(port) as connection, connection.makefile("rb") as reader:
        connection.sendall(good)
        assert count_of(reader, name) == 1
        yield
        connection.sendall(good)
        assert count_of(reader, name) == 2


def test_half_requests_and_abrupt_endings(port, name, good):
    with undisturbed(port, name, good):
        for cut in (0, 1, 3, 4, len(good) // 2, len(good) - 1):
            for linger in (b"\0" * 8, ABRUPT):
                connection = connect(port)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                with contextlib.suppress(OSError):
                    connection.sendall(good[: min(cut, len(good) - 1)])
                connection.close()


@pytest.mark.parametrize(
    "garbage", [GIGABYTE + b"\xff" * 10, b"GET / HTTP/1.0\r\n\r\n", b"\0" * 99]
)
def test_garbage_is_answered_with_an_error(port, name, good, garbage):
    with undisturbed(port, name, good), connect(port) as bad, bad.makefile("rb") as reader:
        bad.sendall(garbage + b"\n")
        bad.shutdown(socket.SHUT_WR)
        assert b"error" in reader.read()


def test_a_frame_cut_short_is_answered_with_an_error(serve, name, good):
    if name in LINED:
        return
    with undisturbed(port := serve(name), name, good):
        with connect(port) as bad, bad.makefile("rb") as reader:
            bad.sendall(good[:-100])
            bad.shutdown(socket.SHUT_WR)
            assert b"error" in reader.read()
        picture = good[4:-100]  # the length is right, the picture is not whole
        with connect(port) as bad, bad.makefile("rb") as reader:
            bad.sendall(framed(picture))
            assert "not all of it" in said_by(reader)["error"]


def test_a_small_file_that_announces_a_huge_picture_is_refused(serve, name, good):
    if name in LINED:
        return
    at = good.index(b"\xff\xc0") + 5  # height and width in the frame header
    huge = good[4:at] + struct.pack(">HH", 65500, 65500) + good[at + 4 :]
    with undisturbed(port := serve(name), name, good), connect(port) as bad:
        bad.sendall(framed(huge))
        with bad.makefile("rb") as reader:
            assert "pixels" in said_by(reader)["error"]


def test_an_announced_gigabyte_ends_that_connection(serve, client_folder):
    for name in FRAMED:
        port = serve(name)
        with connect(port) as bad, bad.makefile("rb") as reader:
            bad.sendall(GIGABYTE)
            said = reader.read()  # up to its end: the server hangs up
            assert b"bytes announced" in said


def test_a_slow_client_holds_up_nobody(port, name, good):
    with undisturbed(port, name, good), connect(port) as slow:
        for byte in good[:-1][:5]:
            slow.sendall(bytes([byte]))
            time.sleep(0.05)


def test_a_client_that_never_reads_holds_up_nobody(port, name, good):
    with undisturbed(port, name, good), connect(port) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(0.3)
        refused = (b"x\n" if name in LINED else struct.pack(">I", 1) + b"x") * 100_000
        with contextlib.suppress(OSError):
            deaf.sendall(refused)


def test_many_idle_connections_hold_up_nobody(port, name, good):
    with contextlib.ExitStack() as stack, undisturbed(port, name, good):
        for _ in range(3 * MOST_CLIENTS):
            stack.enter_context(connect(port))
        with connect(port) as late, late.makefile("rb") as reader:
            late.sendall(b"\xff" * 4 if name in FRAMED else b"?\n")
            assert b"error" in (reader.read() if name in FRAMED else reader.readline())


def test_the_one_who_is_let_go_is_never_one_who_talks(port, name, good):
    with (
        connect(port) as talking,
        talking.makefile("rb") as reader,
        contextlib.ExitStack() as stack,
    ):
        for turn in range(1, 6):
            talking.sendall(good)
            assert count_of(reader, name) == turn
            for _ in range(MOST_CLIENTS // 2):
                stack.enter_context(connect(port))
