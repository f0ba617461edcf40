"""How a move ends at its source, whoever has to end it: its leader, or who takes over from that."""

import contextlib
import fcntl
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from . import claim, container, netlink
from .channel import ChannelClosedError, DamagedError, Line, RemoteFailureError
from .container import Holder
from .spec import Spec
from .states import RETRY_S, TRUST_S, Progress, State

FOLDERS = ("img", "sent", claim.FOLDER)
LONGEST_REACH_S = 3
"""To get through to the target again."""


class BeingMovedError(RuntimeError):
    """A service is asked to move while another move of it is under way."""


@dataclass(frozen=True)
class Ending:
    """What it takes to end a move of one service.

    address, command : where the target's half is, and how it is called.
    route : the device that leads to the target.
    """

    spec: Spec
    address: str
    command: tuple[str, ...]
    route: str

    def to_json(self) -> dict[str, Any]:
        """As it is handed to the deputy."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Ending":
        """As the deputy takes it."""
        spec = Spec.from_json(content["spec"])
        return cls(spec, content["address"], tuple(content["command"]), content["route"])

    def stay(self, progress: Progress) -> None:
        """The service goes on here."""
        if progress.over:
            return
        try:
            if progress.still:
                netlink.unsilence(self.spec.device)
                netlink.replace_route(self.spec.address, self.spec.device)
        finally:
            Holder.load(self.spec.name).thaw()  # a round may have stopped it for a moment, too
        for folder in FOLDERS:
            shutil.rmtree(self.spec.scratch / folder, ignore_errors=True)
        progress.to(State.DROPPED)

    def leave(self, progress: Progress) -> None:
        """The service lives at the target: end the copy here, lead packets there."""
        if progress.over:
            return
        with contextlib.suppress(KeyError):
            Holder.load(self.spec.name).kill()
        container.destroy(self.spec.name)
        netlink.replace_route(self.spec.address, self.route)
        progress.to(State.MOVED)

    def ask(self, progress: Progress) -> bool | None:
        """Ask the target over a new line to keep the service; None where it cannot be asked.

        False means that it does not have the service, whole, and never will.
        """
        line = Line(self.address, list(self.command), connect_s=LONGEST_REACH_S)
        try:
            answer = line.channel.ask({"message": "resume", "service": self.spec.name})
            if not answer["here"]:
                return False
            if progress.state is not State.UNDECIDED:
                progress.to(State.UNDECIDED)
            line.channel.ask({"message": "confirm"})
        except (ChannelClosedError, DamagedError, RemoteFailureError):
            return None
        finally:
            line.close()
        return True

    def ask_until(self, progress: Progress, until_s: float) -> bool | None:
        """Go on asking until ``until_s`` (monotonic), at least once; None where nobody answers."""
        while (said := self.ask(progress)) is None and time.monotonic() < until_s:
            time.sleep(min(RETRY_S, max(0.0, until_s - time.monotonic())))
        return said

    def settle_alone(self, progress: Progress, hung_up_s: float) -> None:
        """End a move with nobody to ask but the target.

        As long as the target cannot have been told to keep the service, the service goes on here
        once a restored one there has stopped by itself. Else it stands still until the target
        can be asked: it may run there.

        Parameters
        ----------
        progress : Progress
            Where the move is.
        hung_up_s : float
            When the line to the target was hung up, or broke for good (monotonic).
        """
        moved: bool | None = False
        if progress.told:
            moved = self.ask_until(progress, hung_up_s + TRUST_S)
            while moved is None and progress.state is State.UNDECIDED:
                moved = self.ask_until(progress, time.monotonic() + RETRY_S)
        if moved:
            self.leave(progress)
        else:
            self.stay(progress)


@contextlib.contextmanager
def only_move(name: str) -> Iterator[int]:
    """Let nobody else on this edge move this service away; the lock's descriptor.

    Raises
    ------
    BeingMovedError
        If somebody does.
    """
    container.STATE.mkdir(parents=True, exist_ok=True)
    with (container.STATE / f"{name}.moving").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BeingMovedError(
                f"service {name!r} is being moved already; drop that move first, or wait for it"
            ) from None
        yield lock.fileno()
