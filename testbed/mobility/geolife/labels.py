"""``labels.txt`` of GeoLife: when a user moved how, in the user's own words.

A header, then start, end (GMT) and mode, with tabs between them. Where two labels overlap the one
further down in the file counts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from testbed.errors import TraceError
from testbed.mobility.trace import Floats

FLIGHT = "airplane"
_FIELDS = 3
_TIME = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d", re.ASCII)


@dataclass(frozen=True)
class Label:
    """One line of ``labels.txt``: seconds since 1970 (GMT), and the mode."""

    begin_s: float
    end_s: float
    mode: str


def read_labels(path: Path) -> list[Label]:
    """Read a user's ``labels.txt``; without such a file the list is empty.

    Raises
    ------
    TraceError
        If a line cannot be read, with file and line.
    """
    found, problems = parse_labels(path)
    if problems:
        raise TraceError(f"{problems[0]}. A label is start, end and mode, with tabs between them")
    return found


def parse_labels(path: Path) -> tuple[list[Label], list[str]]:
    """Every readable label, and what is wrong with the other lines, each with file and line."""
    found: list[Label] = []
    problems: list[str] = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [f"{path}: cannot be read: {error.strerror or error}"]
    for number, line in enumerate(text.split("\n")[1:], start=2):
        if not line.strip():
            continue
        try:
            found.append(_label(line))
        except ValueError as error:
            problems.append(f"{path}:{number}: not a label ({error}): {line.strip()[:60]!r}")
    return found, problems


def _label(line: str) -> Label:
    fields = [field.strip() for field in line.split("\t")]
    if len(fields) != _FIELDS:
        raise ValueError(f"{len(fields)} fields instead of {_FIELDS}")
    begin, end = map(_epoch_s, fields[:2])
    if end < begin:
        raise ValueError("it ends before it begins")
    if not fields[2]:
        raise ValueError("no mode")
    return Label(begin, end, fields[2])


def _epoch_s(text: str) -> float:
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text!r} is not YYYY/MM/DD HH:MM:SS")
    # many times as fast as strptime, and a data set has tens of thousands of labels
    return datetime.fromisoformat(f"{text.replace('/', '-')}+00:00").timestamp()


def label_numbers(time: Floats, labels: Sequence[Label]) -> NDArray[np.intp]:
    """Number of the label at each time (growing times, both ends of a label included), or -1."""
    which = np.full(len(time), -1)
    if labels:
        begins = np.searchsorted(time, [label.begin_s for label in labels], side="left")
        ends = np.searchsorted(time, [label.end_s for label in labels], side="right")
        for number, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
            which[begin:end] = number
    return which


def flights(labels: Sequence[Label]) -> list[tuple[float, float]]:
    """When the user flew: begin and end, seconds since 1970."""
    return [(label.begin_s, label.end_s) for label in labels if label.mode == FLIGHT]
