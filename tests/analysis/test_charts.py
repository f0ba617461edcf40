"""Charts: one description, drawn to print and to move about in."""

import itertools

import numpy as np
import pandas as pd
import pytest

from testbed.analysis import charts
from testbed.analysis.chart import Areas, Chart, Lines, Spots
from testbed.analysis.leaflet import MOST_THINGS, widget
from testbed.mobility.trace import make_trace
from testbed.roads.cells import hexagonal_cells
from testbed.roads.coverage import nearest_coverage
from testbed.roads.load import load_road_map


@pytest.fixture(scope="module")
def roads():
    return load_road_map("berlin")


@pytest.fixture(scope="module")
def cells(roads):
    return hexagonal_cells(roads, 350.0)


def test_a_chart_comes_as_widget_and_as_picture(roads, cells):
    chart = charts.road_chart(roads) + charts.cell_layers(roads, cells)
    shown = chart._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in shown
    assert chart.png.startswith(b"\x89PNG")
    assert len(chart.figure().axes[0].collections) == len(chart.layers)


def test_the_widget_shows_the_whole_view_as_near_as_it_can(roads):
    chart = charts.road_chart(roads)
    shown = widget(chart, height_px=460)
    world_px = 256 * 2**shown.zoom
    wide_px = (chart.view.east - chart.view.west) / 360 * world_px
    high_px = (chart.view.north - chart.view.south) / 360 / chart.view.squeeze * world_px
    assert wide_px <= 800
    assert high_px <= 460
    assert 2 * wide_px > 800 or 2 * high_px > 460


def test_the_widget_holds_every_layer_and_what_it_says(roads, cells):
    chart = charts.road_chart(roads) + charts.cell_layers(roads, cells)
    drawn = [layer for layer in widget(chart).layers if hasattr(layer, "data")]
    assert [len(layer.data["features"]) for layer in drawn] == [
        len(layer.points if isinstance(layer, Spots) else _shapes(layer)) for layer in chart.layers
    ]
    words = {f["properties"]["words"] for f in drawn[-1].data["features"]}
    assert words == set(cells.names)


def test_a_widget_with_too_many_things_says_so(roads):
    lines = tuple(charts.road_lines(roads)) * (MOST_THINGS // roads.edge_count + 2)
    chart = Chart((Lines("many", lines),), charts.road_chart(roads).view)
    (drawn,) = [layer for layer in widget(chart).layers if hasattr(layer, "data")]
    assert len(drawn.data["features"]) == MOST_THINGS
    assert f"{MOST_THINGS:,} of {len(lines):,}" in drawn.name


def test_words_cannot_smuggle_markup_into_the_page(roads):
    spot = Spots("x", np.array([[13.5, 52.4]]), words=("<script>",))
    (drawn,) = [
        layer
        for layer in widget(Chart((spot,), charts.road_chart(roads).view)).layers
        if hasattr(layer, "data")
    ]
    assert drawn.data["features"][0]["properties"]["words"] == "&lt;script&gt;"


def test_cells_next_to_each_other_differ_in_colour(cells):
    colours = charts.cell_colours(cells)
    for one, other in cells.tree.query_pairs(1.1 * cells.separation_m):
        assert colours[one] != colours[other]


def test_cell_areas_hold_their_stations_and_do_not_overlap(roads, cells):
    areas = next(x for x in charts.cell_layers(roads, cells) if isinstance(x, Areas))
    squeeze = np.cos(np.radians(cells.lat_deg.mean()))
    total = sum(_area(ring * (squeeze, 1.0)) for ring in areas.rings)
    west, south, east, north = roads.box_deg
    assert total == pytest.approx((east - west) * squeeze * (north - south), rel=0.01)


def test_covered_stretches_are_as_long_as_the_roads(roads, cells):
    layer = charts.coverage_layer(roads, nearest_coverage(roads, cells))
    drawn_m = sum(_length_m(roads, line) for line in layer.lines)
    assert drawn_m == pytest.approx(roads.length_m.sum(), rel=1e-3)
    assert len(layer.colour) == len(layer.words) == len(layer.lines)


def test_a_way_is_cut_where_there_is_no_fix_for_long():
    time = np.array([0.0, 1, 2, 500, 501])
    trace = make_trace("a", time, np.linspace(52.4, 52.41, 5), np.full(5, 13.5))
    both = pd.concat([trace, trace.assign(user="b")])
    one, other = charts.trace_layers(both)
    assert [len(line) for line in one.lines] == [3, 2]
    assert one.colour != other.colour


def _shapes(layer):
    return layer.lines if isinstance(layer, Lines) else layer.rings


def _area(ring):
    x, y = ring.T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _length_m(roads, line):
    x, y = roads.projection.to_xy(line[:, 1], line[:, 0])
    return sum(
        np.hypot(b - a, d - c) for (a, c), (b, d) in itertools.pairwise(zip(x, y, strict=True))
    )
