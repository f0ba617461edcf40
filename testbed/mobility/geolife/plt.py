"""``.plt`` files of GeoLife: from lines of text to fixes that one can trust.

Six header lines, then latitude, longitude, 0, altitude in feet, days, date and time, in GMT.

What is left out of a track is counted by rule:

- *malformed lines*: not seven fields, no number, no date, no place on earth; each with its line;
- *duplicate time*, *time goes back*, *time jumps ahead*: the fewest fixes without which the time
  grows from fix to fix;
- *spikes*: single fixes that can neither be reached nor left at the top speed, though their
  neighbours fit together.
"""

import bisect
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.trace import Flags, Floats, distances_m

HEADER_LINES = 6
TOP_SPEED_MPS = 100.0
"""Faster than any vehicle that GeoLife labels, apart from aeroplanes."""
FLIGHT_SPEED_MPS = 350.0
_HEADER = b"Geolife trajectory"
_FIELDS = 7
_NUMBER = r"[ \t]*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[ \t]*"
_FIX = re.compile(
    rf"(?P<lat>{_NUMBER}),(?P<lon>{_NUMBER}),[^,]*,[^,]*,[^,]*,"
    r"[ \t]*(?P<date>\d{4}-\d\d-\d\d)[ \t]*,[ \t]*(?P<time>\d\d:\d\d(?::\d\d)?)[ \t]*",
    re.ASCII,
)
_COLUMNS = ("lat", "lon", "zero", "altitude", "days", "date", "time")
_SHOWN = 60


@dataclass(frozen=True)
class Rules:
    """What makes a fix or a step between two fixes impossible, and what a break is.

    Attributes
    ----------
    top_speed_mps : float
        Nobody is faster, metres per second; a single fix beyond it is a spike, otherwise the
        track is cut there (a jump).
    flight_speed_mps : float
        The same between fixes labelled ``airplane``.
    gap_s : float
        A pause longer than this cuts the track, seconds.
    """

    top_speed_mps: float = TOP_SPEED_MPS
    flight_speed_mps: float = FLIGHT_SPEED_MPS
    gap_s: float = 300.0

    def __post_init__(self) -> None:
        """Refuse rules that leave nothing."""
        for name, value in asdict(self).items():
            if not value > 0:
                raise TraceError(f"rules: {name} is {value}; it must be above 0")


@dataclass(frozen=True)
class Plt:
    """The usable fixes of one ``.plt`` file, and what was wrong with the others.

    ``lines`` counts what is neither header nor blank: fixes and dropped lines add up to it.
    """

    path: Path
    epoch_s: Floats
    lat_deg: Floats
    lon_deg: Floats
    dropped: dict[str, int]
    problems: tuple[str, ...]
    lines: int = 0

    def part(self, begin: int, end: int) -> "Plt":
        """The fixes ``begin:end``."""
        return self.where(slice(begin, end))

    def where(self, rows: "slice | Flags", **dropped: int) -> "Plt":
        """The fixes at ``rows``; what was ``dropped`` for it is added."""
        return replace(
            self,
            epoch_s=self.epoch_s[rows],
            lat_deg=self.lat_deg[rows],
            lon_deg=self.lon_deg[rows],
            dropped=dict(Counter(self.dropped) + Counter(dropped)),
        )


def read_plt(path: Path) -> Plt:
    """Read one track and clean it.

    Raises
    ------
    DataNotFoundError
        If there is no such file.
    TraceError
        If no usable fix is in it.
    """
    if not path.is_file():
        raise DataNotFoundError(f"{path}: there is no such GeoLife track")
    (raw,) = parse_plts([path])
    if not len(raw.epoch_s):
        raise TraceError(
            f"{path}: holds no usable fix ({raw.lines} lines, {len(raw.problems)} malformed). "
            f"{raw.problems[0] if raw.problems else 'Is it a GeoLife .plt file?'}"
        )
    return clean(raw)


def parse_plts(paths: Iterable[Path]) -> list[Plt]:
    """Every well-formed fix of each file, in the order of the lines; nothing is raised.

    Well-formed files are read in one go. Where that fails, the files are halved until the
    malformed one is alone, and that one is read line by line.
    """
    return _parse([_open(path) for path in paths])


@dataclass(frozen=True)
class _File:
    """What stands below a file's header; ``first`` is the number of its first line."""

    path: Path
    body: bytes = b""
    first: int = HEADER_LINES + 1
    problems: tuple[str, ...] = field(default=())


def _open(path: Path) -> _File:
    try:
        content = path.read_bytes()
    except OSError as error:
        return _File(path, problems=(f"{path}: cannot be read: {error.strerror or error}",))
    begin = 0
    if not content.startswith(_HEADER) and _FIX.fullmatch(_lines(content[:200])[0]):
        return _File(path, _ended(content), first=1)
    for _ in range(HEADER_LINES):
        end = content.find(b"\n", begin)
        if end < 0:
            return _File(path)
        begin = end + 1
    return _File(path, _ended(content[begin:]))


def _ended(body: bytes) -> bytes:
    """Lines without blank ones behind the last."""
    body = body.rstrip()
    return body + b"\n" if body else b""


def _lines(body: bytes) -> list[str]:
    return [line.removesuffix("\r") for line in body.decode("utf-8", "replace").split("\n")]


def _parse(files: Sequence[_File]) -> list[Plt]:
    counts = [file.body.count(b"\n") for file in files]
    columns = _in_one_go(b"".join(file.body for file in files), sum(counts))
    if columns is None and len(files) > 1:
        half = len(files) // 2
        return [*_parse(files[:half]), *_parse(files[half:])]
    if columns is None:
        return [_line_by_line(files[0])]
    found = []
    end = 0
    for file, count in zip(files, counts, strict=True):
        here = slice(end, end := end + count)
        time, lat, lon = (column[here] for column in columns)
        found.append(Plt(file.path, time, lat, lon, {}, file.problems, lines=count))
    return found


def _in_one_go(body: bytes, count: int) -> tuple[Floats, Floats, Floats] | None:
    """Time, latitude and longitude of every line; ``None`` if any is malformed."""
    if not count:
        return np.empty(0), np.empty(0), np.empty(0)
    if body.count(b"\r") not in {0, body.count(b"\r\n")}:
        return None
    try:
        table = pa.csv.read_csv(
            pa.py_buffer(body),
            read_options=pa.csv.ReadOptions(
                column_names=_COLUMNS, use_threads=False, block_size=1 << 24
            ),
            parse_options=pa.csv.ParseOptions(quote_char=False),
            convert_options=pa.csv.ConvertOptions(
                include_columns=["lat", "lon", "date", "time"],
                column_types={
                    "lat": pa.float64(),
                    "lon": pa.float64(),
                    "date": pa.date32(),
                    "time": pa.time32("s"),
                },
                null_values=[],
                check_utf8=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    lat, lon = table["lat"].to_numpy(), table["lon"].to_numpy()
    if len(lat) != count or not np.all((np.abs(lat) <= 90) & (np.abs(lon) <= 180)):  # noqa: PLR2004
        return None
    days = pc.cast(table["date"], pa.int32()).to_numpy()
    seconds = pc.cast(table["time"], pa.int32()).to_numpy()
    return days * 86400.0 + seconds, lat, lon


def _line_by_line(file: _File) -> Plt:
    problems: list[str] = []
    rows: list[tuple[float, float, float]] = []
    for number, line in enumerate(_lines(file.body), start=file.first):
        if not line.strip():
            continue
        try:
            rows.append(_fix(line))
        except ValueError as error:
            problems.append(f"{file.path}:{number}: {error}")
    time, lat, lon = np.array(rows, dtype=float).reshape(-1, 3).T
    dropped = {"malformed lines": len(problems)} if problems else {}
    lines = len(rows) + len(problems)
    return Plt(file.path, time, lat, lon, dropped, (*file.problems, *problems), lines=lines)


def _fix(line: str) -> tuple[float, float, float]:
    fields = line.count(",") + 1
    if fields != _FIELDS:
        raise ValueError(f"{fields} fields instead of {_FIELDS}: {line[:_SHOWN]!r}")
    match = _FIX.fullmatch(line)
    if match is None:
        raise ValueError(
            f"not a fix (latitude,longitude,0,feet,days,YYYY-MM-DD,HH:MM:SS): {line[:_SHOWN]!r}"
        )
    try:
        time = datetime.fromisoformat(f"{match['date']}T{match['time']}").replace(tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"not a time ({error}): {line[:_SHOWN]!r}") from error
    lat, lon = float(match["lat"]), float(match["lon"])
    if not (abs(lat) <= 90 and abs(lon) <= 180):  # noqa: PLR2004
        raise ValueError(f"latitude {lat}, longitude {lon} is not a place on earth")
    return time.timestamp(), lat, lon


def clean(raw: Plt, rules: Rules | None = None, flights: Sequence[tuple[float, float]] = ()) -> Plt:
    """Leave out the fixes that the rules of this module refuse.

    Parameters
    ----------
    raw : Plt
        As `parse_plts` gives it.
    rules : Rules, optional
        Top speeds.
    flights : sequence of (begin_s, end_s)
        When the user flew, by the labels.
    """
    rules = rules or Rules()
    growing, dropped = _growing(raw.epoch_s)
    track = raw.where(growing, **dropped) if dropped else raw
    spike = _spikes(track, speed_limit(track.epoch_s, rules, flights))
    return track.where(~spike, spikes=int(spike.sum())) if spike.any() else track


def speed_limit(time: Floats, rules: Rules, flights: Sequence[tuple[float, float]] = ()) -> Floats:
    """The highest speed that is believed for each step between two fixes, metres per second."""
    flying = np.zeros(len(time), dtype=bool)
    for begin_s, end_s in flights:
        flying |= (time >= begin_s) & (time <= end_s)
    return np.where(flying[:-1] & flying[1:], rules.flight_speed_mps, rules.top_speed_mps)


def _growing(time: Floats) -> tuple[Flags, dict[str, int]]:
    """The longest choice of fixes in which time grows (patience sorting), and what is left out.

    Keeping every fix later than all before it would lose the rest of a track to one wrong date.
    """
    good = np.ones(len(time), dtype=bool)
    steps = np.diff(time)
    if np.all(steps >= 0):
        good[1:] = steps > 0
        repeated = int((~good).sum())
        return good, {"duplicate time": repeated} if repeated else {}
    ends: list[float] = []
    last: list[int] = []
    before = []
    for row, when in enumerate(time.tolist()):
        length = bisect.bisect_left(ends, when)
        before.append(last[length - 1] if length else -1)
        if length == len(ends):
            ends.append(when)
            last.append(row)
        elif ends[length] != when:  # the first of several at one time stays
            ends[length], last[length] = when, row
    good[:] = False
    row = last[-1]
    while row >= 0:
        good[row] = True
        row = before[row]
    kept, out = np.flatnonzero(good), np.flatnonzero(~good)
    place = np.searchsorted(kept, out)
    earlier = np.append(-np.inf, time[kept])[place]
    later = np.append(time[kept], np.inf)[place]
    dropped = {
        "duplicate time": (time[out] == earlier) | (time[out] == later),
        "time goes back": time[out] < earlier,
        "time jumps ahead": time[out] > later,
    }
    return good, {rule: int(rows.sum()) for rule, rows in dropped.items() if rows.any()}


def _spikes(track: Plt, limit_mps: Floats) -> Flags:
    """Inner fixes that cannot be reached nor left, though their neighbours fit together."""
    time, lat, lon = track.epoch_s, track.lat_deg, track.lon_deg
    spike = np.zeros(len(time), dtype=bool)
    fast = distances_m(lat, lon) > limit_mps * np.diff(time)
    candidates = np.flatnonzero(fast[:-1] & fast[1:]) + 1
    for row in candidates.tolist():
        ends = [row - 1, row + 1]
        over_m = distances_m(lat[ends], lon[ends])[0]
        spike[row] = over_m <= limit_mps[row] * (time[row + 1] - time[row - 1])
    return spike
