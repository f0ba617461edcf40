"""The main job, whole but short: a car, two cells, one live migration, results and notebook."""

from pathlib import Path

import pytest

import testbed
from testbed.analysis.notebook import execute
from testbed.errors import WrongAnswerError
from testbed.measurement.requests import check_counts
from testbed.scenario import read_scenario

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The default scenario's first half minute."""
    scenario = read_scenario(ROOT / "data" / "scenarios" / "berlin.yml")
    results = tmp_path_factory.mktemp("results")
    return testbed.run(scenario, duration="30 s", results=results, name="short", quiet=True)


def test_the_service_followed_the_car(run):
    assert list(run.migrations["outcome"]) == ["moved"]
    (move,) = run.records("migrations")
    (handover,) = run.records("handovers")
    assert move.target_site == handover.target_cell == run.fixes["serving_cell"].iloc[-1]
    assert move.source_site == handover.source_cell == run.fixes["serving_cell"].iloc[0]
    assert move.source != move.target
    assert handover.source != handover.target


def test_sending_ahead_began_before_the_handover(run):
    (move,) = run.records("migrations")
    (handover,) = run.records("handovers")
    assert move.requested_s < move.prepared_s < handover.started_s < move.frozen_s


def test_every_request_was_answered_once_and_in_order(run):
    check_counts(run.requests)
    assert run.requests["correct"].all()
    assert list(run.requests["count"]) == list(range(1, len(run.requests) + 1))


def test_a_lost_count_would_have_failed_the_run(run):
    with pytest.raises(WrongAnswerError):
        check_counts(run.requests.drop(index=len(run.requests) // 2))


def test_the_three_downtimes_are_recorded_apart(run):
    (move,) = run.records("migrations")
    assert 0 < move.freeze_s < move.event_window_s
    assert move.client_gap_floor_s < move.client_gap_s
    assert move.client_gap_s > 0.5 * move.event_window_s


def test_what_was_asked_of_every_link_was_measured(run):
    assert len(run.links) == 44
    assert run.links["measured_rate_bps"].notna().all()
    assert set(run.links["backend"]) == {run.manifest.choices["wan"]}


def test_the_manifest_says_what_ran(run):
    manifest = run.manifest
    assert manifest.outcome == "finished"
    assert manifest.scenario_sha256
    assert set(run.hosts["host"]) == {
        *("local-1", "local-2", "regional-1", "regional-2", "cloud", "bs-1", "bs-2", "car")
    }
    assert run.hosts["criu"].ne("").any()
    assert manifest.machine["settings"]["fs/pipe-max-size"]
    assert run.hosts["tracker"].isin(["wp-async", "soft-dirty", "content"]).all()
    assert run.hosts["dump"].isin(["without pages", "with pages"]).all()


def test_the_notebook_runs_on_it(run):
    written = {path.name for path in execute(run.folder)}
    assert {"00_quickstart.ipynb", "00_quickstart.html", "map.png", "delay.png"} <= written
