"""How a simulation of traffic went: who was asked for, who set out, who arrived."""

import html
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from testbed.mobility.sumo.demand import Planned, Traffic, count_asked
from testbed.mobility.trace import length_m


@dataclass(frozen=True)
class TrafficReport:
    """How a simulation of traffic went.

    Attributes
    ----------
    fixes : int
        Fixes of all users.
    asked : int
        Users asked for; of a flow without a number, those with a way.
    routed : int
        Those of them for whom there was a way.
    departed : dict of str to int
        Kind by kind, how many set out.
    on_the_way : dict of str to int
        Kind by kind, how many had not arrived when the simulation ended.
    mean_speed_mps : dict of str to float
        Kind by kind, over all fixes, standing included.
    length_m : float
        Way of all users.
    removed : int
        Vehicles taken off the road because they were stuck.
    collisions : int
        What SUMO counts as such (gaps below its minimum included); nobody was removed for it.
    duration_s : float
        Simulated time.
    net : str
        The network's file.
    seed : int
        The seed.
    """

    fixes: int
    asked: int
    routed: int
    departed: dict[str, int]
    on_the_way: dict[str, int]
    mean_speed_mps: dict[str, float]
    length_m: float
    removed: int
    collisions: int
    duration_s: float
    net: str = ""
    seed: int = 0

    @property
    def never_departed(self) -> int:
        """Users with a way who found no room to set out in time."""
        return self.routed - sum(self.departed.values())

    def _repr_html_(self) -> str:
        head = "<tr><th>kind</th><th>set out</th><th>on the way at the end</th><th>km/h</th></tr>"
        body = "".join(
            f"<tr><td>{html.escape(kind)}</td><td>{count:,}</td>"
            f"<td>{self.on_the_way.get(kind, 0):,}</td>"
            f"<td>{self.mean_speed_mps[kind] * 3.6:.1f}</td></tr>"
            for kind, count in self.departed.items()
        )
        caption = (
            f"SUMO on {html.escape(self.net)}, seed {self.seed}: {self.fixes:,} fixes in "
            f"{self.duration_s:g} s, {self.length_m / 1000:,.1f} km; {self.asked:,} users asked "
            f"for, {self.asked - self.routed:,} without a way, {self.never_departed:,} without "
            f"room to set out, {self.removed:,} stuck and removed, {self.collisions:,} collisions"
        )
        return f"<table><caption>{caption}</caption>{head}{body}</table>"


def report_of(
    rows: pd.DataFrame, planned: Planned, *, asked: list[Path], traffic: Traffic, statistics: Path
) -> TrafficReport:
    """Count what a simulation brought.

    Parameters
    ----------
    rows : pandas.DataFrame
        The fixes, by user and time.
    planned : Planned
        Everybody with a route.
    asked : list of Path
        The files of trips.
    traffic : Traffic
        What was asked for.
    statistics : Path
        SUMO's ``--statistic-output``.
    """
    kind = rows["user"].map(planned.kinds)
    last = rows["user"].ne(rows["user"].shift(-1))
    at_the_end = last & (rows["time_s"] > rows["time_s"].max() - traffic.step_s / 2)
    root = ET.parse(statistics).getroot()  # noqa: S314 - SUMO wrote it just now
    return TrafficReport(
        fixes=len(rows),
        asked=max(count_asked(asked), len(planned.kinds)),
        routed=len(planned.kinds),
        departed=_counts(kind[last]),
        on_the_way=_counts(kind[at_the_end]),
        mean_speed_mps={
            str(name): float(np.mean(speeds)) for name, speeds in rows["speed_mps"].groupby(kind)
        },
        length_m=length_m(rows),
        removed=_counted(root, "teleports", "total"),
        collisions=_counted(root, "safety", "collisions"),
        duration_s=traffic.duration_s,
    )


def _counted(root: ET.Element, tag: str, key: str) -> int:
    found = root.find(tag)
    return 0 if found is None else int(found.get(key, "0"))


def _counts(kinds: "pd.Series[str]") -> dict[str, int]:
    return {str(name): int(count) for name, count in kinds.value_counts().sort_index().items()}
