"""The floors of DESIGN.md: imports only go down, modules stay small and have names of their own."""

import ast
import sys
from pathlib import Path

import pytest

import testbed

PACKAGE = Path(testbed.__file__).parent
LARGEST_MODULE_LINES = 400
FLOORS = {
    **dict.fromkeys(("scenario", "movement", "geography", "records"), 0),
    **dict.fromkeys(("errors", "units", "explain", "plugins"), 0),
    **dict.fromkeys(("migration", "hosts", "images", "measurement"), 1),
    **dict.fromkeys(("mobility", "roads", "services"), 2),
    **dict.fromkeys(("prediction", "planning", "handoff"), 3),
    **dict.fromkeys(("experiment", "campaign", "analysis", "checkpoints"), 4),
    **dict.fromkeys(("cli", "__init__"), 5),
}
"""Room to floor; ``testbed/__init__.py`` is the door through which notebooks come in."""
WORDS, DECISIONS = 0, 3
BESIDE = "edge"
ON_AN_EDGE = {*sys.stdlib_module_names, "pycriu", "google"}
IMPURE = {
    *("asyncio", "datetime", "io", "multiprocessing", "os", "pathlib", "random", "secrets"),
    *("signal", "socket", "subprocess", "tempfile", "threading", "time", "urllib"),
}
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
)


def file_of(module):
    return PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")


def room_of(module):
    return module.split(".")[1] if "." in module else "__init__"


def imports(source, module):
    """Every module that ``source`` names in an import, wherever it stands, as absolute names."""
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base == "testbed":
                yield from (f"testbed.{alias.name}" for alias in node.names)
            else:
                yield base


def upward(source, module):
    """Imports of ``module`` that do not go down (or stay on the floor), with the reason."""
    here = room_of(module)
    for name in imports(source, module):
        if name.split(".")[0] != "testbed":
            continue
        there = room_of(name)
        if here == BESIDE:
            if there != BESIDE:
                yield f"{module} runs on an edge and imports {name}"
        elif there == BESIDE:
            if FLOORS[here] in {WORDS, DECISIONS}:
                yield f"{module} (floor {FLOORS[here]}) imports {name}, which runs on an edge"
        elif FLOORS[there] > FLOORS[here]:
            yield f"{module} (floor {FLOORS[here]}) imports {name} (floor {FLOORS[there]})"


def test_every_module_was_found():
    assert len(MODULES) > 50
    assert {"testbed.scenario", "testbed.hosts.lab", "testbed.edge.pages"} <= set(MODULES)


def test_every_room_has_a_floor():
    assert {room_of(module) for module in MODULES} <= {*FLOORS, BESIDE}


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_go_down(module):
    assert list(upward(file_of(module).read_text(encoding="utf-8"), module)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("testbed.scenario", "import testbed.hosts.plan"),
        ("testbed.scenario", "from testbed.edge import wan"),
        ("testbed.hosts.plan", "from testbed import roads"),
        ("testbed.hosts.plan", "def later():\n    from testbed.roads.network import RoadMap"),
        ("testbed.planning.follow", "from testbed.experiment.loop import Experiment"),
        ("testbed.planning.follow", "from testbed.edge.spec import Spec"),
        ("testbed.roads.cells", "if TYPE_CHECKING:\n    from testbed.planning import planner"),
        ("testbed.roads.cells", "from ..planning import planner"),
        ("testbed.experiment.loop", "from testbed.cli import main"),
        ("testbed.edge.agent", "from testbed.errors import LabError"),
        ("testbed.edge.agent", "from ..errors import LabError"),
    ],
)
def test_an_import_that_goes_up_is_noticed(module, source):
    assert len(list(upward(source, module))) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("testbed.hosts.lab", "from testbed.measurement.clock import estimate_offset"),
        ("testbed.hosts.wan", "from testbed.edge.wan import parse_ping"),
        ("testbed.edge.agent", "from . import wan\nfrom .spec import Spec"),
        ("testbed.cli", "from testbed.experiment.session import run"),
        ("testbed.roads.cells", "import numpy as np"),
    ],
)
def test_an_import_that_goes_down_is_let_through(module, source):
    assert list(upward(source, module)) == []


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) == BESIDE])
def test_an_edge_needs_nothing_but_python_and_criu_s_own_package(module):
    names = imports(file_of(module).read_text(encoding="utf-8"), module)
    assert {n.split(".")[0] for n in names} - {*ON_AN_EDGE, "testbed"} == set()


@pytest.mark.parametrize("module", [m for m in MODULES if FLOORS.get(room_of(m)) == DECISIONS])
def test_a_decision_has_no_clock_no_chance_and_no_files(module):
    names = imports(file_of(module).read_text(encoding="utf-8"), module)
    assert {n.split(".")[0] for n in names} & IMPURE == set()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_can_be_read_in_one_sitting(module):
    lines = file_of(module).read_text(encoding="utf-8").count("\n")
    assert lines <= LARGEST_MODULE_LINES, f"{module} has {lines} lines: divide it"


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_a_drawer_for_odds_and_ends(module):
    drawers = {"util", "utils", "helper", "helpers", "common", "misc", "tools"}
    assert not drawers & set(module.split("."))
