"""Whether a plan, whoever made it, meets the constraints of Ngo's equation 3."""

from collections import Counter, defaultdict

from testbed.planning.fleet import RESOURCES, Fleet, FleetPlan

_ROUNDING = 1e-9


def violations(fleet: Fleet, plan: FleetPlan) -> list[str]:
    """Every constraint that a plan breaks, in words; nothing if it meets them all."""
    return [
        *_places(fleet, plan),
        *_resources(fleet, plan),
        *_radio(fleet, plan),
        *_crowds(fleet, plan),
    ]


def _places(fleet: Fleet, plan: FleetPlan) -> list[str]:
    return [f"3b: {u.name} has no place" for u in fleet.users if u.name not in plan.placements]


def _resources(fleet: Fleet, plan: FleetPlan) -> list[str]:
    taken: dict[tuple[str, str], float] = defaultdict(float)
    for user in fleet.users:
        if user.name in plan.placements:
            for name in RESOURCES:
                taken[plan[user.name].server, name] += getattr(user.needs, name)
    return [
        f"3c: {server.name} has {has:g} {name}, {taken[server.name, name]:g} are needed"
        for server in fleet.servers
        for name in RESOURCES
        if taken[server.name, name] > (has := getattr(server.capacity, name)) * (1 + _ROUNDING)
    ]


def _radio(fleet: Fleet, plan: FleetPlan) -> list[str]:
    least = fleet.rates.lowest_dbm
    found = []
    for user in fleet.users:
        if user.name in plan.placements:
            heard = user.heard.get(plan[user.name].base_station)
            if heard is None or min(heard.rssi_dbm, heard.expected_dbm) < least:
                found.append(
                    f"3d: {user.name} does not hear {plan[user.name].base_station} well enough"
                )
    return found


def _crowds(fleet: Fleet, plan: FleetPlan) -> list[str]:
    there = Counter(placement.base_station for placement in plan.placements.values())
    return [
        f"3e: {station.name} serves {station.users_at_most}, {there[station.name]} are to come"
        for station in fleet.base_stations
        if there[station.name] > station.users_at_most
    ]
