"""GeoLife 1.3: GPS tracks of real people, with the modes they wrote down.

``Data/NNN/Trajectory/*.plt`` hold one track each (six header lines, then latitude, longitude, 0,
altitude in feet, days, date and time, in GMT); ``Data/NNN/labels.txt`` says when which mode was
used, in GMT as well. The data set is for non-commercial use only and is never part of the testbed.

Rules for what is left out of a track, all counted in the report: malformed lines; fixes whose time
does not grow; single fixes so far off that neither the way there nor back is possible (spikes).
Where a jump remains the track is cut and the longest piece in time kept.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.report import TraceReport
from testbed.mobility.trace import Floats, Trace, distances_m, make_trace

BoxDeg = tuple[float, float, float, float]
"""West, south, east, north."""

HEADER_LINES = 6
TOP_SPEED_MPS = 100.0
"""Faster than any vehicle that GeoLife labels, apart from aeroplanes."""
LONG_GAP_S = 30.0
INSIDE_SHARE = 0.99
_FIELDS = 7
_LABEL_FIELDS = 3
_FEWEST_FIXES = 10


@dataclass(frozen=True)
class Label:
    """One line of ``labels.txt``: seconds since 1970 (GMT), and the mode."""

    begin_s: float
    end_s: float
    mode: str


@dataclass(frozen=True)
class Plt:
    """The usable fixes of one ``.plt`` file, and what was wrong with the others."""

    path: Path
    epoch_s: Floats
    lat_deg: Floats
    lon_deg: Floats
    dropped: dict[str, int]
    problems: tuple[str, ...]

    def part(self, begin: int, end: int) -> "Plt":
        """The fixes ``begin:end``."""
        here = slice(begin, end)
        return Plt(
            self.path,
            self.epoch_s[here],
            self.lat_deg[here],
            self.lon_deg[here],
            self.dropped,
            self.problems,
        )


@dataclass(frozen=True)
class Segment:
    """A part of one track in one mode (empty where the user wrote none down)."""

    user: str
    file: str
    mode: str
    fixes: Plt
    length_m: float

    @property
    def duration_s(self) -> float:
        """From first to last fix, seconds."""
        return float(self.fixes.epoch_s[-1] - self.fixes.epoch_s[0])


def find_geolife(data_paths: Iterable[Path]) -> Path:
    """The data set's ``Data`` folder.

    Raises
    ------
    DataNotFoundError
        With every place that was looked in.
    """
    tried: list[Path] = []
    for folder in map(Path, data_paths):
        for below in ("geolife/Data", "Geolife Trajectories 1.3/Data", "Data", "."):
            path = folder / below
            tried.append(path)
            if path.is_dir() and any(path.glob("[0-9][0-9][0-9]/Trajectory")):
                return path
    raise DataNotFoundError(
        "GeoLife 1.3 is not on this machine; looked for NNN/Trajectory in "
        f"{', '.join(map(str, tried)) or 'no folder at all'}. Get it from Microsoft Research, and "
        "set TESTBED_DATA to the folder that holds geolife/Data"
    )


def read_plt(path: Path) -> Plt:
    """Read one track.

    Raises
    ------
    DataNotFoundError
        If there is no such file.
    TraceError
        If no usable fix is in it.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError as error:
        raise DataNotFoundError(f"{path}: there is no such GeoLife track") from error
    problems: list[str] = []
    rows: list[tuple[float, float, float]] = []
    dropped: dict[str, int] = {}
    for number, line in enumerate(lines[HEADER_LINES:], start=HEADER_LINES + 1):
        if not line.strip():
            continue
        try:
            row = _fix(line)
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
            continue
        if rows and row[0] <= rows[-1][0]:
            rule = "duplicate time" if row[0] == rows[-1][0] else "time goes back"
            dropped[rule] = dropped.get(rule, 0) + 1
            continue
        rows.append(row)
    if problems:
        dropped["malformed lines"] = len(problems)
    if not rows:
        raise TraceError(
            f"{path}: holds no usable fix ({len(lines)} lines, {len(problems)} malformed). "
            f"{problems[0] if problems else 'Is it a GeoLife .plt file?'}"
        )
    time, lat, lon = np.array(rows).T
    good = ~_spikes(time, lat, lon)
    if not good.all():
        dropped["spikes"] = int((~good).sum())
    return Plt(path, time[good], lat[good], lon[good], dropped, tuple(problems))


def _fix(line: str) -> tuple[float, float, float]:
    fields = line.split(",")
    if len(fields) != _FIELDS:
        raise ValueError(f"{len(fields)} fields instead of {_FIELDS}: {line[:60]!r}")
    try:
        lat, lon = float(fields[0]), float(fields[1])
        time = datetime.fromisoformat(f"{fields[5]}T{fields[6].strip()}").replace(tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"not a fix ({error}): {line[:60]!r}") from error
    if not (math.fabs(lat) <= 90 and math.fabs(lon) <= 180):  # noqa: PLR2004
        raise ValueError(f"latitude {lat}, longitude {lon} is not a place on earth")
    return time.timestamp(), lat, lon


def _spikes(time: Floats, lat: Floats, lon: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Inner fixes that cannot be reached nor left, though their neighbours fit together."""
    spike = np.zeros(len(time), dtype=bool)
    if len(time) < 3:  # noqa: PLR2004 - a spike has two neighbours
        return spike
    fast = distances_m(lat, lon) > TOP_SPEED_MPS * np.diff(time)
    even = distances_m(lat[::2], lon[::2]), distances_m(lat[1::2], lon[1::2])
    over = np.empty(len(time) - 2)
    over[::2], over[1::2] = even[0][: len(over[::2])], even[1][: len(over[1::2])]
    fits = over <= TOP_SPEED_MPS * (time[2:] - time[:-2])
    spike[1:-1] = fast[:-1] & fast[1:] & fits
    return spike


def read_labels(path: Path) -> list[Label]:
    """Read a user's ``labels.txt``; without such a file the list is empty.

    Raises
    ------
    TraceError
        If a line cannot be read, with file and line.
    """
    if not path.is_file():
        return []
    found: list[Label] = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("\t")]
        try:
            if len(fields) != _LABEL_FIELDS:
                raise ValueError(f"{len(fields)} fields instead of {_LABEL_FIELDS}")  # noqa: TRY301
            begin, end = (
                datetime.strptime(text, "%Y/%m/%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
                for text in fields[:2]
            )
        except ValueError as error:
            raise TraceError(
                f"{path}:{number}: not a label ({error}): {line[:60]!r}. A label is start, end "
                "and mode, with tabs between them"
            ) from error
        found.append(Label(begin, end, fields[2]))
    return found


def segments(geolife: Path, user: str, *, file: str | None = None) -> Iterator[Segment]:
    """Every track of a user, cut where the mode changes or a jump remains, in order of time.

    Parameters
    ----------
    geolife : Path
        The ``Data`` folder (see `find_geolife`).
    user : str
        Three digits.
    file : str, optional
        Only this track (the ``.plt`` file's stem).

    Raises
    ------
    DataNotFoundError
        If there is no such user or file.
    """
    folder = geolife / user
    if not folder.is_dir():
        there = sorted(path.name for path in geolife.iterdir() if path.is_dir())
        raise DataNotFoundError(
            f"{folder}: GeoLife user {user!r} is not here; there are {', '.join(there)}"
        )
    labels = read_labels(folder / "labels.txt")
    names = [file] if file else sorted(p.stem for p in (folder / "Trajectory").glob("*.plt"))
    for name in names:
        track = read_plt(folder / "Trajectory" / f"{name}.plt")
        for part in _without_jumps(track):
            for mode, begin, end in _modes(part.epoch_s, labels):
                here = part.part(begin, end)
                moved_m = float(distances_m(here.lat_deg, here.lon_deg).sum())
                yield Segment(user, name, mode, here, moved_m)


def _without_jumps(track: Plt) -> Iterator[Plt]:
    moved_m = distances_m(track.lat_deg, track.lon_deg)
    cuts = np.flatnonzero(moved_m > TOP_SPEED_MPS * np.diff(track.epoch_s)) + 1
    ends = [0, *cuts.tolist(), len(track.epoch_s)]
    for begin, end in itertools.pairwise(ends):
        yield track.part(begin, end)


def _modes(time: Floats, labels: list[Label]) -> Iterator[tuple[str, int, int]]:
    """Runs of fixes with the same label; the later of two overlapping labels counts."""
    which = np.full(len(time), -1)
    for number, label in enumerate(labels):
        which[(time >= label.begin_s) & (time <= label.end_s)] = number
    ends = [0, *(np.flatnonzero(np.diff(which)) + 1).tolist(), len(time)]
    for begin, end in itertools.pairwise(ends):
        if end > begin:
            number = int(which[begin])
            yield (labels[number].mode if number >= 0 else ""), begin, end


def read_track(
    geolife: Path,
    user: str,
    *,
    mode: str | None = None,
    file: str | None = None,
    box: BoxDeg | None = None,
) -> tuple[Trace, TraceReport]:
    """A user's longest segment (by way) in a mode, inside a box; time starts at 0.

    Parameters
    ----------
    geolife : Path
        The ``Data`` folder (see `find_geolife`).
    user : str
        Three digits.
    mode : str, optional
        ``car``, ``bus``... as in ``labels.txt``; absent: whole tracks, whatever the mode.
    file : str, optional
        The ``.plt`` file's stem; absent: any of the user's.
    box : tuple, optional
        West, south, east, north; 99 % of a segment's fixes must lie in it, the rest is dropped.

    Raises
    ------
    DataNotFoundError
        If the user or file is not there.
    TraceError
        If no segment fits, with what there is instead.
    """
    found = list(segments(geolife, user, file=file))
    if mode is None:
        found = list(_whole(found))
    fitting = [
        segment
        for segment in found
        if (mode is None or segment.mode == mode)
        and len(segment.fixes.epoch_s) >= _FEWEST_FIXES
        and _inside(segment.fixes, box).mean() >= INSIDE_SHARE
    ]
    if not fitting:
        modes = sorted({s.mode for s in found if s.mode}) or ["none labelled"]
        raise TraceError(
            f"GeoLife user {user}{f', file {file}' if file else ''}: no segment of at least "
            f"{_FEWEST_FIXES} fixes{f' in mode {mode!r}' if mode else ''} lies on the map. Modes "
            f"there: {', '.join(modes)}. Choose another mode, file or map"
        )
    best = max(fitting, key=lambda s: (s.length_m, s.file))
    inside = _inside(best.fixes, box)
    dropped = dict(best.fixes.dropped)
    if not inside.all():
        dropped["outside the map"] = int((~inside).sum())
    others = sum(len(s.fixes.epoch_s) for s in found if s.file == best.file and s is not best)
    if others:
        dropped["other segments of the file"] = others
    time = best.fixes.epoch_s[inside]
    trace = make_trace(user, time - time[0], best.fixes.lat_deg[inside], best.fixes.lon_deg[inside])
    pauses = np.diff(time)
    report = TraceReport(
        source=f"GeoLife user {user}, {best.file}.plt, mode {best.mode or 'unlabelled'}",
        fixes=len(trace),
        dropped=dropped,
        problems=best.fixes.problems,
        gaps=tuple(
            (float(time[i] - time[0]), float(pauses[i]))
            for i in np.flatnonzero(pauses > LONG_GAP_S)
        ),
    )
    return trace, report


def _whole(found: list[Segment]) -> Iterator[Segment]:
    """Join segments of the same file that only a change of mode has cut."""
    joined: list[Segment] = []
    for segment in found:
        last = joined[-1] if joined else None
        if last is not None and last.file == segment.file and _adjoin(last.fixes, segment.fixes):
            here, there = last.fixes, segment.fixes
            both = Plt(
                here.path,
                np.concatenate((here.epoch_s, there.epoch_s)),
                np.concatenate((here.lat_deg, there.lat_deg)),
                np.concatenate((here.lon_deg, there.lon_deg)),
                here.dropped,
                here.problems,
            )
            moved_m = float(distances_m(both.lat_deg, both.lon_deg).sum())
            modes = "+".join(dict.fromkeys(m for m in (*last.mode.split("+"), segment.mode) if m))
            joined[-1] = Segment(last.user, last.file, modes, both, moved_m)
        else:
            joined.append(segment)
    yield from joined


def _adjoin(here: Plt, there: Plt) -> bool:
    ends = distances_m(
        np.array([here.lat_deg[-1], there.lat_deg[0]]),
        np.array([here.lon_deg[-1], there.lon_deg[0]]),
    )
    return bool(ends[0] <= TOP_SPEED_MPS * (there.epoch_s[0] - here.epoch_s[-1]))


def _inside(fixes: Plt, box: BoxDeg | None) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if box is None:
        return np.ones(len(fixes.epoch_s), dtype=bool)
    west, south, east, north = box
    lat, lon = fixes.lat_deg, fixes.lon_deg
    return np.asarray((lat >= south) & (lat <= north) & (lon >= west) & (lon <= east))
