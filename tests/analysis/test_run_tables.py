from dataclasses import replace

import numpy as np
import pytest
from synthetic import manifest, synthetic_run

from testbed.analysis import tables
from testbed.measurement.store import ResultsWriter
from testbed.records import NAN, PredictionRecord


@pytest.fixture(scope="session")
def empty_run(tmp_path_factory):
    """A run in which nothing happened."""
    return ResultsWriter(tmp_path_factory.mktemp("empty") / "run", manifest()).close()


def test_one_row_per_migration_with_downtimes_in_ms_and_bytes_as_they_are(run):
    table = tables.migration_table(run)
    assert list(table.columns) == list(tables.COLUMNS)
    assert list(table["number"]) == [1, 2, 3, 4, 5]
    assert np.allclose(table["freeze_ms"], run.migrations["freeze_s"] * 1000)
    assert (table["frozen_bytes"] == run.migrations["bytes_frozen"]).all()
    assert (table["spared_bytes"] == 4096).all()
    assert table["from"][0].endswith("/local-1")


def test_the_lead_counts_from_the_first_time_the_target_was_the_likeliest(tmp_path):
    run = synthetic_run(tmp_path / "run", requests=3000)
    move, *_ = run.records("migrations")
    writer = ResultsWriter(tmp_path / "again", manifest())
    writer.add(move)
    for before_s, probability in ((9.0, 0.4), (6.0, 0.7), (3.0, 0.9)):
        at_s = move.frozen_s - before_s
        writer.add(PredictionRecord(at_s, "alice", 1, move.target_site, probability, before_s))
        writer.add(PredictionRecord(at_s, "alice", 2, "elsewhere", 0.5, 1.0))
    again = writer.close()
    assert tables.migration_table(again)["lead_s"][0] == pytest.approx(6.0)


def test_a_migration_that_was_never_predicted_has_no_lead(run, tmp_path):
    writer = ResultsWriter(tmp_path / "run", manifest())
    move = run.records("migrations")[0]
    writer.add(replace(move, frozen_s=NAN, answered_s=NAN, freeze_s=NAN, outcome="failed"))
    table = tables.migration_table(writer.close())
    assert np.isnan(table["lead_s"][0])
    assert table["at_s"][0] == move.requested_s


def test_the_printed_table_fits_and_loses_no_migration(run):
    words = tables.migrations_text(run)
    assert max(map(len, words.splitlines())) <= 100
    assert [line[0] for line in words.splitlines()[2:7]] == list("12345")
    assert "11 ms is the longest gap" in words
    assert max(len(line) for line in tables.migrations_text(run, 80).splitlines()[:7]) <= 80


def test_the_three_downtimes_stay_apart(run):
    summary = tables.downtime_summary(run)
    assert list(summary["n"]) == [5, 5, 5, 5]
    medians = summary["median"]
    assert medians["freeze"] < medians["event window"] < medians["client gap"]
    assert medians["client gap without migration"] < medians["freeze"]
    assert summary.loc["client gap", "max"] == pytest.approx(
        run.migrations["client_gap_s"].max() * 1e3
    )


def test_no_byte_of_a_migration_is_lost_or_counted_twice(run):
    sent = tables.phase_bytes(run)
    totals = sent.groupby(["number", "frozen"])["bytes"].sum().unstack()
    assert list(totals[False]) == list(run.migrations["bytes_ahead"])
    assert list(totals[True]) == list(run.migrations["bytes_frozen"])


def test_phases_are_told_from_the_freeze(run):
    phases = tables.phase_table(run, "m1")
    assert phases.loc[phases["phase"] == "freeze", "start_ms"].item() == pytest.approx(0, abs=1e-6)
    assert phases["start_ms"].is_monotonic_increasing
    assert tables.phase_table(run, "none").empty


def test_waiting_is_longer_during_migrations_and_every_request_counts_once(run):
    waits = tables.delay_summary(run)
    assert waits.loc["between migrations", "n"] + waits.loc["during migrations", "n"] == 10_000
    assert waits.loc["during migrations", "p95"] > 3 * waits.loc["between migrations", "p95"]


def test_links_stand_as_asked_for_and_as_measured(run):
    links = tables.link_table(run)
    assert len(links) == 6
    assert links["path"][0] == "bs-1 → local-1"
    assert (links["measured_ms"] >= links["asked_ms"]).all()


def test_a_run_in_which_nothing_happened_has_tables_too(empty_run):
    assert tables.migrations_text(empty_run) == "No migration."
    assert tables.migration_table(empty_run).empty
    assert list(tables.downtime_summary(empty_run)["n"]) == [0, 0, 0, 0]
    assert tables.phase_bytes(empty_run).empty
    assert list(tables.delay_summary(empty_run)["n"]) == [0, 0, 0]
    assert tables.link_table(empty_run).empty
