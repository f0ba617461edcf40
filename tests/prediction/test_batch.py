import numpy as np
import pandas as pd
import pytest

from testbed.errors import ScenarioError, TraceError
from testbed.prediction.batch import predict_traces
from testbed.prediction.predictor import Candidate
from testbed.roads.cells import hexagonal_cells
from testbed.roads.coverage import nearest_coverage


@pytest.fixture(scope="module")
def world(grid):
    cells = hexagonal_cells(grid, 400.0)
    return grid, cells, nearest_coverage(grid, cells)


@pytest.fixture(scope="module")
def traces(grid):
    """Two users on the middle street: one drives east, one west; one fix lies far off the roads."""
    ids = grid.node_ids.tolist()
    y = float(grid.node_y_m[ids.index(200)])
    west, east = (float(grid.node_x_m[ids.index(node)]) for node in (200, 204))
    parts = []
    for user, (begin, end) in {"ann": (west, east), "bob": (east, west)}.items():
        lat, lon = grid.projection.to_latlon(np.linspace(begin, end, 60), np.full(60, y))
        parts.append(
            pd.DataFrame({"time_s": np.arange(60.0), "user": user, "lat_deg": lat, "lon_deg": lon})
        )
    parts[1].loc[22, "lat_deg"] += 0.0009
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def frame(world, traces):
    return predict_traces(*world, traces, horizon_s=30.0, progress=False)


def test_every_fix_is_answered_in_order(frame, traces):
    asked = frame[["user", "time_s"]].drop_duplicates().reset_index(drop=True)
    assert asked.equals(traces[["user", "time_s"]])
    assert list(frame.columns) == [
        *("time_s", "user", "from_node", "to_node", "serving_site"),
        *("step", "site", "probability", "eta_s"),
    ]


def test_handoffs_are_foreseen(frame):
    for _, rows in frame.groupby("user"):
        serving = rows.drop_duplicates("time_s").set_index("time_s")["serving_site"]
        changes = serving.index[serving != serving.shift()][1:]
        assert len(changes) >= 1
        for at in changes:
            before = rows[(rows["time_s"] == at - 6) & (rows["step"] == 1)]
            assert before.iloc[0]["site"] == serving[at]


def test_probabilities_sum_to_one_at_most_and_the_road_is_named(frame, grid):
    total = frame.groupby(["user", "time_s", "step"])["probability"].sum()
    assert total.max() <= 1 + 1e-9
    ann = frame[(frame["user"] == "ann") & frame["time_s"].between(10, 50)]
    nodes = set(grid.node_ids.tolist())
    assert ann["from_node"].isin(nodes).all()
    assert (ann["to_node"] - ann["from_node"] == 1).all()
    off = frame[(frame["user"] == "bob") & (frame["time_s"] == 22)]
    assert off["from_node"].isna().all()


def test_the_future_does_not_matter(world, traces, frame):
    short = predict_traces(*world, traces[traces["time_s"] < 25], horizon_s=30.0, progress=False)
    pd.testing.assert_frame_equal(
        short, frame[frame["time_s"] < 25].reset_index(drop=True), check_dtype=False
    )


def test_a_predictor_of_ones_own_is_asked_too(world, traces):
    class Always:
        def predict(self, state):
            return [Candidate("cell-01", 0.25 if state.fixes else 0.0, 3.0)]

    found = predict_traces(*world, traces.head(3), predictor=Always(), progress=False)
    assert found["probability"].tolist() == [0.25] * 3


def test_what_cannot_be_predicted_from_is_refused(world, traces):
    with pytest.raises(TraceError, match="lack the columns user"):
        predict_traces(*world, traces.drop(columns="user"), progress=False)
    with pytest.raises(TraceError, match="no fix"):
        predict_traces(*world, traces.head(0), progress=False)
    broken = traces.copy()
    broken.loc[4, "lat_deg"] = np.nan
    with pytest.raises(TraceError, match="row 4"):
        predict_traces(*world, broken, progress=False)
    with pytest.raises(ScenarioError, match="no predictor"):
        predict_traces(*world, traces, predictor="oracle", progress=False)
