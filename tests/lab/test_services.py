"""All six services and one of the user's own, moved to and fro while their users go on asking."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from services_lab import SERVICES, SERVICES_NAME
from small_lab import STOP, Small

from testbed.experiment.prepare import build_parts, provision_lab, start_lab
from testbed.experiment.progress import Steps
from testbed.hosts.namespace import take_down
from testbed.hosts.root import default_cache
from testbed.migration.mover import Mover
from testbed.scenario import read_scenario

TEMPLATE = Path(__file__).resolve().parents[2] / "docs" / "template"
INTERVALS_S = {"simple": 0.01, "faces": 0.1, "people": 0.3, "objects": 0.5, "memory": 0.05,
               "match": 0.2, "mine": 0.02}  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """The template of the documentation, installed as a user would, in a temporary folder."""
    site = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "mine"
    shutil.copytree(TEMPLATE, source)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, source],
        check=True,
        capture_output=True,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        yield site


@pytest.fixture(scope="module")
def lab(tmp_path_factory, template):
    """A lab of its own: the images are large, and no other test needs them."""
    file = tmp_path_factory.mktemp("services") / "services.yml"
    file.write_text(SERVICES, encoding="utf-8")
    scenario, cache = read_scenario(file), default_cache()
    take_down(SERVICES_NAME)
    with Steps(20, quiet=True) as steps:
        parts = build_parts(scenario, cache, steps)
        lab = start_lab(scenario, SERVICES_NAME, cache, steps)
        try:
            provision_lab(lab, parts, cache, steps)
            yield Small(scenario, lab, parts, Mover(lab))
        finally:
            lab.down()


@pytest.fixture(params=list(INTERVALS_S))
def service(lab, request):
    """A service, up at edge-1; gone afterwards."""
    yield request.param
    for edge in ("edge-1", "edge-2"):
        lab.lab[edge].call("remove_service", name=request.param)


def test_it_moves_while_its_user_goes_on_asking(lab, service):
    steering = lab.start(service)
    lab.use(service, INTERVALS_S[service])
    wait_for_rows(lab, 8)
    for target in ("edge-2", "edge-1"):
        movement = lab.open(steering.server, target, service=service)
        movement.send_ahead(STOP)
        outcome = movement.finish(lambda target=target: steering.lead_to(target) and None)
        assert (outcome.outcome, outcome.reason) == ("moved", ""), outcome.log
        assert lab.runs_at(service) == [target]
        wait_for_rows(lab, rows(lab) + 6)
    said = lab.ask_user(service)
    # A checkpoint holds no datagram that waits to be read: UDP may lose one in each of the moves.
    may_lose = 2 if service == "match" else 0
    assert said["status"] == 0 or 0 < said["lost"] <= may_lose, (said, wrong_rows(lab))
    assert said["wrong"] == said["reconnects"] == 0
    assert said["lost"] <= may_lose
    assert said["answered"] + said["lost"] == said["sent"] >= 20
    assert said["longest_gap_s"] < 10.0


def rows(lab):
    """How many right answers the user has written down."""
    return sum(
        line.split(",")[6] == "1" for line in log(lab).splitlines()[1:] if line.count(",") > 6
    )


def wait_for_rows(lab, wanted, patience_s=30.0):
    deadline_s = time.monotonic() + patience_s
    while rows(lab) < wanted:
        assert time.monotonic() < deadline_s, log(lab)[-1000:]
        time.sleep(0.1)


def wrong_rows(lab):
    return [line for line in log(lab).splitlines()[1:] if not line.endswith(",1,")][:5]


def log(lab):
    return lab.on("user", "cat /tmp/rows.csv")
