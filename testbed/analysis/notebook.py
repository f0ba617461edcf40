"""Executes notebooks; the quickstart on a run is left, as page and figures, beside the data."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from matplotlib.figure import Figure
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillException, PapermillExecutionError
from traitlets.config import Config

from testbed.analysis import style
from testbed.analysis.figures import bytes_figure, delay_figure
from testbed.analysis.maps import map_figure
from testbed.errors import ResultsError
from testbed.measurement.store import Run

Format = Literal["html", "png"]
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "00_quickstart.ipynb"
"""The quickstart, beside the package in a checkout."""
FIGURES: dict[str, Callable[..., Figure]] = {
    "map": map_figure,
    "delay": delay_figure,
    "bytes": bytes_figure,
}
KERNEL = "testbed"
WIDGET = "application/vnd.jupyter.widget-view+json"
STATIC = Config(
    NbConvertBase={
        "display_data_priority": [
            "text/html", "text/markdown", "image/svg+xml", "text/latex", "image/png",
            "image/jpeg", "text/plain",
        ]
    }
)  # fmt: skip
"""What a page shows of an output, the first that is there: nothing that would be fetched."""


def execute(
    run_folder: str | Path,
    notebook: str | Path | None = None,
    formats: Sequence[Format] = ("html", "png"),
    *,
    parameters: dict[str, Any] | None = None,
    timeout_s: float = 300.0,
) -> list[Path]:
    """Run a notebook on a results folder and write what comes of it into that folder.

    Parameters
    ----------
    run_folder : str or Path
        The run; the notebook gets it as its parameter ``run_folder``.
    notebook : str or Path, optional
        Which notebook; the quickstart of the checkout where absent.
    formats : sequence of str
        Beside the executed notebook: ``html``, a copy to read anywhere; ``png``, the figures.
    parameters : dict, optional
        More parameters of the notebook.
    timeout_s : float
        Longest time one cell may take, seconds.

    Returns
    -------
    list of Path
        What was written, the executed notebook first.

    Raises
    ------
    ResultsError
        If there is no such run or notebook, it knows no such parameter, or a cell fails.
    """
    run = Run.open(Path(run_folder).resolve())
    source = NOTEBOOK if notebook is None else Path(notebook)
    given = {"run_folder": str(run.folder), **(parameters or {})}
    written = execute_notebook(
        source, run.folder, parameters=given, html="html" in formats, timeout_s=timeout_s
    )
    if "png" in formats:
        written += write_figures(run)
    return written


def execute_notebook(
    notebook: Path,
    folder: Path,
    *,
    parameters: dict[str, Any] | None = None,
    html: bool = True,
    timeout_s: float = 300.0,
) -> list[Path]:
    """Run a notebook and write it, executed, into a folder, with a copy to read anywhere.

    Parameters
    ----------
    notebook : Path
        Which notebook.
    folder : Path
        Where to write.
    parameters : dict, optional
        Of the notebook's cell tagged ``parameters``.
    html : bool
        Whether to write the copy.
    timeout_s : float
        Longest time one cell may take, seconds.

    Returns
    -------
    list of Path
        The executed notebook, and the copy.

    Raises
    ------
    ResultsError
        If there is no such notebook, it knows no such parameter, or a cell fails.
    """
    given = parameters or {}
    _check(notebook, given)
    executed = folder / notebook.name
    scratch_folder = tempfile.TemporaryDirectory(prefix="testbed-kernel-")
    with scratch_folder as scratch, _told(notebook, executed):
        papermill.execute_notebook(
            notebook,
            executed,
            parameters=given,
            kernel_name=KERNEL,
            language="python",
            progress_bar=False,
            execution_timeout=timeout_s,
            kernel_manager_class=_kernel_manager(Path(scratch)),
        )
    _name_usual_kernel(executed)
    return [executed, _write_html(executed)] if html else [executed]


def write_figures(run: Run) -> list[Path]:
    """Write the run's figures as PNG into its folder and return their paths."""
    written = []
    for name, draw in FIGURES.items():
        figure = draw(run)
        path = run.folder / f"{name}.png"
        figure.savefig(path, dpi=style.PNG_DPI, bbox_inches="tight", pad_inches=0.05)
        written.append(path)
    return written


def _check(notebook: Path, given: dict[str, Any]) -> None:
    """Make sure that the notebook is there and takes the parameters, before a kernel starts."""
    if not notebook.is_file():
        raise ResultsError(
            f"there is no notebook {notebook}; name one, or install the testbed from a checkout "
            "with `pip install -e`"
        )
    try:
        known = papermill.inspect_notebook(str(notebook))
    except (PapermillException, ValueError) as error:
        raise ResultsError(f"{notebook}: not a notebook ({error}). Save it again") from error
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ResultsError(
            f"{notebook}: its parameters cell does not set {', '.join(unknown)}, but "
            f"{', '.join(known) or 'nothing'}. Tag a cell `parameters` and set them there"
        )


def _kernel_manager(scratch: Path) -> type[AsyncKernelManager]:
    """Kernels of this very interpreter, which write to ``scratch`` and not to the home.

    They are reached through files there; nothing listens on a port.
    """
    folder = scratch / "kernels" / KERNEL
    folder.mkdir(parents=True)
    kernel = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "testbed",
        "language": "python",
        "env": {"IPYTHONDIR": str(scratch / "ipython")},
    }
    (folder / "kernel.json").write_text(json.dumps(kernel), encoding="utf-8")

    class Manager(AsyncKernelManager):
        def __init__(self, **settings: Any) -> None:
            specs = KernelSpecManager(
                kernel_dirs=[str(scratch / "kernels")], ensure_native_kernel=False
            )
            super().__init__(
                kernel_spec_manager=specs,
                connection_file=str(scratch / "connection.json"),
                transport="ipc",
                **settings,
            )

    return Manager


@contextmanager
def _told(notebook: Path, executed: Path) -> Iterator[None]:
    """Turn a failing cell into an error that names it."""
    try:
        yield
    except PapermillExecutionError as error:
        raise ResultsError(
            f"{notebook}, cell {error.cell_index}: {error.ename}: {error.evalue}. "
            f"{executed} holds it as far as it came"
        ) from error


def _name_usual_kernel(executed: Path) -> None:
    """Let the executed notebook ask for the kernel that everybody has."""
    content = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
    content.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(content, executed)  # type: ignore[no-untyped-call]


def _write_html(executed: Path) -> Path:
    """Write the page; where an output is a widget as well as a picture it shows the picture."""
    exporter = HTMLExporter(config=STATIC)  # type: ignore[no-untyped-call]
    content = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
    content.metadata.pop("widgets", None)
    for cell in content.cells:  # a progress bar is a widget that has no picture
        if cell.cell_type == "code":
            cell["outputs"] = [o for o in cell["outputs"] if not _is_bare_widget(o)]
    page, _ = exporter.from_notebook_node(content)
    path = executed.with_suffix(".html")
    path.write_text(page, encoding="utf-8")
    return path


def _is_bare_widget(output: dict[str, Any]) -> bool:
    data = output.get("data", {})
    return WIDGET in data and not {"image/png", "text/html"} & set(data)
