import numpy as np
import pytest
from made_geolife import plt_line

from testbed.errors import DataNotFoundError, TraceError
from testbed.mobility.geolife.tracks import (
    find_geolife,
    read_labels,
    read_plt,
    read_track,
    segments,
)


def track(begin_s=0, count=30, lat=39.9, step=0.0001):
    return [plt_line(begin_s + i, lat + i * step, 116.3) for i in range(count)]


def test_a_track_is_read_with_its_times_in_gmt(geolife):
    plt = read_plt(geolife.write("20080501100000", track()))
    assert len(plt.epoch_s) == 30
    assert plt.epoch_s[0] == 1209636000.0  # 2008-05-01 10:00:00 GMT
    assert plt.dropped == {}


def test_what_is_wrong_with_a_line_is_said_with_file_and_line(geolife):
    lines = track()
    lines[3] = "39.9,116.3,0"
    lines[5] = lines[5].replace("2008-05-01", "2008-13-01")
    lines[7] = lines[7].replace("39.9", "399.9", 1)
    path = geolife.write("a", lines)
    plt = read_plt(path)
    assert len(plt.epoch_s) == 27
    assert plt.dropped == {"malformed lines": 3}
    assert [problem.split(": ")[0] for problem in plt.problems] == [
        f"{path}:{number}" for number in (10, 12, 14)
    ]


def test_duplicates_backward_times_and_spikes_are_dropped_and_counted(geolife):
    lines = track()
    lines.insert(10, lines[9])
    lines.insert(20, lines[3])
    lines[25] = plt_line(23, 41.0, 116.3)
    plt = read_plt(geolife.write("a", lines))
    assert plt.dropped == {"duplicate time": 1, "time goes back": 1, "spikes": 1}
    assert len(plt.epoch_s) == 29
    assert np.all(np.diff(plt.epoch_s) > 0)


def test_a_file_that_is_no_track_is_refused(geolife):
    with pytest.raises(TraceError, match="no usable fix"):
        read_plt(geolife.write("a", ["nonsense"]))
    with pytest.raises(DataNotFoundError, match="no such GeoLife track"):
        read_plt(geolife.data / "042" / "Trajectory" / "none.plt")


def test_segments_follow_the_labels(geolife):
    geolife.write("a", track(count=60))
    geolife.label(0, 19, "walk")
    geolife.label(20, 49, "car")
    found = list(segments(geolife.data, "042"))
    assert [(s.mode, len(s.fixes.epoch_s)) for s in found] == [("walk", 20), ("car", 30), ("", 10)]
    assert found[1].duration_s == 29.0
    assert found[1].length_m == pytest.approx(29 * 11.12, rel=0.01)


def test_a_broken_label_is_said_with_file_and_line(geolife):
    geolife.label(0, 10, "car")
    with geolife.labels_file().open("a") as file:
        file.write("2008/05/01 10:00:00 bus\r\n")
    with pytest.raises(TraceError, match=r"labels\.txt:3"):
        read_labels(geolife.labels_file())


def test_the_longest_segment_in_the_mode_is_taken_and_time_starts_at_zero(geolife):
    geolife.write("a", track(count=40))
    geolife.write("b", track(begin_s=1000, count=60))
    geolife.label(0, 39, "car")
    geolife.label(1000, 1059, "car")
    trace, report = read_track(geolife.data, "042", mode="car")
    assert len(trace) == report.fixes == 60
    assert trace["time_s"].iloc[0] == 0.0
    assert report.source == "GeoLife user 042, b.plt, mode car"


def test_a_jump_cuts_the_track_and_gaps_are_reported(geolife):
    lines = [
        *track(count=20),
        *track(begin_s=100, count=40, lat=39.9021),
        *track(200, 15, lat=45.0),
    ]
    geolife.write("a", lines)
    trace, report = read_track(geolife.data, "042")
    assert len(trace) == 60
    assert report.gaps == ((19.0, 81.0),)
    assert report.dropped == {"other segments of the file": 15}


def test_whole_tracks_join_their_modes(geolife):
    geolife.write("a", track(count=60))
    geolife.label(0, 19, "walk")
    geolife.label(20, 49, "car")
    trace, report = read_track(geolife.data, "042")
    assert len(trace) == 60
    assert report.source.endswith("mode walk+car")


def test_only_what_lies_on_the_map_counts(geolife):
    geolife.write("a", track(count=40))
    geolife.write("b", track(begin_s=1000, count=20, lat=20.0))
    box = (116.0, 39.0, 117.0, 40.0)
    trace, _ = read_track(geolife.data, "042", box=box)
    assert len(trace) == 40
    with pytest.raises(TraceError, match="lies on the map"):
        read_track(geolife.data, "042", box=(0.0, 0.0, 1.0, 1.0))


def test_what_is_not_there_is_answered_with_what_is(geolife, tmp_path):
    geolife.write("a", track())
    geolife.label(0, 29, "bus")
    assert find_geolife(geolife.data_paths) == geolife.data
    with pytest.raises(TraceError, match="Modes there: bus"):
        read_track(geolife.data, "042", mode="car")
    with pytest.raises(DataNotFoundError, match="there are 042"):
        read_track(geolife.data, "043")
    with pytest.raises(DataNotFoundError, match="TESTBED_DATA"):
        find_geolife([tmp_path / "elsewhere"])


def test_every_file_of_the_sample_can_be_read(data_paths):
    geolife = find_geolife(data_paths)
    for user in ("010", "068", "153"):
        for segment in segments(geolife, user):
            assert np.all(np.diff(segment.fixes.epoch_s) > 0)
            assert not segment.fixes.problems
