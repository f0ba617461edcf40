"""A checkpoint, and what changed since another one, in a notebook."""

import base64
import html as markup
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from testbed.checkpoints import picture, screen
from testbed.measurement.summary import human_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from testbed.checkpoints.checkpoint import Checkpoint
    from testbed.checkpoints.difference import Difference

_SCREEN_DPI = 110
_LEFT = "style='text-align:left'"


def html(checkpoint: "Checkpoint") -> str:
    """The checkpoint for a notebook: facts, process tree, memory, files, sockets, sizes."""
    mappings = checkpoint.mappings.sort_values("held_bytes", ascending=False)
    largest = mappings[mappings["held_bytes"] > 0].head(screen.MOST_ROWS)
    pieces = [
        _facts(screen.facts(checkpoint)),
        f"<pre>{markup.escape(chr(10).join(screen.tree(checkpoint)))}</pre>",
        _picture(picture.memory_figure(checkpoint), "memory by mapping"),
        _table("The largest mappings", largest.drop(columns=["end", "pagemap", "pagemap_start"])),
        _table("Open files", checkpoint.files),
        _table("Sockets", checkpoint.sockets),
        _table("Images", checkpoint.images.head(screen.MOST_ROWS)),
    ]
    return f"<div>{''.join(pieces)}</div>"


def difference_html(difference: "Difference") -> str:
    """The difference for a notebook: sums, where pages changed, what appeared and went."""
    mappings = difference.mappings.sort_values("changed_bytes", ascending=False)
    changed = mappings[mappings["changed_bytes"] + mappings["gone_pages"] > 0]
    pieces = [
        _facts(screen.difference_facts(difference)),
        _picture(picture.difference_figure(difference), "what changed, by mapping"),
        _table("Mappings that changed most", changed.head(screen.MOST_ROWS)),
    ]
    for word, tables in (
        ("appeared", difference.appeared),
        ("disappeared", difference.disappeared),
    ):
        pieces += [_table(f"{name.capitalize()} that {word}", rows.head(screen.MOST_ROWS))
                   for name, rows in tables.items()]  # fmt: skip
    return f"<div>{''.join(pieces)}</div>"


def _facts(about: dict[str, str]) -> str:
    rows = "".join(
        f"<tr><th {_LEFT}>{markup.escape(name)}</th><td {_LEFT}>{markup.escape(value)}</td></tr>"
        for name, value in about.items()
    )
    return f"<table>{rows}</table>"


def _table(title: str, frame: pd.DataFrame) -> str:
    if not len(frame):
        return ""
    head = "".join(f"<th>{markup.escape(_heading(name))}</th>" for name in frame.columns)
    body = "".join(
        f"<tr>{_cells(list(frame.columns), row)}</tr>" for row in frame.itertuples(index=False)
    )
    title = markup.escape(title)
    return f"<details><summary>{title}</summary><table><tr>{head}</tr>{body}</table></details>"


def _heading(column: str) -> str:
    return column.removesuffix("_bytes").replace("_", " ")


def _cells(columns: Sequence[str], row: Sequence[object]) -> str:
    cells = []
    for column, value in zip(columns, row, strict=True):
        if column in {"start", "end"}:
            cells.append(f"<td>{value:x}</td>")
        elif column.endswith("_bytes"):
            cells.append(f"<td>{human_bytes(float(str(value)))}</td>")
        else:
            side = _LEFT if isinstance(value, str) else ""
            cells.append(f"<td {side}>{markup.escape(str(value))}</td>")
    return "".join(cells)


def _picture(figure: "Figure", words: str) -> str:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_SCREEN_DPI, bbox_inches="tight")
    data = base64.b64encode(png.getvalue()).decode()
    return f"<img alt='{markup.escape(words)}' src='data:image/png;base64,{data}'>"
