import json
import shutil

import nbformat
import pytest

from testbed.analysis.notebook import NOTEBOOK, execute
from testbed.errors import ResultsError

MOST_LINES = 8


@pytest.fixture
def folder(run, tmp_path):
    """A copy of the synthetic run's folder that a test may write to."""
    return shutil.copytree(run.folder, tmp_path / "results")


def notebook(path, *sources, parameters='run_folder = ""'):
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(content, path)
    return path


def test_the_quickstart_is_stored_without_outputs_and_no_cell_is_longer_than_a_sentence():
    content = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(content)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert max(len(cell.source.splitlines()) for cell in code) <= MOST_LINES
    assert [cell.source for cell in code if "parameters" in cell.metadata.get("tags", [])] == [
        'run_folder = ""'
    ]


def test_the_quickstart_runs_on_a_run_and_leaves_page_and_figures(folder, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("IPYTHONDIR", str(home / "ipython"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(home / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(home / "runtime"))
    written = execute(folder)
    assert [path.name for path in written] == [
        "00_quickstart.ipynb",
        "00_quickstart.html",
        "map.png",
        "delay.png",
        "bytes.png",
    ]
    assert all(path.stat().st_size > 10_000 for path in written)
    assert not list(home.iterdir())
    executed = json.loads(written[0].read_text())
    outputs = [out for cell in executed["cells"] for out in cell.get("outputs", [])]
    assert sum("image/png" in out.get("data", {}) for out in outputs) == 4
    assert not [out for out in outputs if out["output_type"] in ("error", "stream")]
    assert executed["metadata"]["kernelspec"]["name"] == "python3"
    assert "cell-28/local-1" in written[1].read_text()


def test_a_parameter_that_the_notebook_does_not_know_is_an_error(folder, tmp_path):
    with pytest.raises(ResultsError, match="does not set colour, but run_folder"):
        execute(folder, parameters={"colour": "red"})
    other = notebook(tmp_path / "other.ipynb", parameters="name = 1")
    with pytest.raises(ResultsError, match="does not set run_folder, but name"):
        execute(folder, other)


def test_a_failing_cell_is_named_and_the_notebook_kept(folder, tmp_path):
    broken = notebook(tmp_path / "broken.ipynb", "1 + 1", "1 / 0")
    with pytest.raises(ResultsError, match=r"cell \d+: ZeroDivisionError: division by zero"):
        execute(folder, broken, formats=())
    assert (folder / "broken.ipynb").exists()


def test_a_missing_notebook_or_run_is_an_error_before_a_kernel_starts(folder, tmp_path):
    with pytest.raises(ResultsError, match="there is no notebook"):
        execute(folder, tmp_path / "none.ipynb")
    with pytest.raises(ResultsError, match="not a results folder"):
        execute(tmp_path)
    (tmp_path / "text.ipynb").write_text("no notebook")
    with pytest.raises(ResultsError, match="not a notebook"):
        execute(folder, tmp_path / "text.ipynb")
