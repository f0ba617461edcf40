from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from testbed.analysis import services as shown
from testbed.errors import ResultsError
from testbed.experiment.service_trial import ServiceTrial
from testbed.images.image import Image, ImageConfig, Layer
from testbed.services.memory import Changes, MemoryBehaviour

BASE = Layer("base", 80_000_000, 20_000_000, "FROM debian:trixie-slim", base=True)
OPENCV = Layer("opencv", 200_000_000, 60_000_000, "RUN pip install")


def phase(name, size, start_s, end_s):
    return SimpleNamespace(phase=name, bytes=size, start_s=start_s, end_s=end_s)


def trial(name, *layers, answers=()):
    changes = Changes((0.5, 1.0), (1.0, 2.0))
    memory = MemoryBehaviour(50.0, 40.0, 0.25, changes, changes, 0.1, "made up")
    cold = SimpleNamespace(bytes_frozen=41_000_000, event_window_s=0.5, phases=(
        phase("dump", 0, 1.0, 1.25), phase("restore", 0, 2.0, 2.125)))  # fmt: skip
    delta = SimpleNamespace(bytes_frozen=400_000, event_window_s=0.1, phases=(
        phase("ahead", 40_000_000, 0, 1), phase("ahead", 900_000, 1, 2)))  # fmt: skip
    requests = pd.DataFrame({"delay_s": [0.02, 0.04], "processing_s": [0.01, 0.03],
                             "count": [1, 2]})  # fmt: skip
    image = Image(name, "x86_64", layers, ImageConfig(), "0", Path())
    return ServiceTrial(name, image, memory, answers, requests, {"cold": cold, "delta": delta})


@pytest.fixture
def trials():
    return {
        "yolo": trial("yolo", BASE, OPENCV, answers=({"model": "m", "objects": []},)),
        "ram": trial("ram", BASE),
    }


def test_table_one_has_the_papers_figures_beside_this_machines(trials):
    table = shown.ngo_table(trials)
    assert table.loc["yolo", "here"].tolist() == pytest.approx([280, 40, 0.4, 99.0])
    assert table.loc["yolo", "paper"].tolist() == pytest.approx([792, 584.8, 5.6, 99.04], rel=1e-3)
    assert table.loc["ram", "paper"].isna().all()


def test_costs_are_split_into_their_parts(trials):
    row = shown.cost_table(trials).loc["ram"]
    parts = (row["delay_ms"], row["processing_ms"], row["transmission_ms"])
    assert parts == pytest.approx((30, 20, 10))
    assert (row["dump_ms"], row["restore_ms"]) == pytest.approx((250, 125))
    assert row["compressed_mb"] == pytest.approx(10)


def test_a_layer_that_is_shared_is_listed_once(trials):
    table = shown.layer_table(trials).set_index("made_by")
    assert table.loc["FROM debian:trixie-slim", "services"] == "yolo, ram"
    assert table.loc["RUN pip install", "services"] == "yolo"
    assert (table["layer"] == "instance").sum() == 2


def test_what_was_said_is_shown_in_words(trials):
    table = shown.last_answers(trials)
    assert table["said"].tolist() == ['{"model": "m", "objects": []}', "{}"]
    assert table["count"].tolist() == [2, 2]


def test_memory_is_drawn_for_every_service_idle_and_in_use(trials):
    axes = shown.delta_figure(trials).axes
    assert [len(ax.lines) for ax in axes] == [2, 2]


def test_only_services_that_look_at_pictures_show_any(trials):
    with pytest.raises(ResultsError, match="ram looks at no pictures; these do: face-detection"):
        shown.pictures_figure(trials["ram"])


def test_an_enrolment_shows_no_picture():
    assert [shown._which("openface", n, 8) for n in range(1, 11)] == [
        None, None, 2, 3, 4, 5, 6, 7, 2, 3,
    ]  # fmt: skip
    assert [shown._which("yolo", n, 4) for n in range(1, 6)] == [0, 1, 2, 3, 0]


def test_boxes_and_names_are_drawn(trials, tmp_path, monkeypatch):
    thing = {"name": "dog", "confidence": 0.8, "box": [1, 2, 30, 40]}
    seen = replace(trials["yolo"], answers=({"sequence": 1, "objects": [thing]},))
    monkeypatch.setattr(shown, "_pictures", lambda _: [([[[0, 0, 0]]], seen.answers[0])])
    (ax,) = shown.pictures_figure(seen).axes
    assert [text.get_text() for text in ax.texts] == ["dog 0.80"]
    (box,) = ax.patches
    assert (*box.get_xy(), box.get_width(), box.get_height()) == (1, 2, 30, 40)
