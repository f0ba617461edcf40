import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import ServiceError
from testbed.services.service import find_service
from testbed.services.xonotic import trim
from testbed.services.xonotic.client import Match
from testbed.services.xonotic.server import OUT_OF_BAND, is_request, read_status

GAME = f"#!{sys.executable}\n" + textwrap.dedent("""
    # Speaks as a DarkPlaces server does; "mute" makes it stop answering, "deaf" makes it miss the
    # next two datagrams, "end" makes it end.
    import socket, sys, time
    options = dict(zip(sys.argv, sys.argv[1:]))
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.bind(("127.0.0.1", int(options["+port"])))
    began, mute, missing = time.monotonic(), False, 0
    players = [b'%d 0 "[BOT]%d"' % (n, n // 2) for n in range(int(options["+bot_number"]))]
    head = b"\\xff\\xff\\xff\\xff"
    while True:
        words, asker = line.recvfrom(2000)
        mute = mute or words == b"mute"
        if words == b"end":
            sys.exit(7)
        if words == b"deaf":
            missing = 3
        missing = max(missing - 1, -1)
        if mute or missing >= 0:
            continue
        if words == head + b"getstatus":
            facts = b"\\\\gamename\\\\Game\\\\mapname\\\\" + options["+map"].encode()
            line.sendto(head + b"statusResponse\\n" + b"\\n".join([facts, *players, b""]), asker)
        elif words == head + f"rcon {options['+rcon_password']} prvm_global server time".encode():
            line.sendto(head + b"ntime: %f\\n" % (time.monotonic() - began), asker)
""")


@pytest.fixture
def archive(tmp_path):
    """An archive such as Xonotic's, with a small game in it."""
    path = tmp_path / "xonotic.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("Xonotic/xonotic-linux64-dedicated", GAME)
        for name in ("data/xonotic-data.pk3", "data/xonotic-music.pk3", "data/x.txt",
                     "key_0.d0pk", "xonotic-linux64-sdl", "../evil.d0pk"):  # fmt: skip
            file.writestr(f"Xonotic/{name}", name)
    return path


@pytest.fixture
def game_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def door(archive, game_port, tmp_path):
    """The server with the small game behind it; its process and port."""
    with find_service("xonotic").build_context(tmp_path, {"archive": str(archive)}) as folder:
        command = [sys.executable, folder / "server.py", "--address", "127.0.0.1", "--port", "0",
                   "--game-port", str(game_port), "--bots", "4"]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process, int(process.stdout.readline())
            finally:
                process.terminate()


def asking(port):
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.connect(("127.0.0.1", port))
    line.settimeout(5)
    return line


def test_what_a_server_needs_is_taken_out_of_the_archive(archive, tmp_path):
    with find_service("xonotic").build_context(tmp_path, {"archive": str(archive)}) as folder:
        home = folder / "models" / "xonotic"
        found = sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.is_file())
        assert found == ["data/xonotic-data.pk3", "key_0.d0pk", "xonotic-linux64-dedicated"]
        assert os.access(home / "xonotic-linux64-dedicated", os.X_OK)


@pytest.mark.parametrize("content", [b"no zip", None])
def test_another_archive_is_refused(tmp_path, content):
    path = tmp_path / "xonotic.zip"
    if content is None:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("Xonotic/readme", "")
    else:
        path.write_bytes(content)
    with (
        pytest.raises(ServiceError, match=r"zip archive|no xonotic-linux64-dedicated in it"),
        find_service("xonotic").build_context(tmp_path, {"archive": str(path)}),
    ):
        pass


def test_a_match_is_watched_and_counted(door, use):
    run = use("xonotic", door[1], "--requests", "40", "--interval-s", "0.01", "--bots", "4")
    assert run.code == 0, run.errors
    assert [int(row["count"]) for row in run.rows] == list(range(1, 41))
    assert all(0 < float(row["processing_s"]) < float(row["delay_s"]) for row in run.rows)


def test_players_are_told_apart(door):
    with asking(door[1]) as line:
        line.send(b"1\n")
        said = json.loads(line.recv(2000).partition(b" ")[2])
    assert said["players"] == {"[BOT]0": 0, "[BOT]0#2": 1, "[BOT]1": 2, "[BOT]1#2": 3}
    assert said["map"] == "stormkeep"


@pytest.mark.parametrize(
    "bad", [b"", b"\n", b"x\n", b"1", b"-1\n", b"9" * 33 + b"\n", b"\0" * 9999]
)
def test_any_other_datagram_is_an_error_and_not_counted(door, bad):
    with asking(door[1]) as good, asking(door[1]) as other:
        other.send(bad)
        assert other.recv(2000).startswith(b"error ")
        good.send(b"1\n")
        assert b'"count": 1' in good.recv(2000)


def test_a_flood_is_answered_and_holds_up_nobody(door):
    with asking(door[1]) as good, contextlib.ExitStack() as stack:
        for _ in range(100):
            flood = stack.enter_context(asking(door[1]))
            for _ in range(5):
                flood.send(b"?" * 1000)
        good.send(b"1\n")
        assert b'"count": 1' in good.recv(2000)


def test_an_asker_who_is_gone_disturbs_nobody(door):
    for _ in range(5):
        with asking(door[1]) as gone:
            gone.send(b"1\n")
    time.sleep(0.2)
    with asking(door[1]) as line:
        line.send(b"6\n")
        assert b'"count": 6' in line.recv(2000)


def test_a_game_that_does_not_answer_is_an_error_and_not_counted(door, game_port):
    with asking(game_port) as game, asking(door[1]) as line:
        game.send(b"mute")
        line.send(b"1\n")
        assert line.recv(2000).startswith(b"error the game")


def test_what_is_lost_between_door_and_game_is_asked_again(door, game_port):
    with asking(game_port) as game, asking(door[1]) as line:
        for count in (1, 2):
            game.send(b"deaf")
            line.send(b"1\n")
            assert f'"count": {count}'.encode() in line.recv(2000)


def test_when_the_game_ends_the_service_does(door, game_port):
    process, _ = door
    with asking(game_port) as game:
        game.send(b"end")
        assert process.wait(5) == 3


def test_when_the_service_ends_the_game_does(door, game_port):
    process, _ = door
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    with asking(game_port) as game:
        game.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            game.recv(100)


@given(st.binary(max_size=200))
def test_any_status_is_read_or_refused(content):
    with contextlib.suppress(ValueError):
        read_status(OUT_OF_BAND + content)
    read_status(OUT_OF_BAND + b"statusResponse\n" + content)
    assert is_request(content) == (
        len(content) <= 32 and content[-1:] == b"\n" and content[:-1].isdigit()
    )


START = {"map": "keep", "time_s": 10.0, "players": {"a": 3, "b": 0}}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"time_s": 10.1, "players": {"a": 4, "b": 0, "c": 9}}, ""),
        ({"players": {"a": 2, "b": -1}}, ""),
        ({"time_s": 14.0, "players": {"a": -1, "b": 0}}, ""),
        ({"players": {"a": 0, "b": 0}}, "a has 0 points, and had 3"),
        ({"time_s": 9.9}, "the match is 9.90 s old, and was 10.00 s"),
        ({"map": "other"}, "the match is on other, and was on keep"),
        ({"players": {"a": 3}}, "1 players instead of 2"),
        ({"players": {"a": 3, "c": 0}}, "b dropped out"),
    ],
)
def test_a_match_that_jumps_back_is_noticed(change, problem):
    codec = Match(bots=2)
    assert codec.problem(1, START) == ""
    assert codec.problem(2, {**START, **change}) == problem


def test_the_data_keeps_all_that_a_server_reads(tmp_path):
    kept = {
        "progs.dat": b"x",
        "maps/a.bsp": b"y" * 99,
        "maps/a.waypoints.cache": b"z",
        "A.CFG": b"",
    }
    with zipfile.ZipFile(tmp_path / "in.pk3", "w") as file:
        for name, content in {**kept, "sound/a.ogg": b"1", "gfx/a.TGA": b"2"}.items():
            file.writestr(name, content)
    trim.main(str(tmp_path / "in.pk3"), str(tmp_path / "out.pk3"))
    with zipfile.ZipFile(tmp_path / "out.pk3") as file:
        assert {name: file.read(name) for name in file.namelist()} == kept
