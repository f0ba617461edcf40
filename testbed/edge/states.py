"""The states of a migration as the source knows them: one table, the whole of what can happen.

Whoever leads a move (`edge.source`) and whoever takes over from it (`edge.deputy`) go through
`Progress`, which lets nothing happen that the table does not name. ``docs/architecture.md`` shows
the same table; a test holds the two against each other.

Point of no return: the target has taken ``confirm``. Until the source has sent it, the restored
service lives at the target on trust only: it stops by itself when it does not hear from the source
for `PATIENCE_S`, and the source lets its own copy go on no sooner than `TRUST_S` after it hung up.
So never two answer. Between ``confirm`` and its answer (``undecided``) only the target knows; the
source stays frozen, not dead, and asks until it is told.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from .channel import PATIENCE_S

SOON_S = 2.0
"""After a restore that took longer the target hears the source again before it lets packets in."""
TRUST_S = PATIENCE_S + SOON_S + 2.0
"""After the source hung up, a service that was restored on trust has stopped by then."""
LONGEST_CRIU_S = 30.0
"""A dump or a restore that takes longer has failed."""
RETRY_S = 2.0
"""Rest between two tries to ask the target."""


class State(StrEnum):
    """Where a migration is."""

    NEW = "new"
    OPENED = "opened"
    AHEAD = "ahead"
    FROZEN = "frozen"
    SENT = "sent"
    ANSWERED = "answered"
    UNDECIDED = "undecided"
    MOVED = "moved"
    DROPPED = "dropped"


@dataclass(frozen=True)
class Row:
    """What is true in a state.

    meaning : what brings it about. runs : where the service answers. decides : who decides when
    something fails from here, and what then happens. limit_s : how long that takes at most from
    the moment in which a line falls silent; ``inf`` where it takes until the target can be asked.
    then : the states that may follow.
    """

    meaning: str
    runs: str
    decides: str
    limit_s: float
    then: tuple[State, ...] = ()


_HANGING_UP_S = PATIENCE_S + 1.0
_ASKING_S = _HANGING_UP_S + TRUST_S + 7.0
TABLE: dict[State, Row] = {
    State.NEW: Row(
        "the move is made",
        "source",
        "nothing happened",
        0.0,
        (State.OPENED, State.DROPPED),
    ),
    State.OPENED: Row(
        "line open; holder, CRIU and hold ready at the target; CRIU ready at the source",
        "source",
        "source: it drops the move; the target, its line gone, removes its holder; the service "
        "never notices",
        0.0,
        (State.AHEAD, State.FROZEN, State.DROPPED),
    ),
    State.AHEAD: Row(
        "a round of memory and files was sent; rounds repeat until the move",
        "source",
        "source: the same",
        0.0,
        (State.AHEAD, State.FROZEN, State.DROPPED),
    ),
    State.FROZEN: Row(
        "cgroup frozen, packets led to the target, CRIU dumps, what the target lacks is sent",
        "nowhere",
        "source: thaw, routes back; the target removes its holder",
        _HANGING_UP_S,
        (State.SENT, State.DROPPED),
    ),
    State.SENT: Row(
        "the target is told to restore",
        "nowhere, or the target on trust",
        "the target says that it failed: as above. The line breaks: the source asks over a new "
        "one; a whole service goes on at the target, else the source's; so it does if the target "
        "cannot be asked",
        _ASKING_S,
        (State.ANSWERED, State.UNDECIDED, State.DROPPED),
    ),
    State.ANSWERED: Row(
        "the target says that the service was restored and packets were let in",
        "target on trust",
        "the same",
        _ASKING_S,
        (State.UNDECIDED, State.DROPPED),
    ),
    State.UNDECIDED: Row(
        "all memory is there; the target is told to keep the service (`confirm`)",
        "target, or nowhere",
        "the target, which is asked until it answers, by the source and by the controller",
        float("inf"),
        (State.MOVED, State.DROPPED),
    ),
    State.MOVED: Row(
        "the target has said that it keeps the service; the source ends its copy",
        "target",
        "nothing is left to decide",
        0.0,
    ),
    State.DROPPED: Row(
        "the move was given up or rolled back",
        "source",
        "nothing is left to decide",
        0.0,
    ),
}
STILL = frozenset({State.FROZEN, State.SENT, State.ANSWERED, State.UNDECIDED})
"""In these the source's copy stands still."""
TOLD = frozenset({State.SENT, State.ANSWERED, State.UNDECIDED})
"""In these the target may have the service, too."""
OVER = frozenset({State.MOVED, State.DROPPED})


class IllegalTransitionError(RuntimeError):
    """A move was about to do what its state does not allow."""


class Progress:
    """The state of one move.

    Parameters
    ----------
    state : State
        Where it begins.
    tell : callable
        Told of each new state before anything is done in it; of the last one when all is done.
    """

    def __init__(
        self, state: State = State.NEW, tell: Callable[[State], None] = lambda _: None
    ) -> None:
        self.state = state
        self._tell = tell

    def to(self, state: State) -> None:
        """Go on to another state.

        Raises
        ------
        IllegalTransitionError
            If it does not follow from the present one.
        """
        if state not in TABLE[self.state].then:
            follow = ", ".join(TABLE[self.state].then) or "nothing"
            raise IllegalTransitionError(
                f"a move cannot become {state} while it is {self.state}; what follows: {follow}"
            )
        self.state = state
        self._tell(state)

    @property
    def still(self) -> bool:
        """Whether the source's copy stands still."""
        return self.state in STILL

    @property
    def told(self) -> bool:
        """Whether the target may have the service, too."""
        return self.state in TOLD

    @property
    def over(self) -> bool:
        """Whether nothing is left to decide."""
        return self.state in OVER


def as_table() -> str:
    """The table as the documentation shows it (Markdown)."""
    head = ("state", "what brings it about", "service runs at", "if something fails", "within")
    lines = [head, ("---",) * len(head)]
    for state, row in TABLE.items():
        within = "-" if not row.limit_s else f"{row.limit_s:.0f} s"
        if row.limit_s == float("inf"):
            within = "until it can be asked"
        lines.append((f"`{state}`", row.meaning, row.runs, row.decides, within))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
