"""What may be chosen for each user and what it is worth: the variables of Ngo's equation 3.

A choice is one z of the paper: user u by base station b' at server s'. There are U x B x S of them,
and most cannot be 1, or never need to be: both kinds are left out before a program is built.

Where the paper leaves room, this is how it is read:

- Equation 3d is met by leaving out what is not reached, instead of by rows of the program.
- G sums seconds over tasks, C seconds without service, and both count alike (a weight of 1);
  `weight` says how many seconds of delay one second without service counts for.
- Equation 4 compares with the present base station then, even where it is not heard any more. Such
  a one is taken at the slowest rate that a radio link can have. This adds the same to all of a
  user's choices, so that it never changes which is best.
- A downtime is the longer of migration and handover, for which the handoff must be timed as in the
  fourth timeline of figure 2.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from testbed.handoff.durations import checkpoint_s, restore_s, sending_s
from testbed.planning.delay import Delay, estimate_delay, processing_s, transmission_s
from testbed.planning.fleet import RESOURCES, Fleet, Placement
from testbed.roads.arrays import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class Choices:
    """Some of the choices there are, one per row, grouped by user.

    Attributes
    ----------
    fleet : Fleet
        What they are taken from.
    user, base_station, server : numpy.ndarray of int, shape (N,)
        Numbers into the fleet's tuples; users ascending.
    delay_s : numpy.ndarray, shape (N,)
        Estimated end-to-end delay then, queueing included, seconds.
    gain_s : numpy.ndarray, shape (N,)
        What all of the user's tasks gain together (a term of equation 1), seconds.
    downtime_s : numpy.ndarray, shape (N,)
        Without service because of migration and handover (a term of equation 2), seconds.
    weight : float
        Seconds of delay that one second without service counts for.
    """

    fleet: Fleet
    user: Ints
    base_station: Ints
    server: Ints
    delay_s: Floats
    gain_s: Floats
    downtime_s: Floats
    weight: float = 1.0

    def __len__(self) -> int:
        """How many there are."""
        return len(self.user)

    @cached_property
    def profit_s(self) -> Floats:
        """What each adds to equation 3a, seconds, shape (N,)."""
        return self.gain_s - self.weight * self.downtime_s

    @cached_property
    def needs(self) -> Floats:
        """What each user's container takes, shape (U, R), resources as in `RESOURCES`."""
        rows = [[getattr(user.needs, name) for name in RESOURCES] for user in self.fleet.users]
        return np.array(rows, dtype=float).reshape(len(self.fleet.users), len(RESOURCES))

    @cached_property
    def capacity(self) -> Floats:
        """What each server has, shape (S, R)."""
        servers = self.fleet.servers
        rows = [[getattr(server.capacity, name) for name in RESOURCES] for server in servers]
        return np.array(rows, dtype=float).reshape(len(servers), len(RESOURCES))

    @cached_property
    def tight_resources(self) -> Bools:
        """Which resource of which server could run out if all came who may; shape (S, R)."""
        coming = np.zeros((len(self.fleet.users), len(self.fleet.servers)))
        coming[self.user, self.server] = 1.0
        return np.asarray(coming.T @ self.needs > self.capacity)

    @cached_property
    def tight_stations(self) -> Bools:
        """Which base station could have too many users if all came who may; shape (B,)."""
        coming = np.zeros((len(self.fleet.base_stations), len(self.fleet.users)), dtype=bool)
        coming[self.base_station, self.user] = True
        most = np.array([station.users_at_most for station in self.fleet.base_stations])
        return np.asarray(coming.sum(axis=1) > most)

    def take(self, kept: Bools) -> "Choices":
        """Some of the rows."""
        return Choices(
            self.fleet,
            self.user[kept],
            self.base_station[kept],
            self.server[kept],
            self.delay_s[kept],
            self.gain_s[kept],
            self.downtime_s[kept],
            self.weight,
        )


def reachable_choices(fleet: Fleet, weight: float = 1.0) -> Choices:
    """Every choice that equations 3b and 3d and the links leave, with its terms of 1 and 2.

    A user reaches a base station that is strong enough, that one a server to which it has a path,
    and the container a server to which the present one has a link.

    Parameters
    ----------
    fleet : Fleet
        What is planned for.
    weight : float
        Seconds of delay that one second without service counts for.
    """
    radio_bps, reached = fleet.radio
    wired_bps, rtt_s = fleet.wired
    between_bps, _ = fleet.between
    station_now, server_now = fleet.present
    user, station = np.nonzero(reached & (radio_bps > 0))
    way = (wired_bps[station] > 0) & np.isfinite(rtt_s[station])
    pair, server = np.nonzero(way & (between_bps[server_now[user]] > 0))
    user, station = user[pair], station[pair]
    delay_s = _delays_s(fleet, user, radio_bps[user, station], station, server)
    everybody = np.arange(len(fleet.users))
    lost_bps = fleet.rates.throughput_bps(fleet.rates.lowest_dbm)
    present_bps = np.maximum(radio_bps[everybody, station_now], lost_bps)
    present_s = _delays_s(fleet, everybody, present_bps, station_now, server_now)
    worst_s = np.full(len(everybody), -np.inf)
    np.maximum.at(worst_s, user, delay_s)
    present_s = np.where(np.isfinite(present_s), present_s, worst_s)
    tasks = np.array([u.work.tasks for u in fleet.users], dtype=float)
    moving_s = migration_times_s(fleet)[user, server]
    handing_s = np.where(station != station_now[user], fleet.handover_s, 0.0)
    return Choices(
        fleet,
        user.astype(np.int64),
        station.astype(np.int64),
        server.astype(np.int64),
        delay_s,
        tasks[user] * (present_s[user] - delay_s),
        np.maximum(moving_s, handing_s),
        weight,
    )


def migration_times_s(fleet: Fleet) -> Floats:
    """``T_mig`` of equation 5, from where each user's container is to each server; (U, S).

    It is 0 where the container is already, and infinite where no link leads.
    """
    between_bps, delay_s = fleet.between
    _, now = fleet.present
    size = np.array(
        [
            (u.container.container_bytes, u.container.delta_bytes, u.container.restored_bytes)
            for u in fleet.users
        ],
        dtype=float,
    ).reshape(len(fleet.users), 3)
    speed = np.array([server.speed for server in fleet.servers])
    psi = np.array([server.factors.checkpoint for server in fleet.servers])
    rho = np.array([server.factors.restore for server in fleet.servers])
    checkpoint = checkpoint_s(psi[now], size[:, 0], speed[now])
    sending = sending_s(size[:, 1][:, None], between_bps[now], delay_s[now])
    restore = restore_s(rho[None, :], size[:, 2][:, None], speed[None, :])
    taken = checkpoint[:, None] + sending + restore
    taken[between_bps[now] <= 0] = np.inf
    taken[np.arange(len(now)), now] = 0.0
    return taken


def expected_delay(fleet: Fleet, placement: Placement) -> Delay:
    """The delay of a user's tasks then, if it is where a placement says (Ngo, IV.A).

    Raises
    ------
    ScenarioError
        If user, base station or server is not of the fleet.
    """
    row, station, server = fleet.numbers(placement)
    user, (wired_bps, rtt_s) = fleet.users[row], fleet.wired
    return estimate_delay(
        measured_processing_s=user.work.processing_s,
        speed=fleet.servers[int(fleet.present[1][row])].speed,
        other_speed=fleet.servers[server].speed,
        task_bytes=user.work.task_bytes,
        radio_rate_bps=float(fleet.radio[0][row, station]),
        wired_rate_bps=float(wired_bps[station, server]),
        rtt_s=float(rtt_s[station, server]),
        queueing_s=user.work.queueing_s,
    )


def without_dominated(choices: Choices) -> Choices:
    """Leave out what never needs to be chosen; the best profit stays the same.

    A base station or server is *roomy* if all users who may come fit in. A choice is dominated by a
    better one of the same user that goes only to places which it uses itself or which are roomy:
    going over to that one breaks no constraint, whatever the others do.
    """
    roomy_station = ~choices.tight_stations[choices.base_station]
    roomy_server = ~choices.tight_resources[choices.server].any(axis=1)
    # Better comes first, and of equals the one that stands first.
    order = np.lexsort((np.arange(len(choices)), -choices.profit_s))
    place = np.empty(len(choices), dtype=np.int64)
    place[order] = np.arange(len(choices))
    stations, servers = len(choices.fleet.base_stations), len(choices.fleet.servers)
    kept = np.ones(len(choices), dtype=bool)
    for group, allowed in (
        (choices.user, roomy_station & roomy_server),
        (choices.user * stations + choices.base_station, roomy_server),
        (choices.user * servers + choices.server, roomy_station),
    ):
        best = np.full(int(group.max(initial=-1)) + 1, len(choices), dtype=np.int64)
        np.minimum.at(best, group[allowed], place[allowed])
        kept &= place <= best[group]
    return choices.take(kept)


def _delays_s(fleet: Fleet, user: Ints, radio_bps: Floats, station: Ints, server: Ints) -> Floats:
    """End-to-end delays (Ngo, IV.A) of users by base stations at servers, seconds."""
    wired_bps, rtt_s = fleet.wired
    _, now = fleet.present
    speed = np.array([s.speed for s in fleet.servers])
    work = np.array(
        [(u.work.processing_s, u.work.task_bytes, u.work.queueing_s) for u in fleet.users],
        dtype=float,
    ).reshape(len(fleet.users), 3)
    return np.asarray(
        processing_s(work[user, 0], speed[now[user]], speed[server])
        + transmission_s(work[user, 1], radio_bps, wired_bps[station, server])
        + rtt_s[station, server]
        + work[user, 2]
    )
