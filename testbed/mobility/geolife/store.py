"""GeoLife as it was imported: one Parquet file per user, and a manifest that says from what.

``FOLDER/manifest.json``, ``FOLDER/traces/USER.parquet`` and ``FOLDER/Data``, the original files or
a link to them. `pandas.read_parquet` reads ``FOLDER/traces`` as well.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.geolife.dataset import join_users, read_users
from testbed.mobility.geolife.plt import Rules
from testbed.mobility.geolife.tracks import IMPORTED
from testbed.mobility.report import DatasetReport
from testbed.mobility.trace import Trace

MANIFEST = "manifest.json"
TRACES = "traces"
KIND = "GeoLife traces imported by testbed"
LAYOUT = 1
"""Raised whenever what is stored changes, so that an old import is made anew."""
LICENCE = (
    "Microsoft Research License Agreement: non-commercial use only; neither the data nor anything "
    "derived from it may be passed on"
)


@dataclass(frozen=True)
class Manifest:
    """Where an imported data set came from and what is in it.

    Attributes
    ----------
    source : str
        Folder, file or address.
    fingerprint : str
        Changes with the source: sizes and times of files, or what the server said.
    sha256 : str
        Of the archive, or of the folder's ``SHA256SUMS``; empty where there was none.
    checked : str
        What was checked against what, in words.
    rules : Rules
        What was left out and where tracks were cut.
    users : dict of str to DatasetReport
        By user.
    imported_at : str
        ISO 8601.
    """

    source: str
    fingerprint: str
    sha256: str
    checked: str
    rules: Rules
    users: dict[str, DatasetReport]
    imported_at: str
    licence: str = LICENCE
    versions: dict[str, str] = field(default_factory=dict)

    def report(self, users: Iterable[str] | None = None) -> DatasetReport:
        """The sum over all users, or some."""
        names = self.users if users is None else users
        return DatasetReport.merged(
            f"GeoLife imported from {self.source}", (self.users[name] for name in names)
        )

    def to_json(self) -> str:
        """The text of the file."""
        words = {"kind": KIND, "layout": LAYOUT, **asdict(self), "report": self.report().to_json()}
        return json.dumps(words, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Manifest":
        """What `to_json` gave."""
        words = {name: found[name] for name in cls.__dataclass_fields__}
        words["rules"] = Rules(**found["rules"])
        words["users"] = {
            user: DatasetReport.from_json(report) for user, report in found["users"].items()
        }
        return cls(**words)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an imported data set; ``None`` where there is none of this layout."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if found["kind"] != KIND or found["layout"] != LAYOUT:
            return None
        return Manifest.from_json(found)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_ours(folder: Path) -> bool:
    """Whether a folder was made by an import, of whatever layout."""
    try:
        return bool(json.loads((folder / MANIFEST).read_text("utf-8"))["kind"] == KIND)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def find_store(folder: Path) -> Path | None:
    """The imported data set in a folder or right below it."""
    for place in (folder, folder / IMPORTED):
        if read_manifest(place) is not None:
            return place
    return None


def write_traces(
    folders: dict[str, Path], target: Path, rules: Rules, *, progress: bool
) -> dict[str, DatasetReport]:
    """Convert users one after another to ``target/USER.parquet``; their reports by name.

    Raises
    ------
    TraceError
        If not one fix of any user is usable.
    """
    target.mkdir(parents=True)
    reports: dict[str, DatasetReport] = {}
    pairs = zip(folders, read_users(folders, rules=rules, progress=progress), strict=True)
    for user, (trace, report) in pairs:
        reports[user] = report
        if len(trace):
            table = pa.Table.from_pandas(trace, preserve_index=False)
            pq.write_table(table, target / f"{user}.parquet", compression="zstd")
    if not any(report.fixes for report in reports.values()):
        problems = [problem for report in reports.values() for problem in report.problems]
        raise TraceError(f"not one usable fix; {problems[0] if problems else 'no tracks'}")
    return reports


def is_whole(folder: Path, manifest: Manifest) -> bool:
    """Whether every user's file is still there."""
    users = [user for user, report in manifest.users.items() if report.fixes]
    return all((folder / TRACES / f"{user}.parquet").is_file() for user in users)


def read_store(folder: Path, *, users: Iterable[str] | None = None) -> tuple[Trace, DatasetReport]:
    """Load imported traces, all or those of some users; columns as from `dataset.read_geolife`.

    Raises
    ------
    DataNotFoundError
        If nothing was imported there, or not this user.
    TraceError
        If a file is damaged, or no fix of these users was kept.
    """
    place = find_store(folder)
    manifest = None if place is None else read_manifest(place)
    if place is None or manifest is None:
        raise DataNotFoundError(
            f"{folder}: no imported GeoLife. `testbed data geolife SOURCE -o {folder}` makes it"
        )
    wanted = list(manifest.users) if users is None else list(dict.fromkeys(users))
    missing = [user for user in wanted if user not in manifest.users]
    if missing:
        raise DataNotFoundError(
            f"{place}: GeoLife user {', '.join(missing)} is not here; there are "
            f"{', '.join(manifest.users)}"
        )
    report = manifest.report(wanted)
    if not report.fixes:
        raise TraceError(f"{place}: no fix of {', '.join(wanted)} was usable")
    parts = []
    for user in wanted:
        path = place / TRACES / f"{user}.parquet"
        if not manifest.users[user].fixes:
            continue
        try:
            parts.append(pq.read_table(path).to_pandas())
        except (OSError, pa.ArrowException) as error:
            raise TraceError(
                f"{path}: cannot be read ({error}). Remove {place} and import GeoLife again"
            ) from error
    return join_users(parts), report
