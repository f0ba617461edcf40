"""Every notebook that needs no lab runs, quickly with small parameters, and leaves pictures."""

from pathlib import Path

import nbformat
import pytest

from testbed.analysis.notebook import execute_notebook

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SMALL = {
    "01_roads_and_coverage": ({}, 7),
    "02_traces": ({"users": {"car": 6, "pedestrian": 3}, "duration_s": 200.0}, 7),
    "03_prediction": (
        {"users": {"car": 8}, "duration_s": 200.0, "predictors": ["map-based", "nearest"]},
        3,
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_the_notebook_runs_and_leaves_pictures(name, tmp_path):
    parameters, pictures = SMALL[name]
    executed, page = execute_notebook(
        NOTEBOOKS / f"{name}.ipynb", tmp_path, parameters=parameters, timeout_s=120.0
    )
    content = nbformat.read(executed, as_version=4)
    outputs = [output for cell in content.cells for output in cell.get("outputs", [])]
    shown = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(shown) == pictures
    assert page.read_text(encoding="utf-8").count("data:image/png;base64") >= pictures


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_no_output_is_kept_in_the_repository(path):
    content = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in content.cells)
    assert any("parameters" in cell.metadata.get("tags", []) for cell in content.cells)
