import gzip

import numpy as np
import pandas as pd
import pytest
from made_geolife import make_user, northward

from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.files import read_traces, write_trace
from testbed.mobility.trace import COLUMNS, make_trace

PLAIN = """time_s,user,lat_deg,lon_deg
0,007,39.9,116.3
1,007,39.9001,116.3
2,007,39.9002,116.3
0,b,40.0,116.4
"""


def wrote(folder, text, name="traces.csv"):
    path = folder / name
    path.write_text(text)
    return path


def test_the_least_that_a_file_may_hold_becomes_a_whole_trace(tmp_path):
    trace, report = read_traces(wrote(tmp_path, PLAIN))
    assert list(trace.columns) == list(COLUMNS)
    assert trace["user"].tolist() == ["007", "007", "007", "b"]
    assert trace["speed_mps"].tolist() == pytest.approx([11.12, 11.12, 11.12, 0.0], rel=1e-3)
    assert (report.users, report.fixes, report.problems) == (2, 4, ())


def test_users_may_stand_mixed_and_columns_that_are_not_used_are_named(tmp_path):
    lines = (
        "time_s,lon_deg,lat_deg,user,colour\n0,1,2,b,red\n0,1,2,a,red\n1,1,2,b,red\n1,1,2,a,red\n"
    )
    trace, report = read_traces(wrote(tmp_path, lines))
    assert trace["user"].tolist() == ["b", "b", "a", "a"]
    assert report.problems[0].endswith("column colour is not used")
    only, _ = read_traces(wrote(tmp_path, lines), users=["a"])
    assert only["user"].unique().tolist() == ["a"]
    with pytest.raises(DataNotFoundError, match="no user c; there are b, a"):
        read_traces(wrote(tmp_path, lines), users=["c"])


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_what_is_written_is_read_again(tmp_path, name):
    trace = make_trace("007", np.arange(5) / 3, 39.9 + np.arange(5) / 7e4, np.full(5, 116.3))
    trace = trace.assign(segment=np.int32([0, 0, 1, 1, 1]), track="a", mode="car")
    write_trace(trace, tmp_path / name)
    again, _ = read_traces(tmp_path / name)
    pd.testing.assert_frame_equal(again, trace)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_iso_times_with_a_zone_are_seconds_since_1970(tmp_path):
    lines = (
        "time,user,lat_deg,lon_deg\n2008-05-01T10:00:00Z,a,1,2\n2008-05-01T18:00:01.5+08:00,a,1,2\n"
    )
    trace, _ = read_traces(wrote(tmp_path, lines))
    assert trace["time_s"].tolist() == [1209636000.0, 1209636001.5]
    pd.DataFrame(
        {"time": pd.to_datetime(["2008-05-01T10:00:00Z"]), "user": 7, "lat_deg": 1, "lon_deg": 2}
    ).to_parquet(tmp_path / "t.parquet")
    trace, _ = read_traces(tmp_path / "t.parquet")
    assert trace["time_s"].tolist() == [1209636000.0]
    assert trace["user"].tolist() == ["7"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("116.3\n1", "116.3\nx1"), "row 3: time_s is 'x1', which is no number"),
        (("39.9001", "99.9"), "row 3: lat_deg is 99.9, which is not between -90 and 90"),
        (("39.9001", ""), "row 3: lat_deg is"),
        (("2,007", "1,007"), "row 4: time_s of user 007 does not grow"),
        (("0,b", "0,"), "row 5: user is empty"),
        (("lat_deg", "latitude"), "lacks the columns lat_deg; it has time_s, user, latitude"),
        (("time_s", "when"), "lacks the columns time_s.*or time, as 2008"),
        (("39.9002,116.3", "39.9002"), "row 4: lon_deg is ''"),
        (("39.9002,116.3", "39.9002,116.3,1"), "cannot be read as CSV .*line 4"),
        ((PLAIN[28:], ""), "holds no fix"),
        ((PLAIN, ""), "cannot be read as CSV"),
        (("time_s", "time"), "row 2: time is '0'; write it with its zone"),
    ],
)
def test_a_bad_file_is_refused_with_file_row_and_value(tmp_path, change, message):
    assert change[0] in PLAIN
    path = wrote(tmp_path, PLAIN.replace(*change, 1))
    with pytest.raises(TraceError, match=f"{path}.*{message}"):
        read_traces(path)


def test_a_naive_time_is_refused(tmp_path):
    path = wrote(tmp_path, "time,user,lat_deg,lon_deg\n2008-05-01T10:00:00,a,1,2\n")
    with pytest.raises(TraceError, match="row 2: time is '2008-05-01T10:00:00'; write it with its"):
        read_traces(path)


def test_other_places_are_refused_or_read_as_what_they_are(tmp_path):
    with pytest.raises(DataNotFoundError, match="no such file"):
        read_traces(tmp_path / "none.csv")
    with pytest.raises(TraceError, match="not a kind of trace file"):
        read_traces(wrote(tmp_path, PLAIN, "t.txt"))
    with pytest.raises(TraceError, match="write traces as"):
        write_trace(make_trace("a", *np.ones((3, 1))), tmp_path / "t.txt")
    with pytest.raises(TraceError, match="cannot be read as Parquet"):
        read_traces(wrote(tmp_path, PLAIN, "t.parquet"))
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(PLAIN.encode()))
    assert len(read_traces(tmp_path / "t.csv.gz")[0]) == 4
    make_user(tmp_path / "g" / "Data", "001", {"a": northward()}, [(0, 99, "bus")])
    trace, report = read_traces(tmp_path / "g", users=["001"])
    assert set(trace["mode"]) == {"bus"}
    assert report.labels == 1


def test_a_folder_of_parquet_files_is_one_trace(tmp_path):
    for user in "ab":
        write_trace(
            make_trace(user, np.arange(3.0), np.ones(3), np.ones(3)), tmp_path / f"{user}.parquet"
        )
    trace, report = read_traces(tmp_path)
    assert trace["user"].tolist() == list("aaabbb")
    assert report.files == 2


def test_where_no_mode_is_given_the_fix_is_not_labelled(tmp_path):
    trace = make_trace("a", np.arange(3.0), np.ones(3), np.ones(3))
    trace.assign(mode=pd.Categorical(["car", None, None])).to_parquet(tmp_path / "t.parquet")
    trace, report = read_traces(tmp_path / "t.parquet")
    assert trace["mode"].tolist() == ["car", "", ""]
    assert sum(amount.fixes for amount in report.modes.values()) == 3
