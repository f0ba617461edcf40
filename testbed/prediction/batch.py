"""Predictions along whole traces: each fix goes through radio, road match and predictor in turn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from testbed.errors import TraceError
from testbed.mobility.radio import HandoverRule, SignalModel
from testbed.movement import Radio
from testbed.prediction.outlook import STEPS, look_ahead
from testbed.prediction.predictor import Candidate, MovementState, Predictor, make_predictor
from testbed.prediction.states import StateBuilder
from testbed.roads.cells import Cells
from testbed.roads.coverage import Coverage
from testbed.roads.matching.model import RoadModel
from testbed.roads.matching.online import OnlineMatcher
from testbed.roads.network import RoadMap

COLUMNS = ("time_s", "user", "lat_deg", "lon_deg")
PREDICTED = (
    "time_s", "user", "from_node", "to_node", "serving_site",
    "step", "site", "probability", "eta_s",
)  # fmt: skip
CALM = Radio(shadowing=0.0)
"""Without shadowing the strongest base station is the nearest one."""


def predict_traces(
    roads: RoadMap,
    cells: Cells,
    coverage: Coverage,
    traces: pd.DataFrame,
    *,
    predictor: str | Predictor = "map-based",
    horizon_s: float = 30.0,
    steps: int = STEPS,
    radio: Radio = CALM,
    progress: bool = True,
) -> pd.DataFrame:
    """Predict at every fix of every user, knowing only the fixes before it.

    Parameters
    ----------
    roads, cells, coverage
        The map, its base stations, and which of them covers what.
    traces : pandas.DataFrame
        Columns ``time_s``, ``user``, ``lat_deg``, ``lon_deg``; further ones are not used.
    predictor : str or Predictor
        A name of the group ``testbed.predictors``, or a predictor made before.
    horizon_s : float
        How far to look ahead, seconds (for a predictor given by name).
    steps : int
        So many sites ahead, where the predictor foresees more than the next one.
    radio : Radio
        Decides which base station serves.
    progress : bool
        Whether a bar is shown.

    Returns
    -------
    pandas.DataFrame
        One row per candidate, best first: ``time_s``, ``user``, ``from_node`` and ``to_node`` (the
        road that the fix was put on, in the map's own node ids; empty where there is none),
        ``serving_site``, ``step`` (1 is the next other site), ``site``, ``probability`` (that it is
        entered within the horizon) and ``eta_s``. A fix without a candidate has one row, without
        site and with probability 0.

    Raises
    ------
    TraceError
        If a column is missing, a number is not finite, or there is no fix.
    ScenarioError
        If no predictor has that name.
    """
    if isinstance(predictor, str):
        predictor = make_predictor(
            predictor, roads=roads, cells=cells, coverage=coverage, horizon_s=horizon_s
        )
    states = movement_states(roads, cells, traces, radio=radio, progress=progress)
    return predict_states(roads, states, predictor, steps=steps, progress=progress)


def movement_states(
    roads: RoadMap,
    cells: Cells,
    traces: pd.DataFrame,
    *,
    radio: Radio = CALM,
    progress: bool = True,
) -> list[MovementState]:
    """What a predictor may know at every fix of every user: radio, road match, recent past.

    Parameters and errors as for `predict_traces`; several predictors can be asked about the same
    states (`predict_states`).
    """
    checked = _checked(traces)
    signal, model = SignalModel(cells, radio, 0), RoadModel(roads)
    states: list[MovementState] = []
    with tqdm(
        total=len(checked), desc="following", unit="fix", disable=not progress, leave=False
    ) as bar:
        for user, fixes in checked.groupby("user", sort=False):
            matcher, builder = OnlineMatcher(roads, model=model), StateBuilder(str(user))
            handover = HandoverRule.from_radio(radio)
            x, y = roads.projection.to_xy(fixes["lat_deg"].to_numpy(), fixes["lon_deg"].to_numpy())
            columns = (fixes[name].tolist() for name in ("time_s", "lat_deg", "lon_deg"))
            for time_s, lat, lon, x_m, y_m in zip(*columns, x.tolist(), y.tolist(), strict=True):
                match = matcher.update(time_s, lat, lon)
                rssi = signal.measure(x_m, y_m)
                state = builder.update(
                    time_s,
                    (x_m, y_m),
                    edge=match.edge,
                    offset_m=match.offset_m if match.matched else 0.0,
                    match_probability=match.probability,
                    serving_site=handover.update(time_s, rssi),
                    rssi_dbm=rssi,
                )
                states.append(state)
                bar.update()
    return states


def predict_states(
    roads: RoadMap,
    states: Sequence[MovementState],
    predictor: Predictor,
    *,
    steps: int = STEPS,
    progress: bool = True,
) -> pd.DataFrame:
    """Ask a predictor at every state; the answer is that of `predict_traces`."""
    rows: list[tuple[Any, ...]] = []
    for state in tqdm(states, desc="predicting", unit="fix", disable=not progress, leave=False):
        rows += _rows(roads, state, look_ahead(predictor, state, steps))
    return pd.DataFrame(rows, columns=list(PREDICTED))


def _checked(traces: pd.DataFrame) -> pd.DataFrame:
    """The fixes by user and time, or an error that says what is wrong with them."""
    missing = set(COLUMNS) - set(traces.columns)
    if missing or traces.empty:
        problem = f"lack the columns {', '.join(sorted(missing))}" if missing else "hold no fix"
        raise TraceError(f"the traces {problem}; they need {', '.join(COLUMNS)}")
    numbers = traces[["time_s", "lat_deg", "lon_deg"]].to_numpy(dtype=float)
    wrong = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if len(wrong):
        row = int(wrong[0])
        raise TraceError(
            f"the traces' row {row} (user {traces['user'].iloc[row]}) has no finite time, latitude "
            f"or longitude ({len(wrong)} such rows). Drop or mend them first"
        )
    order = traces["user"].drop_duplicates().tolist()
    kept = traces[list(COLUMNS)].sort_values("time_s", kind="stable")
    kept = kept.drop_duplicates(["user", "time_s"])
    return pd.DataFrame(pd.concat([kept[kept["user"] == u] for u in order], ignore_index=True))


def _rows(
    roads: RoadMap, state: MovementState, candidates: list[Candidate]
) -> list[tuple[Any, ...]]:
    ends: tuple[Any, Any] = (None, None)
    if state.edge >= 0:
        ends = roads.node_ids[roads.tail[state.edge]], roads.node_ids[roads.head[state.edge]]
    about = (state.fixes[-1][0], state.user, *ends, state.serving_site)
    return [
        (*about, c.step, c.site, c.probability, c.eta_s)
        for c in candidates or [Candidate("", 0.0, float("nan"))]
    ]
