"""The service is not always at the cell: on a regional server, or left behind on purpose."""

from pathlib import Path

import pytest
import yaml
from small_lab import NAME

import testbed
from testbed.measurement.requests import check_counts
from testbed.scenario import Scenario

ROOT = Path(__file__).parents[2]
REGIONAL_S, NEAR_S, FAR_S = 0.050, 0.012, 0.040
"""Round trips of the scenario's links: to a regional server, to the local one beside the base
station, and to the other base station's."""
NEARLY = 0.9
LAB = f"{NAME[:7]}p"


@pytest.fixture
def run(tmp_path):
    """Runs the default scenario's first half minute, in which the car is handed over once.

    Where the service is does not depend on how fast links are: only their delays are emulated, and
    the cloud is left out.
    """

    def run(**changes):
        content = yaml.safe_load((ROOT / "data" / "scenarios" / "berlin.yml").read_text())
        del content["hosts"]["cloud"]
        links = [link for link in content["links"] if "cloud" not in link["between"]]
        for link in links:
            del link["rate"]
        content["links"] = links
        scenario = Scenario.model_validate(content | changes)
        return testbed.run(scenario, duration="30 s", results=tmp_path, name=LAB, quiet=True)

    return run


def test_a_tolerant_service_lives_on_regional_servers_and_moves_with_the_region(run):
    done = run(
        tiers={"regional": {"separation": "1000 m"}},
        services={"counter": {"kind": "simple", "max_delay": "100 ms"}},
        planning={"planner": "pm-tier", "tiers": ["local", "regional"]},
    )
    (move,) = done.records("migrations")
    assert move.outcome == "moved"
    assert (move.source, move.target) == ("regional-1", "regional-2")
    assert move.source_site.startswith("region-")
    assert move.target_site.startswith("region-")
    (handover,) = done.records("handovers")
    assert handover.started_s < move.frozen_s
    assert move.prepared_s < handover.started_s
    check_counts(done.requests)
    assert done.requests["correct"].all()
    assert done.requests["delay_s"].min() > NEARLY * REGIONAL_S


def test_in_a_short_stay_the_radio_moves_and_the_service_is_reached_where_it_was(run):
    done = run(
        planning={"planner": "pm-op", "short_stay": "1000 s"},
        handoff={"lead": "0 s", "certainty": "1 %"},
    )
    assert done.records("migrations") == []
    (handover,) = done.records("handovers")
    assert handover.source != handover.target
    plans = done.plans
    passing = plans[plans["reason"].str.contains("forwarded to")]
    assert len(passing)
    assert set(passing["site"]) == {handover.source_cell}
    assert set(passing["server"]) == {"local-1"}
    check_counts(done.requests)
    assert done.requests["correct"].all()
    before = done.requests[done.requests["time_s"] < handover.started_s - 0.5]
    after = done.requests[done.requests["time_s"] > handover.ended_s + 0.5]
    assert NEARLY * NEAR_S < before["delay_s"].min() < NEARLY * FAR_S < after["delay_s"].min()
