"""A real GeoLife track on the real map of Beijing; face detection follows the car."""

import os
from pathlib import Path

import pytest

import testbed
from testbed.measurement.requests import check_counts

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(monkeypatch):
    """The folder with both data sets, named as a user names it."""
    folder = Path(os.environ.get("TESTBED_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "geolife").is_dir() or not (folder / "osm").is_dir():
        pytest.skip(f"no geolife and osm in {folder}; set TESTBED_DATA to the folder of both")
    monkeypatch.setenv("TESTBED_DATA", str(folder))


def test_face_detection_follows_a_real_car_through_beijing(data, tmp_path):
    scenario = ROOT / "data" / "scenarios" / "beijing-car.yml"
    run = testbed.run(scenario, duration="45 s", results=tmp_path, name="beijing", quiet=True)
    assert run.manifest.outcome == "finished"
    assert list(run.migrations["outcome"].unique()) == ["moved"]
    assert len(run.migrations) >= 2
    check_counts(run.requests)
    matched = run.fixes["match_reason"].eq("")
    assert matched.mean() > 0.9
