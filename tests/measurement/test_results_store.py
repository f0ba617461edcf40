import json
import threading
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from synthetic import ask, hosts, manifest, synthetic_run

from testbed.errors import ResultsError
from testbed.measurement.schema import schema_of
from testbed.measurement.store import ResultsWriter, Run
from testbed.measurement.summary import human_bytes, human_ms, render
from testbed.records import TABLES


def test_every_table_is_there_with_its_columns_even_when_empty(tmp_path):
    run = ResultsWriter(tmp_path / "run", manifest()).close()
    for name, record in TABLES.items():
        frame = getattr(run, name)
        assert list(frame.columns) == [field.name for field in fields(record)]
        assert frame.empty
    assert run.fixes["time_s"].dtype == "float64"
    assert run.requests["correct"].dtype == "bool"
    assert run.phases["bytes"].dtype == "int64"


def test_what_was_added_is_read_back(tmp_path):
    writer = ResultsWriter(tmp_path / "run", manifest())
    for record in hosts():
        writer.add(record)
    run = writer.close("finished", duration_s=42.0)
    assert run.records("hosts") == hosts()
    assert run.hosts is run.hosts
    assert run.manifest == replace(manifest(), duration_s=42.0, outcome="finished")


def test_units_and_meaning_stand_in_the_file():
    schema = schema_of("requests")
    assert schema.field("delay_s").metadata == {b"unit": b"s"}
    assert schema.field("error").metadata is None
    assert b"One request" in schema.metadata[b"description"]


def test_a_killed_run_leaves_what_was_flushed_and_says_that_it_was_running(tmp_path):
    writer = ResultsWriter(tmp_path / "run", manifest())
    writer.add(hosts()[0])
    writer.flush()
    writer.add(hosts()[1])
    run = Run.open(tmp_path / "run")
    assert run.manifest.outcome == "running"
    assert len(run.hosts) == 1
    assert not list((tmp_path / "run").glob(".*"))


def test_an_error_in_a_run_is_its_outcome(tmp_path):
    def burn():
        with ResultsWriter(tmp_path / "run", manifest()) as writer:
            writer.add(hosts()[0])
            raise RuntimeError("the lab burnt down")

    with pytest.raises(RuntimeError):
        burn()
    run = Run.open(tmp_path / "run")
    assert run.manifest.outcome == "failed: RuntimeError: the lab burnt down"
    assert len(run.hosts) == 1


def test_many_threads_lose_nothing(tmp_path):
    writer = ResultsWriter(tmp_path / "run", manifest())

    request = ask(np.random.default_rng(1), 1, [])[0]

    def work():
        for _ in range(500):
            writer.add(request)
        writer.flush()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(writer.close().requests) == 4000


def test_records_without_a_table_and_late_ones_are_refused(tmp_path):
    with ResultsWriter(tmp_path / "run", manifest()) as writer:
        with pytest.raises(TypeError, match="str has no results table; use one of FixRecord"):
            writer.add("a fix")
        with pytest.raises(ValueError, match="table of records"):
            writer.add_frame("hosts", pd.DataFrame())
    with pytest.raises(ResultsError, match=r"closed \(finished\)"):
        writer.add(hosts()[0])
    with pytest.raises(ResultsError, match="folder of its own"):
        ResultsWriter(tmp_path / "run", manifest())


def test_tables_beside_the_records_are_kept(run):
    assert set(run.frame("cells").columns) == {"name", "lat_deg", "lon_deg"}
    assert run.frame("nothing") is None


def test_a_folder_that_no_run_wrote_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="not a results folder"):
        Run.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"run": "x"}')
    with pytest.raises(ResultsError, match="not the manifest of a run"):
        Run.open(tmp_path)


def test_missing_broken_and_foreign_tables_are_named(tmp_path):
    folder = tmp_path / "run"
    ResultsWriter(folder, manifest()).close()
    (folder / "hosts.parquet").write_bytes(b"PAR1")
    with pytest.raises(ResultsError, match=r"hosts\.parquet: cannot be read"):
        _ = Run.open(folder).hosts
    pd.DataFrame({"host": ["a"]}).to_parquet(folder / "hosts.parquet")
    with pytest.raises(ResultsError, match="no column role, tier"):
        _ = Run.open(folder).hosts
    (folder / "hosts.parquet").unlink()
    with pytest.raises(ResultsError, match=r"hosts\.parquet missing"):
        Run.open(folder)


def test_the_manifest_is_plain_json(run):
    assert json.loads((run.folder / "manifest.json").read_text())["scenario"] == "berlin"
    assert pq.read_schema(run.folder / "fixes.parquet").field("rssi_dbm").metadata[b"unit"]


def test_a_run_fits_on_a_screen(run):
    lines = str(run).splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.split()[0:1] == ["5"] for line in lines)
    assert "10,000, 10,000 answered rightly" in str(run)
    assert repr(run).startswith("Run(")
    page = run._repr_html_()
    assert page.count("<tr>") == 7 + 1 + 5
    assert "6 of 6 directions measured" in page


def test_a_run_without_migrations_has_a_summary_too(tmp_path):
    jumps = [{"at_s": 1.0, "skipped_s": 30.0}]
    run = ResultsWriter(tmp_path / "<run>", manifest()).close(clock_jumps=jumps)
    assert "No migration." in run._repr_html_()
    assert "&lt;run&gt;" in run._repr_html_()
    assert "30 s idle in 1 jumps" in str(run)


def test_the_same_seed_makes_the_same_run(tmp_path):
    one, other = (synthetic_run(tmp_path / name, requests=3000) for name in "ab")
    pd.testing.assert_frame_equal(one.requests, other.requests)


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (15.2e6, "15 MB"), (2e12, "2000 GB")],
)
def test_sizes_are_written_for_people(size_bytes, words):
    assert human_bytes(size_bytes) == words


def test_durations_are_written_for_people():
    assert (human_ms(0.00123), human_ms(0.25), human_ms(float("nan"))) == ("1.2", "250", "-")
    assert human_bytes(float("nan")) == "-"


def test_a_wide_table_is_cut_where_it_hurts_least():
    table = render(["name", "n"], [["x" * 300, "12345"], ["y", "6"]], right=(1,), width=40)
    assert max(map(len, table.splitlines())) == 40
    assert "…  12345" in table
