"""MSMF's migration in eleven steps (section 3.4, figure 3): who does what, and what comes next.

Memory that was written is sent again and again while the service runs (s6) until the handoff signal
arrives (s7). Algorithm 1 (lines 9 to 11) does so "based on the threshold": a round begins once
that much memory was written; until then the step waits. The paper does not say what happens if
the signal arrives before the first checkpoint is at the target. Nothing could be restored there
then, so here what is being sent is finished first, and the signal is remembered.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Actor = Literal["client", "cloud", "source", "target", "radio"]


@dataclass(frozen=True)
class Step:
    """One step of figure 3.

    Attributes
    ----------
    name : str
        As in the paper, ``s1`` to ``s11``.
    title : str
        The paper's name for it.
    by : str
        Who does it: the user's ``client``, the ``cloud`` (the centre that decides), the ``source``
        and ``target`` servers, or the ``radio``.
    to : str
        Who gets what it yields; the same as `by` where nothing is sent.
    answers : bool
        Whether the service still answers during it.
    repeats : bool
        Whether it may be done more than once.
    phases : tuple of str
        What the testbed's migrations record of it (`testbed.records.PhaseRecord.phase`).
    """

    name: str
    title: str
    by: Actor
    to: Actor
    answers: bool
    repeats: bool = False
    phases: tuple[str, ...] = ()


STEPS = (
    Step("s1", "send status data", "client", "cloud", answers=True),
    Step("s2", "send target server", "cloud", "source", answers=True),
    Step("s3", "send image data", "source", "target", answers=True, phases=("open",)),
    Step("s4", "pre-dump and trace memory", "source", "source", answers=True, phases=("ahead",)),
    Step("s5", "send checkpoint data", "source", "target", answers=True, phases=("ahead",)),
    Step(
        "s6", "send changed memory", "source", "target",
        answers=True, repeats=True, phases=("ahead",),
    ),
    Step("s7", "handoff signal", "radio", "source", answers=True),
    Step("s8", "stop container", "source", "source", answers=False, phases=("freeze",)),
    Step(
        "s9", "send remaining data", "source", "target",
        answers=False, phases=("scan", "dump", "pages", "files", "gather", "images"),
    ),
    Step(
        "s10", "restore container", "target", "client",
        answers=False, phases=("compose", "restore", "release"),
    ),
    Step("s11", "delete container", "source", "source", answers=True),
)  # fmt: skip
"""All steps in their order; s11 belongs to the source, whose container serves nobody any more."""
BY_NAME = {step.name: step for step in STEPS}
_CHECKPOINT_SENT, _ROUND, _SIGNAL = "s5", "s6", "s7"


def next_step(
    done: str, *, signalled: bool, dirty_bytes: float = 0.0, threshold_bytes: float = 0.0
) -> Step | None:
    """What is to be done after a step; ``None`` for waiting, and after the last.

    Parameters
    ----------
    done : str
        Name of the step that was done last; empty before the first.
    signalled : bool
        Whether the handoff signal has arrived.
    dirty_bytes : float
        Memory written since it was sent last, bytes.
    threshold_bytes : float
        From how much on it is sent again.

    Raises
    ------
    ValueError
        If there is no such step.
    """
    if done and done not in BY_NAME:
        raise ValueError(f"MSMF has no step {done!r}; its steps are s1 to s{len(STEPS)}")
    if done in {_CHECKPOINT_SENT, _ROUND}:
        if signalled:
            return BY_NAME[_SIGNAL]
        return BY_NAME[_ROUND] if dirty_bytes >= threshold_bytes else None
    at = STEPS.index(BY_NAME[done]) + 1 if done else 0
    return STEPS[at] if at < len(STEPS) else None


def order_problems(names: Iterable[str]) -> list[str]:
    """What is wrong with the order of steps that were seen; nothing if it is MSMF's.

    A migration may have stopped early, and may have had no round of s6; no other step may be left
    out, come twice, or come before one that precedes it.
    """
    problems = []
    last = ""
    for name in names:
        if name not in BY_NAME:
            problems.append(f"{name!r} is no step of MSMF")
            continue
        allowed = _followers(last)
        if name not in allowed:
            problems.append(
                f"{name} after {last or 'the start'}; there comes {' or '.join(allowed) or 'none'}"
            )
        last = name
    return problems


def _followers(done: str) -> tuple[str, ...]:
    """Names of the steps that may come after one."""
    after = [
        next_step(done, signalled=signalled, dirty_bytes=1.0, threshold_bytes=1.0)
        for signalled in (False, True)
    ]
    return tuple(dict.fromkeys(step.name for step in after if step is not None))
