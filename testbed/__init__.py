"""A laboratory for mobile edge computing in which a real container follows a moving user.

``testbed.run(scenario)`` runs an experiment and returns its results; ``with testbed.lab(scenario)
as lab:`` gives the hosts alone; ``testbed.Run.open(folder)`` reads results again;
``testbed.Checkpoint.open(path)`` looks into a checkpoint.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.checkpoints.checkpoint import Checkpoint
    from testbed.experiment.session import lab, run
    from testbed.measurement.store import Run
    from testbed.scenario import Scenario, read_scenario

__all__ = ["Checkpoint", "Run", "Scenario", "lab", "read_scenario", "run"]

_HOME = {
    "lab": "testbed.experiment.session",
    "run": "testbed.experiment.session",
    "Checkpoint": "testbed.checkpoints.checkpoint",
    "Run": "testbed.measurement.store",
    "Scenario": "testbed.scenario",
    "read_scenario": "testbed.scenario",
}


def __getattr__(name: str) -> Any:
    """Import what a person asks for when it is asked for: parts of this package run alone."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'testbed' has no attribute {name!r}")
