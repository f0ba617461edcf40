from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from synthetic import manifest

from testbed.analysis import style
from testbed.analysis.figures import bytes_figure, delay_figure, timeline_figure
from testbed.analysis.maps import hexagon, map_figure
from testbed.measurement.store import ResultsWriter
from testbed.records import NAN

FIGURES = [map_figure, delay_figure, bytes_figure]


def drawn(figure):
    """Render a figure, so that everything in it is really laid out."""
    figure.draw_without_rendering()
    return figure


def words_of(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def copy(run, folder, tables, *, change=lambda record: record):
    writer = ResultsWriter(folder, manifest())
    for table in tables:
        for record in run.records(table):
            writer.add(change(record))
    return writer.close()


@pytest.mark.parametrize("draw", [*FIGURES, timeline_figure])
def test_every_figure_draws_alone_and_into_given_axes(run, draw):
    assert isinstance(drawn(draw(run)), Figure)
    figure = Figure()
    ax = figure.add_subplot()
    assert drawn(draw(run, ax=ax)) is figure
    assert ax.has_data()


@pytest.mark.parametrize("draw", FIGURES)
def test_a_run_in_which_nothing_happened_can_be_drawn(tmp_path, draw):
    drawn(draw(ResultsWriter(tmp_path / "run", manifest()).close()))


@pytest.mark.parametrize("draw", [*FIGURES, timeline_figure])
def test_a_migration_that_failed_can_be_drawn(run, tmp_path, draw):
    def fail(record):
        if not hasattr(record, "client_gap_s"):
            return record
        return replace(record, frozen_s=NAN, answered_s=NAN, freeze_s=NAN, client_gap_s=NAN)

    tables = ["fixes", "migrations", "phases", "requests"]
    drawn(draw(copy(run, tmp_path / "run", tables, change=fail)))


def test_the_map_labels_every_move_and_every_cell_that_served(run):
    words = words_of(drawn(map_figure(run)))
    gaps_ms = run.migrations["client_gap_s"] * 1e3
    for number, gap_ms in enumerate(gaps_ms, start=1):
        assert f"{number}: {gap_ms:.0f} ms" in words
    assert set(run.fixes["serving_cell"]) <= set(words)
    assert "© OpenStreetMap contributors" in words


def test_no_label_of_the_map_covers_another(run):
    figure = drawn(map_figure(run))
    boxes = [
        Text.get_window_extent(text)  # an annotation's own includes its arrow
        for text in figure.axes[0].texts
        if text.get_text() not in ("", "N")
    ]
    assert len(boxes) >= 12
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_without_roads_nobody_is_credited_and_given_roads_are_drawn(run, tmp_path):
    bare = copy(run, tmp_path / "run", ["fixes", "migrations"])
    assert "© OpenStreetMap contributors" not in words_of(map_figure(bare))
    roads = [[(13.37, 52.51), (13.38, 52.511)]]
    assert "© OpenStreetMap contributors" in words_of(map_figure(bare, roads=roads))
    cells = run.frame("cells")
    assert "cell-19" in words_of(map_figure(bare, cells=cells))


def test_a_cell_is_a_regular_hexagon_that_touches_its_neighbours():
    squeeze = 0.6
    corners = hexagon(np.array([13.0, 52.0]), np.array([13.01, 52.0]), squeeze)
    flat = (corners - (13.0, 52.0)) * (squeeze, 1.0)
    radii = np.hypot(*flat.T)
    assert np.allclose(radii, 0.01 * squeeze / np.sqrt(3))
    assert flat[:, 0].max() == pytest.approx(0.01 * squeeze / 2)


def test_long_delays_are_drawn_on_a_logarithmic_axis(run, tmp_path):
    assert delay_figure(run).axes[0].get_yscale() == "linear"

    def slow(record):
        return replace(record, delay_s=8.0) if record.sequence == 5000 else record

    slowed = copy(run, tmp_path / "run", ["requests"], change=slow)
    assert delay_figure(slowed).axes[0].get_yscale() == "log"


def test_a_timeline_of_an_unknown_migration_names_the_known_ones(run):
    with pytest.raises(KeyError, match="there are: m1, m2"):
        timeline_figure(run, "m99")


def test_neighbouring_cells_never_share_a_colour():
    names = [f"cell-{number}" for number in range(20)]
    colours = list(style.colours(names).values())
    assert all(one != other for one, other in pairwise(colours))
