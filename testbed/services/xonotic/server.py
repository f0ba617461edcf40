r"""A match with bots on a DarkPlaces server, and a counter at its door.

The game is the real one, and players connect to it at `GAME_PORT`. Beside it, on the service's
port, every datagram ``SEQUENCE\n`` is counted and answered with ``SEQUENCE {"count",
"processing_s", "map", "time_s", "players": {NAME: SCORE}}\n``: what the game says of itself at that
moment. Anything else is answered with ``error REASON\n`` and not counted. Standard library only.
"""

import argparse
import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

GAME_PORT = 26000
OUT_OF_BAND = b"\xff\xff\xff\xff"
LONGEST_REQUEST = 32
MOST_WAITING = 256
PATIENCE_S = 3.0
ASK_AGAIN_S = 0.1
NEXUIZ = Path("/usr/games/darkplaces-server")
_PLAYER = re.compile(r'^(-?\d+) -?\d+(?: -?\d+)? "(.*)"$', re.MULTILINE)
_TIME = re.compile(rb"^n(?:\^\d)?time: *(?:\^\d)?(-?[\d.]+)", re.MULTILINE)


@dataclass(frozen=True)
class Status:
    """What the game said of itself."""

    map: str
    time_s: float
    players: dict[str, int]


def read_status(answer: bytes) -> tuple[str, dict[str, int]]:
    """Map and players' scores in an answer to ``getstatus``; players of one name are numbered.

    Raises
    ------
    ValueError
        If it is none.
    """
    kind, _, rest = answer.removeprefix(OUT_OF_BAND).partition(b"\n")
    text = rest.decode("utf-8", "replace")
    if kind != b"statusResponse":
        raise ValueError(f"not a status: {answer[:40]!r}")
    facts = text.partition("\n")[0].split("\\")[1:]
    named = dict(zip(facts[::2], facts[1::2], strict=False))
    players: dict[str, int] = {}
    for score, name in _PLAYER.findall(text):
        number = sum(known.partition("#")[0] == name for known in players)
        players[f"{name}#{number + 1}" if number else name] = int(score)
    return named.get("mapname", ""), players


class Game:
    """A dedicated server, started here, and questions to it.

    Parameters
    ----------
    command : list of str
        Program with its own options; ours are put behind it.
    port : int
        Where players connect.
    """

    def __init__(self, command: list[str], *, port: int, bots: int, level: str) -> None:
        self._password = secrets.token_hex(8)
        self._folder = tempfile.mkdtemp(prefix="game-")
        options: dict[str, object] = {
            "sv_public": 0,
            "port": port,
            "maxplayers": max(16, bots + 2),
            "bot_number": bots,
            "bot_join_empty": 1,
            "net_getstatusfloodblockingtimeout": 0,
            "rcon_secure": 0,
            "rcon_password": self._password,
            "timelimit_override": -1,
            "fraglimit_override": -1,
            "map": level,
        }
        said = [word for name, value in options.items() for word in (f"+{name}", str(value))]
        self.process = subprocess.Popen(
            [*command, "-userdir", self._folder, *said],
            cwd=Path(command[0]).parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._line.connect(("127.0.0.1", port))

    def wait_until_it_plays(self, patience_s: float = 120.0) -> None:
        """Return when the match has begun, without a limit of time or score.

        Raises
        ------
        TimeoutError, ChildProcessError
            If it does not begin, or the game ends.
        """
        deadline_s = time.monotonic() + patience_s
        while time.monotonic() < deadline_s:
            if self.process.poll() is not None:
                raise ChildProcessError(f"the game ended with {self.process.returncode}")
            try:
                if self.status().players:
                    for limit in ("timelimit", "fraglimit"):
                        self._rcon(f"{limit} 0")
                    return
            except (OSError, ValueError):
                time.sleep(0.2)
        raise TimeoutError(f"no match within {patience_s} s")

    def status(self) -> Status:
        """Ask the game for time and scores; again where a datagram is lost.

        A checkpoint holds no datagram that waits to be read, so one is lost now and then in a move.

        Raises
        ------
        OSError
            If it does not answer within `PATIENCE_S`.
        ValueError
            If its answer cannot be understood.
        """
        self._forget_late_answers()
        status, time_s = None, None
        deadline_s = time.monotonic() + PATIENCE_S
        while status is None or time_s is None:
            if time.monotonic() >= deadline_s:
                raise TimeoutError(f"no answer within {PATIENCE_S} s")
            self._line.send(OUT_OF_BAND + b"getstatus")
            self._rcon("prvm_global server time")
            for answer in self._answers():
                if found := _TIME.search(answer.removeprefix(OUT_OF_BAND)):
                    time_s = float(found[1])
                elif answer.startswith(OUT_OF_BAND + b"statusResponse"):
                    status = read_status(answer)
                if status is not None and time_s is not None:
                    break
        return Status(status[0], time_s, status[1])

    def end(self) -> None:
        """End the game."""
        self.process.kill()
        self.process.wait()

    def _answers(self) -> Iterator[bytes]:
        """What the game says, until it has been silent for `ASK_AGAIN_S`."""
        self._line.settimeout(ASK_AGAIN_S)
        with contextlib.suppress(TimeoutError):
            while True:
                yield self._line.recv(65536)

    def _forget_late_answers(self) -> None:
        """Read away what came after the last question had been given up or asked twice."""
        self._line.settimeout(0.0)
        with contextlib.suppress(OSError):
            while True:
                self._line.recv(65536)

    def _rcon(self, words: str) -> None:
        self._line.send(OUT_OF_BAND + f"rcon {self._password} {words}".encode())


class Door:
    """Counts requests and answers them; ``count`` is state that moves.

    Parameters
    ----------
    line : socket
        Bound, for datagrams.
    ask : callable
        Gives the game's status.
    """

    def __init__(self, line: socket.socket, ask: Callable[[], Status]) -> None:
        self.count = 0
        self._line = line
        self._ask = ask

    def turn(self) -> None:
        """Wait for requests, ask the game once, answer all that have come."""
        self._line.settimeout(None)
        requests = [self._line.recvfrom(LONGEST_REQUEST + 1)]
        began_s = time.perf_counter()
        self._line.settimeout(0.0)
        while len(requests) < MOST_WAITING:
            try:
                requests.append(self._line.recvfrom(LONGEST_REQUEST + 1))
            except OSError:  # nothing more, or what an earlier asker's host answered
                break
        status, problem = None, "the game does not answer"
        if any(is_request(words) for words, _ in requests):
            try:
                status = self._ask()
            except (OSError, ValueError) as error:
                problem = f"the game: {error}"
        took_s = round(max(time.perf_counter() - began_s, 0.0), 6)
        for words, asker in requests:
            self._answer(words, asker, status, problem, took_s)

    def _answer(
        self,
        words: bytes,
        asker: tuple[str, int],
        status: Status | None,
        problem: str,
        took_s: float,
    ) -> None:
        if not is_request(words):
            answer = b"error not a sequence number\n"
        elif status is None:
            answer = f"error {problem}\n".encode()
        else:
            self.count += 1
            said = {"count": self.count, "processing_s": took_s, "map": status.map,
                    "time_s": status.time_s, "players": status.players}  # fmt: skip
            answer = words.strip() + b" " + json.dumps(said).encode() + b"\n"
        try:
            self._line.sendto(answer, asker)
        except OSError:  # it cannot be reached; it is the only one that loses anything
            return


def is_request(words: bytes) -> bool:
    """Whether a datagram is a sequence number in a line."""
    return len(words) <= LONGEST_REQUEST and words.endswith(b"\n") and words[:-1].isdigit()


def command(models: Path) -> list[str]:
    """Xonotic where it was built in, Nexuiz otherwise."""
    xonotic = models / "xonotic" / "xonotic-linux64-dedicated"
    if xonotic.exists():
        return [str(xonotic), "-basedir", str(xonotic.parent)]
    return [str(NEXUIZ), "-nexuiz", "-basedir", "/usr/share/games/nexuiz"]


def main() -> None:
    """Start the game and stand at its door."""
    parser = argparse.ArgumentParser(description="Run a match and tell how it stands.")
    parser.add_argument("--address", default="0.0.0.0")  # noqa: S104 - inside a container
    parser.add_argument("--port", type=int, default=8005, help="0 takes a free one and prints it")
    parser.add_argument("--game-port", type=int, default=GAME_PORT)
    parser.add_argument("--bots", type=int, default=6)
    parser.add_argument("--map", default="stormkeep")
    parser.add_argument("--models", type=Path, default=Path(__file__).parent / "models")
    options = parser.parse_args()
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.bind((options.address, options.port))
    game = Game(
        command(options.models), port=options.game_port, bots=options.bots, level=options.map
    )

    def end(*_: object) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # its end is wanted now
        game.end()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGCHLD, lambda *_: game.process.poll() is not None and os._exit(3))
    try:
        game.wait_until_it_plays()
    except (TimeoutError, ChildProcessError) as error:
        game.end()
        sys.exit(str(error))
    if options.port == 0:
        print(line.getsockname()[1], flush=True)  # noqa: T201 - for tests
    door = Door(line, game.status)
    while True:
        door.turn()


if __name__ == "__main__":
    main()
