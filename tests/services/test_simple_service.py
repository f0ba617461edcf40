import socket
import threading
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.services import probe
from testbed.services.simple.client import Lines
from testbed.services.simple.server import Memory


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    return connection, connection.makefile("rb")


def ask(port, content, lines=1):
    connection, reader = connect(port)
    with connection, reader:
        connection.sendall(content)
        return [reader.readline() for _ in range(lines)]


def test_all_answers_of_an_undisturbed_run_are_right(serve, use):
    run = use("simple", serve("simple"), "--interval-s", "0.005", stop_after_s=1.5)
    assert run.code == 0
    assert run.summary["sent"] == run.summary["answered"] == len(run.rows) > 20
    assert run.summary["wrong"] == run.summary["lost"] == 0
    counts = [int(row["count"]) for row in run.rows]
    assert counts == list(range(1, len(counts) + 1))
    for row in run.rows:
        took_s = float(row["answered_epoch_s"]) - float(row["sent_epoch_s"])
        assert took_s == pytest.approx(float(row["delay_s"]), abs=2e-6)
        assert row["correct"] == "1"
        assert float(row["sent_epoch_s"]) == pytest.approx(time.time(), abs=60)
        assert 0 <= float(row["processing_s"]) <= float(row["delay_s"])


def test_rows_can_be_read_while_the_client_runs(serve, use, tmp_path):
    port = serve("simple")
    seen, running = [], [True]

    def look():
        for _ in range(100):
            time.sleep(0.05)
            rows = tmp_path / "rows.csv"
            if rows.exists() and rows.read_text().count("\n") > 20:
                seen.append(bool(running))
                return

    watcher = threading.Thread(target=look)
    watcher.start()
    use("simple", port, "--interval-s", "0.01", stop_after_s=3.0)
    running.clear()
    watcher.join()
    assert seen == [True]


def test_the_count_goes_on_over_clients(serve, use):
    port = serve("simple")
    assert use("simple", port, "--requests", "3").rows[-1]["count"] == "3"
    assert use("simple", port, "--requests", "3").rows[0]["count"] == "4"


@pytest.mark.parametrize(
    "content",
    [b"hello\n", b"\n", b"-1\n", b"\xff\xfe\n", b"1 2\n", b"9" * 100 + b"\n", b"x" * 100_000],
)
def test_garbage_gets_an_error_and_disturbs_nobody(serve, content):
    port = serve("simple")
    good, reader = connect(port)
    with good, reader:
        good.sendall(b"1\n")
        assert reader.readline().startswith(b"1 1 ")
        assert ask(port, content)[0].startswith(b"error ")
        good.sendall(b"2\n")
        assert reader.readline().startswith(b"2 2 ")


def test_the_line_after_an_overlong_one_is_understood(serve):
    said = ask(serve("simple"), b"x" * 100_000 + b"\n7\n", lines=2)
    assert said[0] == b"error line too long\n"
    assert said[1].startswith(b"7 1 ")


def test_abrupt_and_half_said_endings_disturb_nobody(serve):
    port = serve("simple")
    for _ in range(20):
        connection, reader = connect(port)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.sendall(b"1\n" * 50 + b"12")
        reader.close()
        connection.close()
    assert ask(port, b"5\n")[0].startswith(b"5 ")


def test_a_client_that_never_reads_is_let_go(serve):
    port = serve("simple")
    deaf, reader = connect(port)
    with deaf, reader:
        deaf.settimeout(0.5)
        with pytest.raises(OSError):
            deaf.sendall(b"1\n" * 10_000_000)
    assert ask(port, b"5\n")[0].startswith(b"5 ")


def test_the_checksum_stays_while_the_other_half_is_rewritten(serve):
    port = serve("simple", "--memory-mb", "8", "--rewrite-mb-per-s", "50")
    first = ask(port, b"checksum\n")[0].split()
    assert first[0] == b"checksum"
    assert int(first[2]) == pytest.approx(4e6, rel=0.01)
    time.sleep(0.3)
    assert ask(port, b"checksum\n")[0].split() == first


def test_without_memory_there_is_still_a_checksum(serve):
    assert ask(serve("simple"), b"checksum\n") == [b"checksum 00000000 0\n"]


def test_memory_is_rewritten_at_its_rate_and_only_in_its_second_half():
    memory = Memory(2.0, 4.0)
    before = bytes(memory.content)
    end = time.monotonic() + 0.25
    while time.monotonic() < end:
        memory.rewrite()
        time.sleep(0.005)
    static = memory.static_bytes
    assert zlib.crc32(memory.content[:static]) == zlib.crc32(before[:static])
    pages = range(static, len(before), 4096)
    changed = sum(
        before[page : page + 4096] != memory.content[page : page + 4096] for page in pages
    )
    assert 0.1e6 < changed * 4096 <= 1.01e6


def test_a_clock_that_jumps_rewrites_neither_backwards_nor_all_at_once(monkeypatch):
    memory = Memory(1.0, 1.0)
    now = time.monotonic()
    for jump_s, most in ((-1e6, 0), (1e6, 0.11e6)):
        monkeypatch.setattr(time, "monotonic", lambda jump_s=jump_s: now + jump_s)
        before = bytes(memory.content)
        memory.rewrite()
        assert sum(a != b for a, b in zip(before, memory.content, strict=True)) <= most


def talk(*replies):
    """A handler that answers the n-th line of a connection with the n-th reply, then hangs up."""

    def handle(connection):
        reader = connection.makefile("rb")
        for reply in replies:
            sequence = int(reader.readline())
            connection.sendall(reply(sequence) if callable(reply) else reply)

    return handle


def right(count):
    return lambda sequence: f"{sequence} {count} 1\n".encode()


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        ([right(1), right(3)], "count 3 instead of 2"),
        ([right(1), right(1)], "count 1 instead of 2"),
        ([right(1), b"9 2 1\n"], "an answer to 9, which was not asked"),
        ([right(1), b"2 x 1\n"], "not an answer: '2 x 1'"),
        ([right(1), b"y" * 10_000], "not an answer: 'yyy"),
        ([right(1), b""], "connection lost"),
    ],
)
def test_a_wrong_server_makes_the_client_fail(fake, use, replies, error):
    port = fake(talk(*replies))
    run = use("simple", port, "--requests", "2", "--interval-s", "0.05")
    assert run.code == 1
    assert any(said.startswith(error) for said in run.errors), run.errors


def test_an_answer_that_never_comes_is_recorded(fake, use):
    def handle(connection):
        talk(right(1))(connection)
        time.sleep(10)

    began_s = time.monotonic()
    run = use("simple", fake(handle), "--requests", "2", "--interval-s", "0.05")
    assert run.code == 1
    assert run.errors == ["no answer"]
    assert run.summary["lost"] == 1
    assert 3.0 <= time.monotonic() - began_s < 15.0


def test_requests_go_out_while_answers_are_outstanding(fake, use):
    def handle(connection):
        time.sleep(0.5)
        reader = connection.makefile("rb")
        for count in range(1, 31):
            connection.sendall(right(count)(int(reader.readline())))

    run = use("simple", fake(handle), "--requests", "30", "--interval-s", "0.02")
    assert run.code == 0
    first_answer_s = float(run.rows[0]["answered_epoch_s"])
    before = [row for row in run.rows if float(row["sent_epoch_s"]) < first_answer_s]
    assert len(before) > 5
    assert float(before[0]["delay_s"]) > float(before[5]["delay_s"])
    assert all(float(row["delay_s"]) > 0 for row in run.rows)


def test_a_reconnect_is_recorded_and_the_count_goes_on(fake, use):
    port = fake(talk(right(1), right(2)), talk(right(3), right(4)))
    run = use("simple", port, "--requests", "4", "--interval-s", "0.1", "--reconnect")
    assert run.code == 0, run.errors
    assert run.summary["reconnects"] == 1
    events = [row for row in run.rows if row["sequence"] == "-1"]
    assert [row["error"].split(":")[:2] for row in events] == [["event", " reconnected"]]
    assert events[0]["correct"] == "0"


def test_a_count_lost_over_a_reconnect_is_noticed(fake, use):
    port = fake(talk(right(1), right(2)), talk(right(4), right(5)))
    run = use("simple", port, "--requests", "4", "--interval-s", "0.1", "--reconnect")
    assert run.code == 1
    assert "count 4 instead of 3" in run.errors


def test_a_service_that_is_not_there_is_said_to_be(use, capfd):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    run = use("simple", port, "--connect-s", "0.2")
    assert run.code == 1
    assert "cannot be reached" in capfd.readouterr().err


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_in_any_pieces_give_the_same_answers(content, cut):
    whole, pieces = Lines(), Lines()
    said = whole.hear(content)
    parts = pieces.hear(content[:cut]) + pieces.hear(content[cut:])
    assert repr(parts) == repr(said)
    assert all(isinstance(answer, probe.Answer) for answer in said)
