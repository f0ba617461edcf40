import contextlib
import os
import platform
import sys
from pathlib import Path

import pytest

from testbed.errors import RemoteCommandError
from testbed.experiment.prepare import build_parts, provision_lab, start_lab
from testbed.experiment.progress import Steps
from testbed.hosts.namespace import take_down
from testbed.hosts.root import default_cache
from testbed.migration.mover import Mover
from testbed.scenario import read_scenario

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from small_lab import EDGES, NAME, SCENARIO, Small


def why_not() -> str:
    """Why labs cannot be started here; empty where they can."""
    if platform.system() != "Linux":
        return f"hosts are Linux namespaces, and this is {platform.system()}"
    return "" if os.geteuid() == 0 else "starting hosts needs root"


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.lab)
            if why_not():
                item.add_marker(pytest.mark.skip(reason=why_not()))


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The lab, up and provisioned, for the whole session."""
    file = tmp_path_factory.mktemp("scenario") / "small.yml"
    file.write_text(SCENARIO, encoding="utf-8")
    scenario, cache = read_scenario(file), default_cache()
    take_down(NAME)  # what an interrupted session may have left
    with Steps(9, quiet=True) as steps:
        parts = build_parts(scenario, cache, steps)
        lab = start_lab(scenario, NAME, cache, steps)
        try:
            provision_lab(lab, parts, cache, steps)
            yield Small(scenario, lab, parts, Mover(lab))
        finally:
            lab.down()


@pytest.fixture
def hosts(small):
    """The lab; whatever a test started in it is gone afterwards, and nothing else."""
    yield small
    for edge in EDGES:
        for service in small.scenario.services:
            small.lab[edge].call("remove_service", name=service)
    for program in small.scenario.services:
        with contextlib.suppress(RemoteCommandError):
            small.lab["user"].call("stop_program", name=program)
    assert [small.runs_at(service) for service in small.scenario.services] == [[], [], []]
    assert [small.lab[edge].call("visits") for edge in EDGES] == [{}, {}, {}]
