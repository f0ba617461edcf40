"""Where the time of a migration goes: phases with their times of day and bytes."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

Phase = dict[str, Any]


class Timeline:
    """The phases of one migration, in the order in which they began.

    Parameters
    ----------
    sent_bytes : callable
        How many bytes have gone to the other edge until now.
    """

    def __init__(self, sent_bytes: Callable[[], int]) -> None:
        self.phases: list[Phase] = []
        self._sent_bytes = sent_bytes

    @contextlib.contextmanager
    def phase(self, name: str, *, frozen: bool) -> Iterator[Phase]:
        """Whatever is done in this block is one phase at the source; what it sent is counted."""
        start_s, before = time.time(), self._sent_bytes()
        phase = self.note(name, start_s, start_s, 0, frozen=frozen)
        try:
            yield phase
        finally:
            phase["end_s"] = time.time()
            if not phase["bytes"]:
                phase["bytes"] = self._sent_bytes() - before

    def note(
        self,
        name: str,
        start_s: float,
        end_s: float,
        size: int,
        *,
        where: str = "source",
        frozen: bool,
        detail: str = "",
    ) -> Phase:
        """Write down a phase that is over."""
        phase = {
            "phase": name,
            "where": where,
            "start_s": start_s,
            "end_s": end_s,
            "bytes": size,
            "frozen": frozen,
            "detail": detail,
        }
        self.phases.append(phase)
        return phase

    def end_of(self, name: str) -> float:
        """When a phase was over, by this host's time of day; 0 where it never was."""
        return next((float(p["end_s"]) for p in self.phases if p["phase"] == name), 0.0)
