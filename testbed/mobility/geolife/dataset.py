"""All of GeoLife, or any folder of it, as one table.

Each track is cleaned by the rules of `testbed.mobility.geolife.plt`, then cut into segments: at a
*new track*, a *jump* (a step faster than the top speed), a *gap* (a longer pause), and where the
*mode* changes. Where two tracks of a user cover the same time, the one that began earlier counts
and the fixes of the other are left out as *overlapping track*.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.geolife.labels import Label, flights, label_numbers, parse_labels
from testbed.mobility.geolife.plt import Plt, Rules, clean, parse_plts, speed_limit
from testbed.mobility.geolife.tracks import user_folders
from testbed.mobility.report import DatasetReport
from testbed.mobility.segments import summarize
from testbed.mobility.trace import (
    COLUMNS,
    LABEL_COLUMNS,
    Flags,
    Floats,
    Trace,
    distances_m,
    motion,
)

CUTS = ("new track", "jump", "gap", "mode")
"""Why a segment begins; where several reasons meet the first one is counted."""


def read_geolife(
    folder: Path,
    *,
    users: Iterable[str] | None = None,
    rules: Rules | None = None,
    progress: bool = True,
) -> tuple[Trace, DatasetReport]:
    """Read every track of every user below a folder.

    Parameters
    ----------
    folder : Path
        The data set, its ``Data`` or a part of it (see `geolife.user_folders`).
    users : iterable of str, optional
        Only these.
    rules : Rules, optional
        What is impossible, and what cuts a track.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    trace : Trace
        With ``segment``, ``track`` and ``mode`` (empty where there is no label); ``time_s`` is
        seconds since 1970 (GMT), which `trace.from_zero` changes. Users, tracks and modes are
        categories.
    report : DatasetReport

    Raises
    ------
    DataNotFoundError
        If there are no tracks, or not of one of the users.
    TraceError
        If there is not one usable fix in them.
    """
    folders = choose_users(folder, users)
    parts = list(read_users(folders, rules=rules, progress=progress))
    report = DatasetReport.merged(f"GeoLife in {folder}", (part for _, part in parts))
    if not report.fixes:
        raise TraceError(
            f"{folder}: no usable fix in {report.files} files ({report.lines} lines). "
            f"{report.problems[0] if report.problems else 'Are they GeoLife .plt files?'}"
        )
    return join_users([trace for trace, _ in parts]), report


def choose_users(folder: Path, users: Iterable[str] | None = None) -> dict[str, Path]:
    """The users' folders below a folder, all or some.

    Raises
    ------
    DataNotFoundError
        If there are no tracks, or not of one of the users.
    """
    there = user_folders(folder)
    wanted = list(there) if users is None else list(dict.fromkeys(users))
    missing = [user for user in wanted if user not in there]
    if missing:
        raise DataNotFoundError(
            f"{folder}: GeoLife user {', '.join(missing)} is not here; there are {', '.join(there)}"
        )
    return {user: there[user] for user in wanted}


def read_users(
    folders: dict[str, Path], *, rules: Rules | None = None, progress: bool = True
) -> Iterator[tuple[Trace, DatasetReport]]:
    """One user after another, so that never more than one is in memory."""
    listed = {user: track_files(folder) for user, folder in folders.items()}
    sizes = {user: sum(_size(path) for path in paths) for user, paths in listed.items()}
    with tqdm(
        total=sum(sizes.values()),
        unit="B",
        unit_scale=True,
        desc="GeoLife",
        leave=False,
        disable=not (progress and sys.stderr.isatty()),
    ) as bar:
        for user, folder in folders.items():
            yield read_user(user, listed[user], folder / "labels.txt", rules)
            bar.update(sizes[user])


def track_files(folder: Path) -> list[Path]:
    """A user's ``.plt`` files, in order."""
    return sorted((folder / "Trajectory").glob("*.plt"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def read_user(
    user: str, paths: list[Path], labels_file: Path, rules: Rules | None = None
) -> tuple[Trace, DatasetReport]:
    """One user's table (perhaps empty) and what was left out of it."""
    rules = rules or Rules()
    labels, problems = parse_labels(labels_file)
    raw = parse_plts(paths)
    for track in raw:
        problems += track.problems
        if not len(track.epoch_s) and not track.problems:
            problems.append(f"{track.path}: holds no fix")
    tracks = [clean(track, rules, flights(labels)) for track in raw]
    filled = [track for track in tracks if len(track.epoch_s)]
    columns = _Columns.of(filled, labels, rules)
    kept = columns.in_order_of_time()
    which = label_numbers(kept.time, labels)
    reason = kept.reasons(which)
    trace = kept.table(reason >= 0).assign(
        user=_categories(np.zeros(len(which), dtype=int), [user]),
        track=_categories(kept.track, [track.path.stem for track in filled]),
        mode=_modes(which, labels),
    )[[*COLUMNS, *LABEL_COLUMNS]]
    dropped = [track.dropped for track in tracks]
    if len(columns.time) > len(kept.time):
        dropped.append({"overlapping track": len(columns.time) - len(kept.time)})
    counted = DatasetReport.merged("", (DatasetReport("", dropped=each) for each in dropped))
    report = replace(
        summarize(trace, user),
        files=len(paths),
        lines=sum(track.lines for track in raw),
        dropped=counted.dropped,
        cuts={
            name: int((reason[1:] == number).sum())
            for number, name in enumerate(CUTS)
            if (reason[1:] == number).any()
        },
        problems=tuple(problems),
        labels=len(labels),
        unused_labels=len(labels) - len(np.setdiff1d(which, [-1])),
    )
    return trace, report


@dataclass(frozen=True)
class _Columns:
    """All tracks of a user one after another; ``reason`` is why a fix begins a segment, or -1."""

    time: Floats
    lat: Floats
    lon: Floats
    track: NDArray[np.intp]
    reason: NDArray[np.intp]

    @classmethod
    def of(cls, tracks: list[Plt], labels: list[Label], rules: Rules) -> "_Columns":
        """Put tracks together and find where they must be cut."""
        if not tracks:
            none = np.empty(0)
            return cls(none, none, none, none.astype(np.intp), none.astype(np.intp))
        time = np.concatenate([track.epoch_s for track in tracks])
        lat = np.concatenate([track.lat_deg for track in tracks])
        lon = np.concatenate([track.lon_deg for track in tracks])
        track = np.repeat(np.arange(len(tracks)), [len(track.epoch_s) for track in tracks])
        reason = np.full(len(time), -1)
        pauses = np.diff(time)
        limit_mps = speed_limit(time, rules, flights(labels))
        reason[1:][pauses > rules.gap_s] = CUTS.index("gap")
        reason[1:][distances_m(lat, lon) > limit_mps * pauses] = CUTS.index("jump")
        reason[1:][np.diff(track) != 0] = CUTS.index("new track")
        reason[0] = CUTS.index("new track")
        return cls(time, lat, lon, track, reason)

    def in_order_of_time(self) -> "_Columns":
        """Pieces sorted by their beginning, without the fixes in an earlier piece's time."""
        starts = np.flatnonzero(self.reason >= 0)
        if not len(starts):
            return self
        lengths = np.diff(np.append(starts, len(self.time)))
        order = np.argsort(self.time[starts], kind="stable")
        rows = np.concatenate([np.arange(starts[i], starts[i] + lengths[i]) for i in order])
        ends = np.maximum.accumulate(self.time[starts + lengths - 1][order])
        covered = np.repeat(np.append(-np.inf, ends[:-1]), lengths[order])
        piece = np.repeat(order, lengths[order])
        late = self.time[rows] > covered
        rows, piece = rows[late], piece[late]
        reason = self.reason[starts][piece]
        reason[1:][np.diff(piece) == 0] = -1
        return _Columns(self.time[rows], self.lat[rows], self.lon[rows], self.track[rows], reason)

    def reasons(self, which: NDArray[np.intp]) -> NDArray[np.intp]:
        """The same with cuts where the label changes."""
        reason = self.reason.copy()
        changed = np.diff(which) != 0
        reason[1:][changed & (reason[1:] < 0)] = CUTS.index("mode")
        return reason

    def table(self, begins: Flags) -> pd.DataFrame:
        """The numbers of the trace table."""
        speed_mps, heading_deg = motion(self.time, self.lat, self.lon, begins)
        return pd.DataFrame(
            {
                "time_s": self.time,
                "lat_deg": self.lat,
                "lon_deg": self.lon,
                "speed_mps": speed_mps,
                "heading_deg": heading_deg,
                "segment": (np.cumsum(begins) - 1).astype(np.int32),
            }
        )


def _modes(which: NDArray[np.intp], labels: list[Label]) -> "pd.Series[Any]":
    """The mode of each fix by the number of its label; empty for -1."""
    names = ["", *sorted({label.mode for label in labels})]
    codes = [names.index(label.mode) for label in labels]
    return _categories(np.array([*codes, 0])[which], names)


def _categories(codes: NDArray[np.intp], names: list[str]) -> "pd.Series[Any]":
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(names, dtype="str")))


def join_users(parts: list[Trace]) -> Trace:
    """Several users' tables as one, with categories that hold all of them."""
    parts = [part for part in parts if len(part)]
    labels = ("user", "track", "mode")
    joined = pd.concat([part.drop(columns=[*labels]) for part in parts], ignore_index=True)
    for column in labels:
        values = pd.api.types.union_categoricals([part[column] for part in parts])
        joined[column] = pd.Series(values)
    return joined[[*COLUMNS, *LABEL_COLUMNS]]
