"""Ends a move whose leader died: ``python3 -m edge.deputy``, started when the move is opened.

It reads on its standard input what it takes to end the move (`edge.ending`), and then each state
before the leader does anything in it. When the leader is gone and the move is not over, it does
what the table of states says (`edge.states`).
"""

import contextlib
import json
import subprocess
import sys
import time

from .ending import Ending
from .states import Progress, State


class Deputy:
    """The leader's end: tells its deputy how far the move is.

    Parameters
    ----------
    ending : Ending
        What it takes to end the move.
    lock : int
        The descriptor of `only_move`: no other move begins before this one is over.
    """

    def __init__(self, ending: Ending, lock: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            pass_fds=[lock],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._write(json.dumps(ending.to_json()))

    def tell(self, state: State) -> None:
        """The move comes to another state."""
        self._write(state.value)

    def dismiss(self) -> None:
        """The move is over."""
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()

    def _write(self, line: str) -> None:
        if self._process.stdin is None:  # pragma: no cover - a pipe was asked for
            raise RuntimeError("pipes were asked for")
        with contextlib.suppress(BrokenPipeError):  # no deputy is no reason to stop
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()


def take_over(ending: Ending, state: State) -> None:
    """End a move that its leader left in this state."""
    progress = Progress(state)
    if not progress.over:
        ending.settle_alone(progress, time.monotonic())


def main() -> None:
    """Wait until the leader is gone."""
    ending = Ending.from_json(json.loads(sys.stdin.readline()))
    state = State.NEW
    for line in sys.stdin:
        state = State(line.strip())
    take_over(ending, state)


if __name__ == "__main__":
    main()
