"""Match the traces of many users at once: one row per fix, and the nodes that each one passed."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from testbed.errors import TraceError
from testbed.roads.matching.model import RoadModel
from testbed.roads.matching.offline import match_trace
from testbed.roads.network import RoadMap

COLUMNS = ("time_s", "user", "lat_deg", "lon_deg")
NUMBERS = ("time_s", "lat_deg", "lon_deg")


@dataclass(frozen=True, eq=False)
class MatchedTraces:
    """The traces of many users on the road.

    Attributes
    ----------
    fixes : pandas.DataFrame
        One row per fix in the order given: ``time_s``, ``user``, ``from_node``, ``to_node`` (the
        map's own), ``offset_m``, ``lat_deg``, ``lon_deg`` (on the road), ``probability`` and
        ``reason``.
    routes : pandas.DataFrame
        The driven way: ``user``, ``part`` (from 0, a new one wherever the trace had to be split),
        ``sequence`` (from 0 in each part) and ``node``, in driving order.
    """

    fixes: pd.DataFrame
    routes: pd.DataFrame

    def _counts(self) -> list[tuple[str, str]]:
        matched = int(self.fixes["from_node"].notna().sum())
        parts = len(self.routes[["user", "part"]].drop_duplicates())
        return [
            ("users", f"{self.fixes['user'].nunique(dropna=False):,}"),
            ("fixes", f"{len(self.fixes):,}"),
            ("on a road", f"{matched:,} ({matched / len(self.fixes):.1%})"),
            ("unbroken parts", f"{parts:,}"),
        ]

    def __str__(self) -> str:
        """How many of what."""
        return ", ".join(f"{name}: {value}" for name, value in self._counts())

    def _repr_html_(self) -> str:
        rows = self._counts()
        body = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
        return f"<table><caption>Matched traces</caption>{body}</table>"


def match_traces(
    roads: RoadMap, traces: pd.DataFrame, *, model: RoadModel | None = None, progress: bool = True
) -> MatchedTraces:
    """Match the trace of each user.

    Parameters
    ----------
    roads : RoadMap
        The map.
    traces : pandas.DataFrame
        Columns ``time_s``, ``user``, ``lat_deg``, ``lon_deg``; users may be mixed, the rows of
        each must be in order of time. Fixes that cannot be used get a reason.
    model : RoadModel, optional
        Noise and search radius; by default each user's noise is found from the trace.
    progress : bool
        Show a progress bar.

    Raises
    ------
    TraceError
        If columns are missing, hold something else than numbers, or there is no row.
    """
    missing = [name for name in COLUMNS if name not in traces.columns]
    if missing:
        raise TraceError(
            f"the traces lack the columns {missing} (they have {list(map(str, traces.columns))}). "
            f"Rename them: {', '.join(COLUMNS)} are read"
        )
    if traces.empty:
        raise TraceError("the traces hold no fix; is the file or the selection empty?")
    numbers = pd.DataFrame({name: _numbers(traces[name], name) for name in NUMBERS})
    users = traces["user"].reset_index(drop=True)
    model = model or RoadModel(roads)
    order: list[np.ndarray[tuple[int], np.dtype[np.intp]]] = []
    found: list[pd.DataFrame] = []
    ways: list[pd.DataFrame] = []
    groups = numbers.groupby(users, sort=False, dropna=False).indices
    with tqdm(total=len(numbers), desc="matching", unit="fix", disable=not progress) as bar:
        for user, rows in groups.items():
            matched = match_trace(roads, numbers.iloc[rows], model=model)
            order.append(np.asarray(rows))
            found.append(matched.to_frame(roads))
            ways.extend(_way(roads, user, part, route) for part, route in enumerate(matched.routes))
            bar.update(len(rows))
    fixes = pd.concat(found, ignore_index=True)
    fixes.index = pd.Index(np.concatenate(order))
    fixes = fixes.sort_index()
    fixes.insert(1, "user", users)
    fixes.index = traces.index
    columns = ["user", "part", "sequence", "node"]
    routes = pd.concat(ways, ignore_index=True) if ways else pd.DataFrame(columns=columns)
    return MatchedTraces(fixes, routes)


def _numbers(column: "pd.Series[float]", name: str) -> "pd.Series[float]":
    """A column as floats; what is empty becomes NaN."""
    try:
        return column.astype(float).reset_index(drop=True)
    except (TypeError, ValueError) as error:
        raise TraceError(
            f"column {name} of the traces holds something else than numbers ({error}). Seconds "
            "and degrees are read as numbers"
        ) from error


def _way(roads: RoadMap, user: object, part: int, route: tuple[int, ...]) -> pd.DataFrame:
    edges = np.array(route)
    nodes = roads.node_ids[np.concatenate((roads.tail[edges[:1]], roads.head[edges]))]
    return pd.DataFrame(
        {"user": user, "part": part, "sequence": np.arange(len(nodes)), "node": nodes.tolist()}
    )
