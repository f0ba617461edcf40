import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_geolife import HEADER, START, northward, plt_line

from testbed.errors import TraceError
from testbed.mobility.geolife import plt

EPOCH_S = START.timestamp()


def write(folder, lines, *, name="a", end="\r\n", header=HEADER):
    path = folder / f"{name}.plt"
    path.write_bytes(end.join([*header, *lines, ""]).encode())
    return path


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("39.9,116.3,0", "3 fields instead of 7"),
        ("39.9,116.3,0,1,2,2008-05-01,10:00:00,x", "8 fields instead of 7"),
        ("39.9x,116.3,0,1,2,2008-05-01,10:00:00", "not a fix"),
        (",116.3,0,1,2,2008-05-01,10:00:00", "not a fix"),
        ("nan,116.3,0,1,2,2008-05-01,10:00:00", "not a fix"),
        ("39.9,116.3,0,1,2,2008-05-01,10:00:00+08:00", "not a fix"),
        ("39.9,116.3,0,1,2,2008-02-30,10:00:00", "not a time"),
        ("39.9,116.3,0,1,2,2008-05-01,24:00:01", "not a time"),
        ("400.166667,116.3,0,1,2,2008-05-01,10:00:00", "not a place on earth"),
        ("39.9,-180.5,0,1,2,2008-05-01,10:00:00", "not a place on earth"),
        ("\x00\x00\x00\x00", "1 fields"),
        ("39.9,116.3,0,1,2,2008-05-01,10:00:00\r39.9,116.3,0,1,2,2008-05-01,10:00:01", "13 fields"),
    ],
)
def test_a_malformed_line_is_named_and_the_rest_is_read(tmp_path, line, reason):
    path = write(tmp_path, [*northward(count=5), line, *northward(begin_s=10, count=5)])
    track = plt.read_plt(path)
    assert len(track.epoch_s) == 10
    assert track.dropped == {"malformed lines": 1}
    assert track.lines == 11
    (problem,) = track.problems
    assert problem.startswith(f"{path}:12: ")
    assert reason in problem


def test_one_malformed_file_among_many_changes_nothing_in_the_others(tmp_path):
    paths = [write(tmp_path, northward(count=3 + i), name=f"{i}") for i in range(7)]
    paths[4].write_bytes(b"\xff\xfe\x00" * 400)
    paths[5].write_bytes(b"")
    missing = tmp_path / "none.plt"
    tracks = plt.parse_plts([*paths, missing])
    assert [len(t.epoch_s) for t in tracks] == [3, 4, 5, 6, 0, 0, 9, 0]
    assert "cannot be read" in tracks[-1].problems[0]
    assert all(not t.problems for t in tracks[:4])


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r\n\r\n"])
def test_line_ends_and_blank_lines_do_not_matter(tmp_path, end):
    path = tmp_path / "a.plt"
    path.write_bytes("\r\n".join(HEADER).encode() + b"\r\n" + end.join(northward()).encode())
    track = plt.read_plt(path)
    assert (len(track.epoch_s), track.lines, track.dropped) == (30, 30, {})


def test_a_file_without_a_header_loses_no_fix(tmp_path):
    track = plt.read_plt(write(tmp_path, northward(), header=[]))
    assert len(track.epoch_s) == track.lines == 30


def test_one_wrong_date_costs_one_fix_and_not_the_rest_of_the_track(tmp_path):
    lines = northward(count=60)
    lines[20] = plt_line(10**8, 39.902, 116.3)
    lines[40] = plt_line(-(10**8), 39.904, 116.3)
    track = plt.read_plt(write(tmp_path, lines))
    assert track.dropped == {"time jumps ahead": 1, "time goes back": 1}
    assert len(track.epoch_s) == 58


def test_the_first_of_several_fixes_at_one_time_stays(tmp_path):
    lines = [plt_line(0, 39.9, 116.3), plt_line(1, 39.9001, 116.3), plt_line(1, 39.9002, 116.3)]
    track = plt.read_plt(write(tmp_path, [*lines, plt_line(2, 39.9003, 116.3)]))
    assert track.lat_deg.tolist() == [39.9, 39.9001, 39.9003]
    assert track.dropped == {"duplicate time": 1}


def test_an_aeroplane_may_be_fast_and_nobody_else(tmp_path):
    lines = [plt_line(i, 39.9 + 0.002 * i, 116.3) for i in range(10)]  # 222 m/s
    lines[5] = plt_line(5, 45.0, 116.3)
    (raw,) = plt.parse_plts([write(tmp_path, lines)])
    flown = plt.clean(raw, flights=[(EPOCH_S, EPOCH_S + 9)])
    assert flown.dropped == {"spikes": 1}
    assert np.all(plt.speed_limit(flown.epoch_s, plt.Rules(), [(EPOCH_S, EPOCH_S + 9)]) == 350)
    assert np.all(plt.speed_limit(flown.epoch_s, plt.Rules()) == 100)


def test_rules_that_leave_nothing_are_refused():
    with pytest.raises(TraceError, match="gap_s is 0"):
        plt.Rules(gap_s=0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=40))
def test_time_grows_with_the_fewest_fixes_left_out_and_each_is_counted(seconds):
    time = np.array(seconds, dtype=float)
    good, dropped = plt._growing(time)
    assert np.all(np.diff(time[good]) > 0)
    assert good.sum() + sum(dropped.values()) == len(time)
    longest = [1] * len(seconds)  # the textbook's quadratic way
    for i, late in enumerate(seconds):
        longest[i] = 1 + max((longest[j] for j in range(i) if seconds[j] < late), default=0)
    assert good.sum() == max(longest, default=0)


FIELD = st.one_of(
    st.sampled_from(
        ["39.9", " 1", "+1.5", "1e1", ".5", "5.", "", "nan", "inf", "1_0", "0x1", "91", "-180", "0"]
    ),
    st.sampled_from(["2008-05-01", "2008-02-30", "2008-5-1", "20080501", " 2008-05-01 "]),
    st.sampled_from(["10:00:00", "10:00", "100000", "10:00:60", "10:00:00.5", "10:00:00Z"]),
    st.text(st.characters(exclude_characters=",\n", max_codepoint=300), max_size=6),
)
LINES = st.lists(st.lists(FIELD, min_size=1, max_size=8), min_size=1, max_size=2)
NEARLY = st.builds(
    lambda lat, lon, date, time: [lat, lon, "0", "1", "2", date, time], FIELD, FIELD, FIELD, FIELD
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(LINES, st.lists(NEARLY, min_size=1, max_size=2)))
def test_reading_in_one_go_says_what_reading_line_by_line_says(lines):
    body = plt._ended("\n".join(",".join(line) for line in lines).encode())
    columns = plt._in_one_go(body, body.count(b"\n"))
    if columns is not None:
        slow = plt._line_by_line(plt._File(None, body))
        assert not slow.problems
        for fast, column in zip(columns, (slow.epoch_s, slow.lat_deg, slow.lon_deg), strict=True):
            assert fast.tolist() == column.tolist()
