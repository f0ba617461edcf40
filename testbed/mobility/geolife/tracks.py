"""GeoLife 1.3: GPS tracks of real people, with the modes they wrote down.

``Data/NNN/Trajectory/*.plt`` hold one track each (see `testbed.mobility.geolife.plt`), and
``Data/NNN/labels.txt`` says when which mode was used (see `testbed.mobility.geolife.labels`). The
data set is for non-commercial use only and is never part of the testbed.

This module finds the data set and takes one segment of one user out of it; where a jump remains
a track is cut. `testbed.mobility.geolife.dataset` reads all of it.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.geolife.labels import Label, flights, label_numbers, parse_labels, read_labels
from testbed.mobility.geolife.plt import Plt, Rules, clean, parse_plts, read_plt, speed_limit
from testbed.mobility.report import TraceReport
from testbed.mobility.trace import Flags, Floats, Trace, distances_m, make_trace

__all__ = [
    "BoxDeg",
    "Segment",
    "find_geolife",
    "read_labels",
    "read_plt",
    "read_track",
    "segments",
    "user_folders",
]

BoxDeg = tuple[float, float, float, float]
"""West, south, east, north."""

LONG_GAP_S = 30.0
INSIDE_SHARE = 0.99
IMPORTED = "geolife-1.3"
"""Folder that `testbed data geolife` makes."""
_BELOW = (f"{IMPORTED}/Data", "geolife/Data", "Geolife Trajectories 1.3/Data", "Data", ".")
_FEWEST_FIXES = 10


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
        for below in _BELOW:
            path = folder / below
            tried.append(path)
            if path.is_dir() and any(path.glob("[0-9][0-9][0-9]/Trajectory")):
                return path
    raise DataNotFoundError(
        "GeoLife 1.3 is not on this machine; looked for NNN/Trajectory in "
        f"{', '.join(map(str, tried)) or 'no folder at all'}. Get it from Microsoft Research, and "
        "set TESTBED_DATA to the folder that holds geolife/Data"
    )


def user_folders(folder: Path) -> dict[str, Path]:
    """Folders of the users in any part of GeoLife, by name and in order.

    Parameters
    ----------
    folder : Path
        The data set as unpacked, its ``Data``, one user's folder or its ``Trajectory``.

    Raises
    ------
    DataNotFoundError
        If there are no tracks in such a place.
    """
    if folder.name == "Trajectory" and any(folder.glob("*.plt")):
        return {folder.resolve().parent.name: folder.parent}
    if (folder / "Trajectory").is_dir():
        return {folder.resolve().name: folder}
    for below in _BELOW:
        found = sorted(path.parent for path in (folder / below).glob("*/Trajectory"))
        if found:
            return {path.name: path for path in found}
    raise DataNotFoundError(
        f"{folder}: no GeoLife tracks; looked for Data/NNN/Trajectory/*.plt, "
        "NNN/Trajectory/*.plt and Trajectory/*.plt there"
    )


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
    TraceError
        If ``file`` holds no usable fix.
    """
    folder = geolife / user
    if not folder.is_dir():
        there = sorted(path.name for path in geolife.iterdir() if path.is_dir())
        raise DataNotFoundError(
            f"{folder}: GeoLife user {user!r} is not here; there are {', '.join(there)}"
        )
    labels, problems = parse_labels(folder / "labels.txt")
    paths = sorted((folder / "Trajectory").glob("*.plt"))
    if file:
        paths = [folder / "Trajectory" / f"{file}.plt"]
        read_plt(paths[0])  # a track asked for by name must be there and hold a fix
    for raw in parse_plts(paths):
        name = raw.path.stem
        track = clean(raw, flights=flights(labels))
        track = dataclasses.replace(track, problems=(*track.problems, *problems))
        for part in _without_jumps(track, labels):
            for mode, begin, end in _modes(part.epoch_s, labels):
                here = part.part(begin, end)
                moved_m = float(distances_m(here.lat_deg, here.lon_deg).sum())
                yield Segment(user, name, mode, here, moved_m)


def _without_jumps(track: Plt, labels: list[Label]) -> Iterator[Plt]:
    limit_mps = speed_limit(track.epoch_s, Rules(), flights(labels))
    moved_m = distances_m(track.lat_deg, track.lon_deg)
    cuts = np.flatnonzero(moved_m > limit_mps * np.diff(track.epoch_s)) + 1
    ends = [0, *cuts.tolist(), len(track.epoch_s)]
    for begin, end in itertools.pairwise(ends):
        yield track.part(begin, end)


def _modes(time: Floats, labels: list[Label]) -> Iterator[tuple[str, int, int]]:
    """Runs of fixes with the same label."""
    which = label_numbers(time, labels)
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
            both = dataclasses.replace(
                here,
                epoch_s=np.concatenate((here.epoch_s, there.epoch_s)),
                lat_deg=np.concatenate((here.lat_deg, there.lat_deg)),
                lon_deg=np.concatenate((here.lon_deg, there.lon_deg)),
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
    return bool(ends[0] <= Rules().top_speed_mps * (there.epoch_s[0] - here.epoch_s[-1]))


def _inside(fixes: Plt, box: BoxDeg | None) -> Flags:
    if box is None:
        return np.ones(len(fixes.epoch_s), dtype=bool)
    west, south, east, north = box
    lat, lon = fixes.lat_deg, fixes.lon_deg
    return np.asarray((lat >= south) & (lat <= north) & (lon >= west) & (lon <= east))
