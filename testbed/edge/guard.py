"""Who looks after a service's container here when its migration's half at the target dies.

One half at a time makes or decides about a service's container on an edge: it holds the service's
lock (`held`). Its guard is a process of its own that keeps the lock, too, until it has put things
in order, so that nobody takes a service for a whole one whose memory is not all there.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from . import container
from .channel import PATIENCE_S

LONGEST_ALIVE_S = PATIENCE_S + 5.0
"""A half whose line is gone has noticed it and filled memory in by then, or hangs."""
LONGEST_LOCKED_S = 20.0
TURN_S = 0.05


class Guard:
    """Puts a container in order when the process that made this dies.

    Nobody could tell missing pages from pages of zeros: a restored service is ended if its memory
    is not all there. If it is (``whole``), the service is stopped and waits until it is asked for.

    Parameters
    ----------
    name : str
        The service.
    cgroup : Path
        Where its processes live.
    lock : int
        The descriptor of `held`.
    """

    SCRIPT = """
    while read word; do [ "$said" = done ] || said=$word; done
    case "$said" in
    done) exit ;;
    whole) echo 1 > "$0/cgroup.freeze" ;;
    *) echo 1 > "$0/cgroup.kill"; exec "$@" ;;
    esac
    """

    def __init__(self, name: str, cgroup: Path, lock: int) -> None:
        remove = "import sys; from edge import container; container.destroy(sys.argv[1])"
        self._process = subprocess.Popen(
            ["sh", "-c", self.SCRIPT, str(cgroup), sys.executable, "-c", remove, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[lock],
            start_new_session=True,
        )

    def say(self, word: str) -> None:
        """Tell how things are now; after ``done`` nothing else counts."""
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError, ValueError):  # ValueError: dismissed
                self._process.stdin.write(f"{word}\n".encode())
                self._process.stdin.flush()

    def dismiss(self) -> None:
        """Everything is in order."""
        self._process.communicate(b"done\n")


@contextlib.contextmanager
def held(name: str, *, longest_s: float | None = None) -> Iterator[int]:
    """Be the only one on this edge that makes or decides about a service's container here.

    Parameters
    ----------
    name : str
        The service.
    longest_s : float, optional
        How long whoever has the lock may rightly keep it. Without it a half that does not let go
        soon is taken to hang, and is ended: its source has given it up, or nobody would ask.

    Raises
    ------
    TimeoutError
        If whoever has the lock does not let it go even so.
    """
    container.STATE.mkdir(parents=True, exist_ok=True)
    with (container.STATE / f"{name}.lock").open("a+", encoding="utf-8") as lock:
        began_s, ended = time.monotonic(), False
        while not _locked(lock.fileno()):
            waited_s = time.monotonic() - began_s
            if longest_s is None and waited_s > LONGEST_ALIVE_S and not ended:
                ended = _end(name)
            if waited_s > (longest_s or LONGEST_LOCKED_S):
                raise TimeoutError(
                    f"another migration of {name!r} to this edge does not end; "
                    f"`fuser {lock.name}` names who holds it"
                )
            time.sleep(TURN_S)
        owner = container.STATE / f"{name}.owner"
        owner.write_text(str(os.getpid()), encoding="utf-8")
        yield lock.fileno()
        owner.unlink(missing_ok=True)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end(name: str) -> bool:
    """End the half that holds a service's lock; its guard then puts things in order."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((container.STATE / f"{name}.owner").read_text(encoding="utf-8"))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if pid != os.getpid() and b"edge.target" in words:
            os.kill(pid, signal.SIGKILL)
    return True
