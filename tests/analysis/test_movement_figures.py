"""How good predictions were, and figures of movement."""

import numpy as np
import pandas as pd
import pytest

from testbed.analysis import movement, predictions
from testbed.mobility.radio import HandoverRule, SignalModel
from testbed.mobility.rates import WifiRates
from testbed.mobility.trace import make_trace
from testbed.movement import Radio
from testbed.roads.cells import hexagonal_cells
from testbed.roads.load import load_road_map


def said(rows):
    """Predictions of one user: (time_s, serving, [(site, probability), ...])."""
    flat = [
        (time_s, "u", serving, 1, site, probability, 5.0)
        for time_s, serving, named in rows
        for site, probability in named or [("", 0.0)]
    ]
    names = ["time_s", "user", "serving_site", "step", "site", "probability", "eta_s"]
    return pd.DataFrame(flat, columns=names)


@pytest.fixture
def one_way():
    """Served by a until 20 s, by b until 50 s, then by c; b is named first, c only second."""
    rows = []
    for time_s in range(80):
        if time_s < 20:
            rows.append((float(time_s), "a", [("b", 0.8), ("c", 0.1)]))
        elif time_s < 50:
            rows.append((float(time_s), "b", [("a", 0.6), ("c", 0.4)]))
        else:
            rows.append((float(time_s), "c", []))
    return said(rows)


def test_handoffs_are_the_changes_of_the_serving_site(one_way):
    table = predictions.handoff_table(one_way)
    assert table.to_dict("list") == {
        "user": ["u", "u"],
        "time_s": [20.0, 50.0],
        "from_site": ["a", "b"],
        "to_site": ["b", "c"],
        "since_s": [20.0, 30.0],
    }


def test_accuracy_counts_what_was_named_so_long_before(one_way):
    table = predictions.accuracy_table({"one": one_way}, leads_s=(10.0, 25.0))
    near, far = table.to_dict("records")
    assert (near["handoffs"], near["first"], near["among_three"]) == (2, 0.5, 1.0)
    # 25 s before the first handoff there was none to ask about, and c was named second.
    assert (far["handoffs"], far["first"], far["among_three"]) == (1, 0.0, 1.0)


def test_reliability_compares_what_was_said_with_what_came(one_way):
    table = predictions.reliability_table(one_way, horizon_s=30.0)
    by_said = {round(row["said"], 1): row for row in table.to_dict("records")}
    assert by_said[0.8]["came_true"] == 1.0  # b within 30 s, asked at 0, 5, 10, 15 s
    assert by_said[0.8]["asked"] == 4
    assert by_said[0.6]["came_true"] == 0.0  # a never came
    apart = 4 * 0.2 + by_said[0.6]["asked"] * 0.6
    assert predictions.calibration_error(table) == pytest.approx(
        apart / (4 + by_said[0.6]["asked"])
    )


def test_figures_of_predictions_draw(one_way):
    table = predictions.accuracy_table({"one": one_way, "other": one_way})
    assert len(predictions.accuracy_figure(table).axes[0].get_lines()) == 2
    reliable = predictions.reliability_table(one_way, horizon_s=30.0)
    assert predictions.reliability_figure(reliable).axes


@pytest.fixture(scope="module")
def roads():
    return load_road_map("berlin")


def test_the_radio_table_holds_every_station_heard_and_one_that_serves(roads):
    cells = hexagonal_cells(roads, 350.0)
    west, south, east, north = roads.box_deg
    count = 60
    lat, lon = np.linspace(south, north, count), np.linspace(west, east, count)
    trace = make_trace("u", np.arange(float(count)), lat, lon)
    radio = Radio(power=-4.0, exponent=3.0, handover_time="500 ms")
    signal = SignalModel(cells, radio, seed=1)
    seen = movement.radio_table(trace, signal, HandoverRule.from_radio(radio), roads.projection)
    assert seen.groupby("time_s")["serving"].sum().eq(1).all()
    assert seen.groupby("time_s").size().eq(signal.heard).all()
    assert seen["station"][seen["serving"]].nunique() > 2
    figure = movement.radio_figure(seen, WifiRates.from_radio(radio))
    assert len(figure.axes) == 2
    assert movement.speeds_figure(trace.assign(mode="walk")).axes
