"""Which ways of OpenStreetMap a driver, a cyclist or a walker may use: one table per way to travel.

A way is kept if its class is in the table and its tags do not close it. `why_left_out` gives the
reason otherwise, and the readers count the reasons:

1. ``highway=...``: the class is not for this mode (for nobody: platforms, construction, proposed
   and abandoned roads, corridors, elevators, raceways...), or is so only where the mode's own tag
   says yes, and it does not.
2. ``areas``: an outline (``area=yes``) and not a line to follow.
3. ``service=...``: for driving, aisles of car parks, drive-throughs and emergency accesses.
4. ``closed to ...``: the most specific access tag there is (for driving ``motorcar`` before
   ``motor_vehicle`` before ``vehicle`` before ``access``) has one of `CLOSED`. Roads that are open
   to buses only count as open to driving, because users ride in buses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from testbed.errors import MapError

TravelMode = Literal["driving", "cycling", "walking"]
MODES: tuple[TravelMode, ...] = get_args(TravelMode)

CLOSED = frozenset(
    {"no", "private", "agricultural", "forestry", "military", "emergency", "use_sidepath"}
)
"""Values of an access tag that close a way to the public."""
OPEN = frozenset({"yes", "designated", "permissive", "official"})
"""Values of an access tag that invite."""


@dataclass(frozen=True)
class ModeRule:
    """What one way to travel means for the map.

    Attributes
    ----------
    usual_kmh : mapping of str to float
        Classes that are kept, the important ones first, and the speed usual there.
    by_invitation : frozenset of str
        Those of them that are kept only where one of ``access`` tags (not the last) invites.
    access : tuple of str
        Access tags, the most specific first.
    admits : tuple of str
        Tags that open a way however it is closed.
    closed_service : frozenset of str
        Values of ``service`` that are left out.
    oneway : tuple of str
        Tags that say that a way has one direction, the most specific first.
    obeys_maxspeed : bool
        Whether a tagged speed counts, or the usual one always.
    restriction : tuple of str
        Tags of turn restrictions that concern this mode, the most specific first.
    excepted : frozenset of str
        Entries of a restriction's ``except`` tag that free this mode from it.
    sumo_class : str
        SUMO's vehicle class.
    """

    usual_kmh: Mapping[str, float]
    access: tuple[str, ...]
    oneway: tuple[str, ...]
    restriction: tuple[str, ...]
    sumo_class: str
    by_invitation: frozenset[str] = frozenset()
    admits: tuple[str, ...] = ()
    closed_service: frozenset[str] = frozenset()
    excepted: frozenset[str] = field(default_factory=frozenset)
    obeys_maxspeed: bool = False


_STREETS = (
    "primary", "primary_link", "secondary", "secondary_link", "tertiary", "tertiary_link",
    "unclassified", "residential", "living_street", "service", "road", "track",
)  # fmt: skip
_CYCLING_KMH, _WALKING_KMH = 15.0, 5.0

RULES: dict[TravelMode, ModeRule] = {
    "driving": ModeRule(
        usual_kmh={
            "motorway": 100, "motorway_link": 60, "trunk": 80, "trunk_link": 50, "primary": 60,
            "primary_link": 40, "secondary": 50, "secondary_link": 40, "tertiary": 40,
            "tertiary_link": 30, "unclassified": 40, "residential": 30, "living_street": 15,
            "service": 20, "road": 40, "track": 20, "access_ramp": 30, "busway": 40,
            "bus_guideway": 40,
        },
        access=("motorcar", "motor_vehicle", "vehicle", "access"),
        admits=("bus", "psv"),
        closed_service=frozenset({"parking_aisle", "drive-through", "emergency_access"}),
        oneway=("oneway:motorcar", "oneway:motor_vehicle", "oneway"),
        obeys_maxspeed=True,
        restriction=("restriction:motorcar", "restriction:motor_vehicle", "restriction"),
        excepted=frozenset({"motorcar", "motor_vehicle"}),
        sumo_class="passenger",
    ),
    "cycling": ModeRule(
        usual_kmh=dict.fromkeys(
            ("trunk", "trunk_link", *_STREETS, "cycleway", "path", "busway"), _CYCLING_KMH
        )
        | {"footway": 8, "pedestrian": 8, "bridleway": 8},
        by_invitation=frozenset({"busway", "footway", "pedestrian", "bridleway"}),
        access=("bicycle", "vehicle", "access"),
        oneway=("oneway:bicycle", "oneway"),
        restriction=("restriction:bicycle", "restriction"),
        excepted=frozenset({"bicycle"}),
        sumo_class="bicycle",
    ),
    "walking": ModeRule(
        usual_kmh=dict.fromkeys(
            ("trunk", "trunk_link", *_STREETS, "pedestrian", "footway", "path", "cycleway"),
            _WALKING_KMH,
        )
        | {"bridleway": _WALKING_KMH, "steps": 2.5},
        by_invitation=frozenset({"cycleway", "bridleway"}),
        access=("foot", "access"),
        oneway=("oneway:foot",),
        restriction=("restriction:foot",),
        sumo_class="pedestrian",
    ),
}  # fmt: skip

_KMH = 1 / 3.6
_ONE_WAY_WITHOUT_A_TAG = frozenset({"motorway", "motorway_link"})


def rule_for(mode: str) -> ModeRule:
    """The rule of a mode by its name.

    Raises
    ------
    MapError
        If there is no such mode.
    """
    for known in MODES:
        if mode == known:
            return RULES[known]
    raise MapError(f"there is no travel mode {mode!r}; there are: {', '.join(MODES)}")


def why_left_out(tags: Mapping[str, str], mode: TravelMode) -> str | None:
    """Why a way is not part of the map, or ``None`` where it is (see this module's table)."""
    rule = RULES[mode]
    road_class = tags.get("highway", "")
    said = [tags[key] for key in rule.access if key in tags]
    if road_class not in rule.usual_kmh:
        return f"highway={road_class}"
    if road_class in rule.by_invitation and not any(
        tags.get(key) in OPEN for key in rule.access[:-1]
    ):
        return f"highway={road_class}"
    if tags.get("area") == "yes":
        return "areas"
    if tags.get("service") in rule.closed_service:
        return f"service={tags['service']}"
    if said and said[0] in CLOSED and not any(tags.get(key) in OPEN for key in rule.admits):
        return f"closed to {mode}"
    return None


def direction(tags: Mapping[str, str], mode: TravelMode) -> int:
    """Direction in which a way may be followed: 1 as drawn, -1 the other way, 0 both.

    An explicit tag counts; roundabouts and motorways are one-way without one. Walkers go either
    way unless ``oneway:foot`` says otherwise, and cyclists where a lane leads against the traffic.
    """
    rule = RULES[mode]
    said = next((tags[key] for key in rule.oneway if key in tags), None)
    if mode == "cycling" and "oneway:bicycle" not in tags:
        lanes = (tags.get(f"cycleway{side}", "") for side in ("", ":left", ":right", ":both"))
        if any(lane.startswith("opposite") for lane in lanes):
            return 0
    if said in {"yes", "true", "1"}:
        return 1
    if said in {"-1", "reverse"}:
        return -1
    implied = tags.get("junction") in {"roundabout", "circular"}
    implied |= tags.get("highway") in _ONE_WAY_WITHOUT_A_TAG
    return int(said is None and implied and mode != "walking")


def usual_mps(road_class: str, mode: TravelMode) -> float:
    """The speed usual on a class of road that the mode may use, metres per second."""
    return RULES[mode].usual_kmh[road_class] * _KMH
