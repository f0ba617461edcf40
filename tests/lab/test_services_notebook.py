"""The notebook about the services, executed in a lab of its own with few and short looks."""

import json
from pathlib import Path

import nbformat

from testbed.analysis.notebook import execute_notebook
from testbed.hosts.namespace import take_down

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "04_services.ipynb"
SMALLEST = {"services": ["simple", "face-detection"], "requests": 4, "intervals_s": [0.2],
            "samples": 1, "lab_name": "notebook"}  # fmt: skip


def test_it_is_stored_without_outputs_and_no_cell_is_longer_than_a_sentence():
    content = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(content)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert max(len(cell.source.splitlines()) for cell in code) <= 8


def test_it_runs_and_shows_tables_and_pictures(tmp_path):
    take_down("notebook")
    written = execute_notebook(NOTEBOOK, tmp_path, parameters=SMALLEST)
    executed = json.loads(written[0].read_text())
    outputs = [out for cell in executed["cells"] for out in cell.get("outputs", [])]
    assert not [out for out in outputs if out["output_type"] in {"error", "stream"}]
    assert sum("image/png" in out.get("data", {}) for out in outputs) == 2
    tables = [out["data"]["text/html"] for out in outputs if "text/html" in out.get("data", {})]
    assert len(tables) == 4
    assert all("face-detection" in "".join(table) for table in tables)
