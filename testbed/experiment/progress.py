"""What a person sees while an experiment is prepared and runs: a bar, and a plain line per step."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm.auto import tqdm


class Steps:
    """A bar over a known number of steps; every step leaves a plain line behind.

    Parameters
    ----------
    total : int
        Number of steps.
    quiet : bool
        Say nothing at all.
    """

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._began_s = time.monotonic()
        self._step = ""
        self._bar = tqdm(
            total=total,
            disable=quiet or not sys.stderr.isatty(),
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} {postfix}",
            leave=False,
        )

    def next(self, step: str) -> None:
        """Begin the next step."""
        self._finish()
        self._step = step
        self.say(step)

    def detail(self, text: str) -> None:
        """Something about the current step, shown beside the bar only."""
        self._bar.set_postfix_str(text[:60])

    def say(self, text: str) -> None:
        """A plain line."""
        if not self._quiet:
            elapsed_s = time.monotonic() - self._began_s
            tqdm.write(f"[{elapsed_s:5.1f} s] {text}", file=sys.stderr)

    def _finish(self) -> None:
        if self._step:
            self._bar.update(1)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the last step and take the bar away."""
        if kind is None:
            self._finish()
        self._bar.close()
