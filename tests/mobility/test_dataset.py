import hashlib
from datetime import datetime

import numpy as np
import pytest
from made_geolife import START, make_user, northward, plt_line

from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.geolife.dataset import read_geolife
from testbed.mobility.geolife.plt import Rules
from testbed.mobility.geolife.tracks import user_folders
from testbed.mobility.report import DatasetReport
from testbed.mobility.segments import segment_table
from testbed.mobility.trace import COLUMNS, LABEL_COLUMNS, check_trace

EPOCH_S = START.timestamp()


@pytest.fixture
def data(tmp_path):
    return tmp_path / "Data"


def segments_of(trace):
    table = segment_table(trace)
    rows = zip(table["track"], table["mode"], table["fixes"], strict=True)
    return [tuple(row) for row in rows]


def test_users_become_one_table_in_order_with_times_in_gmt(data):
    make_user(data, "001", {"b": northward(begin_s=500), "a": northward()})
    make_user(data, "000", {"a": northward(begin_s=10)})
    trace, report = read_geolife(data.parent)
    assert list(trace.columns) == [*COLUMNS, *LABEL_COLUMNS]
    assert trace["user"].unique().tolist() == ["000", "001"]
    assert trace["time_s"].iloc[0] == EPOCH_S + 10
    assert segments_of(trace) == [("a", "", 30), ("a", "", 30), ("b", "", 30)]
    assert trace["segment"].tolist() == [0] * 60 + [1] * 30
    assert check_trace(trace).equals(trace)
    assert (report.users, report.tracks, report.files, report.fixes) == (2, 3, 3, 90)
    assert report.cuts == {"new track": 1}
    assert report.total.length_m == pytest.approx(3 * 29 * 11.12, rel=1e-3)
    assert report.total.duration_s == 87.0


@pytest.mark.parametrize("below", ["", "Data", "Data/007", "Data/007/Trajectory"])
def test_any_folder_of_the_data_set_will_do(data, below):
    make_user(data, "007", {"a": northward()})
    trace, _ = read_geolife(data.parent / below)
    assert trace["user"].unique().tolist() == ["007"]
    assert len(trace) == 30


def test_gaps_and_jumps_cut_and_no_speed_is_made_of_them(data):
    far = [*northward(count=10), *northward(20, 10, lat=41.0), *northward(1000, 10, lat=41.01)]
    make_user(data, "000", {"a": far})
    trace, report = read_geolife(data)
    assert segments_of(trace) == [("a", "", 10)] * 3
    assert report.cuts == {"jump": 1, "gap": 1}
    assert trace["speed_mps"].max() == pytest.approx(11.12, rel=1e-3)
    _, longer = read_geolife(data, rules=Rules(gap_s=2000.0))
    assert longer.cuts == {"jump": 1}


def test_labels_become_modes_and_the_later_of_two_counts(data):
    labels = [(0, 19, "walk"), (10, 29, "bus"), (40, 49, "car"), (9000, 9999, "train")]
    make_user(data, "000", {"a": northward(count=60)}, labels)
    trace, report = read_geolife(data)
    assert [s[1:] for s in segments_of(trace)] == [
        *[("walk", 10), ("bus", 20), ("", 10), ("car", 10), ("", 10)]
    ]
    assert (report.labels, report.unused_labels, report.cuts) == (4, 1, {"mode": 4})
    fixes = {mode: amount.fixes for mode, amount in report.modes.items()}
    assert fixes == {"bus": 20, "": 20, "walk": 10, "car": 10}


def test_a_flight_stays_whole_where_it_is_labelled(data):
    flight = [plt_line(5 * i, 30 + 0.01 * i, 116.3) for i in range(20)]  # 222 m/s
    make_user(data, "000", {"a": flight}, [(0, 1000, "airplane")])
    make_user(data, "001", {"a": flight})
    trace, report = read_geolife(data)
    assert len(segment_table(trace).query("user == '000'")) == 1
    assert report.cuts == {"jump": 19}


def test_what_two_tracks_hold_of_the_same_time_is_taken_once(data):
    make_user(data, "000", {"a": northward(count=60), "b": northward(30, 60, lon=116.5)})
    trace, report = read_geolife(data)
    assert segments_of(trace) == [("a", "", 60), ("b", "", 30)]
    assert report.dropped == {"overlapping track": 30}
    assert check_trace(trace) is not None


def test_a_far_future_fix_at_the_end_of_a_track_does_not_hide_later_tracks(data):
    lines = [*northward(), plt_line(10**8, 39.95, 116.3)]
    make_user(data, "000", {"a": lines, "b": northward(1000)})
    trace, report = read_geolife(data)
    assert len(trace) == 61
    assert report.dropped == {}


def test_what_cannot_be_read_is_named_and_the_rest_is_there(data):
    folder = make_user(data, "000", {"a": northward(), "b": ["no fix"], "c": []}, [(0, 9, "walk")])
    with (folder / "labels.txt").open("a") as file:
        file.write("2008/05/01 10:00:00 bus\r\n2008/05/01 10:09:00\t2008/05/01 10:00:00\tcar\r\n")
    trace, report = read_geolife(data)
    assert len(trace) == 30
    assert report.dropped == {"malformed lines": 1}
    told = "\n".join(report.problems)
    for words in ("labels.txt:3: not a label (1 fields", "labels.txt:4: not a label (it ends"):
        assert words in told
    assert "b.plt:7: 1 fields" in told
    assert "c.plt: holds no fix" in told
    assert report.lines == report.fixes + sum(report.dropped.values()) == 31


def test_a_data_set_without_a_fix_or_a_user_is_refused(data):
    make_user(data, "000", {"a": ["nonsense"]})
    with pytest.raises(TraceError, match=r"no usable fix in 1 files .* a\.plt:7|a\.plt:7"):
        read_geolife(data)
    with pytest.raises(DataNotFoundError, match="user 001 is not here; there are 000"):
        read_geolife(data, users=["001"])
    with pytest.raises(DataNotFoundError, match="no GeoLife tracks"):
        read_geolife(data.parent / "elsewhere")


def test_a_report_can_be_shown_and_stored(data):
    labels = [(0, 9, "<walk>")]
    make_user(data, "000", {"a": [*northward(), "x"]}, labels)
    _, report = read_geolife(data)
    assert DatasetReport.from_json(report.to_json()) == report
    shown = report._repr_html_()
    assert "malformed lines 1" in shown
    assert "&lt;walk&gt;" in shown
    assert "<walk>" not in shown
    assert "30 of 31 lines in 1 files" in str(report)


def counted_by_hand(path):
    """Lines below the header, and what is left if only the first fix of each time is kept.

    Written without anything of the testbed: `datetime`, lists and sets.
    """
    lines = [line for line in path.read_text().splitlines()[6:] if line]
    times = [datetime.fromisoformat("T".join(line.split(",")[5:])) for line in lines]
    first = {}
    for line, time in zip(lines, times, strict=True):
        first.setdefault(time, tuple(map(float, line.split(",")[:2])))
    return len(lines), first


def test_every_line_of_the_real_data_is_kept_or_counted(data_paths):
    folder = data_paths[0] / "geolife"
    users = list(user_folders(folder))[:20]
    trace, report = read_geolife(folder, users=users)
    assert check_trace(trace).equals(trace)
    lines = files = fixes = 0
    kept = hashlib.sha256()
    for path in (p for user in users for p in sorted(folder.glob(f"Data/{user}/*/*.plt"))):
        count, first = counted_by_hand(path)
        lines, files, fixes = lines + count, files + 1, fixes + len(first)
        kept.update(np.array(list(first.values())).tobytes())
    assert (report.lines, report.files) == (lines, files)
    assert report.fixes == len(trace) == lines - sum(report.dropped.values())
    if set(report.dropped) == {"duplicate time"}:
        assert report.fixes == fixes
        places = np.ascontiguousarray(trace[["lat_deg", "lon_deg"]].to_numpy())
        assert hashlib.sha256(places.tobytes()).digest() == kept.digest()
    else:
        assert report.fixes <= fixes
