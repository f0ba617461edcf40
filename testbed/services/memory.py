"""How a service's memory behaves: measured by ``benchmarks/services.py``, kept beside the service.

It is what the model ground moves instead of a real process, and what tells how long a migration
will take. The figures are of one machine; the file says which.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from testbed.errors import ServiceError

FILE = "memory.json"


@dataclass(frozen=True)
class Changes:
    """How much memory changes within an interval, in one state of the service.

    interval_s : ascending. changed_mb : pages that differ after it, median, 10^6 bytes.
    """

    interval_s: tuple[float, ...]
    changed_mb: tuple[float, ...]

    def changed_within(self, interval_s: float) -> float:
        """Megabytes that differ after an interval: interpolated, and level beyond the last.

        Pages are rewritten again and again, so this grows more slowly than the interval.
        """
        times, sizes = (0.0, *self.interval_s), (0.0, *self.changed_mb)
        return float(np.interp(interval_s, times, sizes))

    @property
    def rate_mb_per_s(self) -> float:
        """Megabytes that change in a second (the dirty rate)."""
        return self.changed_within(1.0)


@dataclass(frozen=True)
class MemoryBehaviour:
    """A service's memory, measured.

    resident_mb : resident set of all its processes. private_mb : what a checkpoint must hold: pages
    the processes wrote. compressed_share : size of that under zstd -1, as a share.
    idle, load : without requests, and with one every ``load_interval_s``.
    how : what was measured where, in words.
    """

    resident_mb: float
    private_mb: float
    compressed_share: float
    idle: Changes
    load: Changes
    load_interval_s: float
    how: str

    @classmethod
    def read(cls, folder: Path) -> "MemoryBehaviour":
        """Read the file of a service's folder.

        Raises
        ------
        ServiceError
            If there is none, or it is none.
        """
        path = folder / FILE
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            changes = {
                name: Changes(**{key: tuple(value) for key, value in found[name].items()})
                for name in ("idle", "load")
            }
            return cls(**{**found, **changes})
        except FileNotFoundError as error:
            raise ServiceError(
                f"{path}: this service's memory was not measured; "
                "`python benchmarks/services.py --write` does it"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServiceError(
                f"{path}: not what benchmarks/services.py writes ({error!r}); measure again"
            ) from error
