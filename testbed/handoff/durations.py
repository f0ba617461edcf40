"""How long a migration will take: the estimates of Ngo's equation 5, and what they are learnt from.

A migration has two parts (Ngo, IV.B): before it the container's memory is checkpointed and sent
while it runs on (*pre-migration*); then it is checkpointed again, what differs is sent, and it is
restored (*migration*, in which it does not answer).

Where the paper leaves room, this is how it is read:

- ``S_D`` is called "the size of the container image D_u", though D_u is the container. It only
  scales psi, which is learnt: any size will do that is used in learning and in estimating alike.
- Both checkpoints are taken to last equally long: CRIU walks the whole memory either time.
- Sending takes the bytes at the link's rate, as the paper's transmission delay (IV.A) does, and the
  link's one-way delay; a delay of 0 leaves that out.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from testbed.records import PhaseRecord
from testbed.roads.arrays import Floats

CHECKPOINT_PHASES = ("freeze", "scan", "dump", "gather")
"""Frozen phases in which the source works; the others send, which the link's rate stands for."""
RESTORE_PHASES = ("compose", "restore", "release")
"""Frozen phases at the target."""
LATEST = 20
_KIND = dict.fromkeys(CHECKPOINT_PHASES, "checkpoint") | dict.fromkeys(RESTORE_PHASES, "restore")


@dataclass(frozen=True)
class ContainerSize:
    """How large a container is, for equation 5.

    Attributes
    ----------
    container_bytes : float
        Of the container itself, S_D.
    state_bytes : float
        What the first checkpoint sends, S_lambda.
    delta_bytes : float
        What the second checkpoint differs by, S_delta-lambda.
    """

    container_bytes: float
    state_bytes: float
    delta_bytes: float

    @property
    def restored_bytes(self) -> float:
        """All that a restore has to read."""
        return self.container_bytes + self.state_bytes + self.delta_bytes


@dataclass(frozen=True)
class HostFactors:
    """What a host takes for one byte, times its speed (`testbed.planning.fleet.Server.speed`).

    Attributes
    ----------
    checkpoint : float
        psi, seconds times speed per byte of the container.
    restore : float
        rho, seconds times speed per byte restored.
    """

    checkpoint: float
    restore: float


@dataclass(frozen=True)
class Durations:
    """How long the parts of one handoff take, seconds.

    Without a migration the first two are 0, without a handover the third is: the paper's special
    case of s' = s.
    """

    pre_migration_s: float
    migration_s: float
    handover_s: float

    @property
    def downtime_s(self) -> float:
        """Least time without service: the longer of both, one within the other (Ngo, IV.B)."""
        return max(self.migration_s, self.handover_s)


@dataclass(frozen=True)
class Probe:
    """Two checkpoints of a running container, one after the other (Ngo, IV.B).

    Attributes
    ----------
    first_bytes : float
        Size of the first.
    differing_bytes : float
        What the second differs by.
    first_at_s, second_at_s : float
        When they were taken, seconds.
    """

    first_bytes: float
    differing_bytes: float
    first_at_s: float = 0.0
    second_at_s: float = 0.0

    def size(self, container_bytes: float) -> ContainerSize:
        """The paper's estimate: both sizes will be the same when it comes to moving."""
        return ContainerSize(container_bytes, self.first_bytes, self.differing_bytes)

    def size_after(self, container_bytes: float, interval_s: float) -> ContainerSize:
        """The delta grown to another time between checkpoints, at most to the whole state.

        The paper's estimate holds where the pre-migration takes as long as the two checkpoints were
        apart. Where a slow link makes it longer, more memory is written meanwhile; it is taken to
        grow with time, which is its most: pages written twice count once.

        Raises
        ------
        ValueError
            If the probe does not say how far its checkpoints are apart.
        """
        apart_s = self.second_at_s - self.first_at_s
        if not apart_s > 0:
            raise ValueError(
                f"the two checkpoints are {apart_s:g} s apart; say when each was taken, the first "
                "before the second"
            )
        grown = min(self.first_bytes, self.differing_bytes * interval_s / apart_s)
        return ContainerSize(container_bytes, self.first_bytes, grown)


def checkpoint_s(psi: ArrayLike, container_bytes: ArrayLike, speed: ArrayLike) -> Floats:
    """``psi * S_D / C_s``: how long a checkpoint takes at the source, seconds (Ngo, eq. 5)."""
    return np.asarray(np.multiply(psi, container_bytes) / np.asarray(speed, float))


def restore_s(rho: ArrayLike, restored_bytes: ArrayLike, speed: ArrayLike) -> Floats:
    """``rho * (S_D + S_lambda + S_delta-lambda) / C_s'``: restore at the target (Ngo, eq. 5)."""
    return np.asarray(np.multiply(rho, restored_bytes) / np.asarray(speed, float))


def sending_s(size_bytes: ArrayLike, rate_bps: ArrayLike, delay_s: ArrayLike = 0.0) -> Floats:
    """Bytes over a link, seconds; nothing takes no time, even where there is no link."""
    size = np.asarray(size_bytes, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        taken = 8 * size / np.asarray(rate_bps, float) + np.asarray(delay_s, float)
    return np.asarray(np.where(size > 0, taken, 0.0))


def estimate_durations(
    size: ContainerSize,
    *,
    source: HostFactors,
    source_speed: float,
    target: HostFactors,
    target_speed: float,
    rate_bps: float,
    delay_s: float = 0.0,
    handover_s: float,
) -> Durations:
    """All of equation 5 for one container.

    Parameters
    ----------
    size : ContainerSize
        Of the container.
    source, target : HostFactors
        psi of the source and rho of the target are used.
    source_speed, target_speed : float
        Computational power, any unit, the same for all hosts.
    rate_bps, delay_s : float
        Link from source to target: bits per second, and one-way delay in seconds.
    handover_s : float
        How long the handover leaves the user without a link, seconds; 0 for none.
    """
    checkpoint = float(checkpoint_s(source.checkpoint, size.container_bytes, source_speed))
    restore = float(restore_s(target.restore, size.restored_bytes, target_speed))
    ahead = float(sending_s(size.state_bytes, rate_bps, delay_s))
    frozen = float(sending_s(size.delta_bytes, rate_bps, delay_s))
    return Durations(checkpoint + ahead, checkpoint + frozen + restore, handover_s)


def learn_factors(
    phases: Iterable[PhaseRecord],
    sizes: Mapping[str, ContainerSize],
    speeds: Mapping[str, float],
    *,
    otherwise: HostFactors,
    latest: int = LATEST,
) -> dict[str, HostFactors]:
    """What psi and rho of every host are, from its own checkpoints and restores (Ngo, IV.B).

    The paper says that they are inferred from the history of a host's containers, and not how. Here
    each migration gives one factor, and the median of a host's latest ones counts, so that one slow
    move does not spoil it.

    Parameters
    ----------
    phases : iterable of PhaseRecord
        Of earlier migrations, in order of time.
    sizes : mapping of str to ContainerSize
        What each migration moved, by its name; others are passed over.
    speeds : mapping of str to float
        Every host's speed.
    otherwise : HostFactors
        For a host without a history of its own.
    latest : int
        So many migrations of a host count.
    """
    took_s: dict[tuple[str, str, str], float] = defaultdict(float)
    for phase in phases:
        kind = _KIND.get(phase.phase)
        if kind and phase.frozen and phase.migration in sizes and phase.host in speeds:
            took_s[phase.host, kind, phase.migration] += phase.end_s - phase.start_s
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (host, kind, migration), duration_s in took_s.items():
        size = sizes[migration]
        handled = size.container_bytes if kind == "checkpoint" else size.restored_bytes
        if handled > 0:
            found[host, kind].append(duration_s * speeds[host] / handled)

    def factor(host: str, kind: str, default: float) -> float:
        own = found[host, kind][-latest:]
        return statistics.median(own) if own else default

    return {
        host: HostFactors(
            factor(host, "checkpoint", otherwise.checkpoint),
            factor(host, "restore", otherwise.restore),
        )
        for host in speeds
    }
