"""From a scenario to results in one call; what `testbed.run` and `testbed.lab` stand for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.experiment.loop import Experiment
from testbed.experiment.prepare import build_parts, provision_lab, start_lab
from testbed.experiment.progress import Steps
from testbed.experiment.watch import deciders
from testbed.experiment.world import World
from testbed.hosts.lab import Lab
from testbed.hosts.root import default_cache
from testbed.measurement.store import Run
from testbed.scenario import Scenario, read_scenario
from testbed.units import DURATION_S, parse_quantity

STEPS = 8


@contextmanager
def lab(
    scenario: str | Path | Scenario,
    *,
    name: str = "lab",
    cache: Path | None = None,
    quiet: bool = False,
) -> Iterator[Lab]:
    """The hosts of a scenario, provisioned and connected; gone when the block ends.

    Parameters
    ----------
    scenario : path or Scenario
        Which hosts, links and services.
    name : str
        The lab's name; labs of different names can run at the same time.
    cache : Path, optional
        Where built things are kept.
    quiet : bool
        Show no progress.
    """
    up = bring_up(scenario, name=name, cache=cache, quiet=quiet)
    try:
        yield up
    finally:
        up.down()


def bring_up(
    scenario: str | Path | Scenario,
    *,
    name: str = "lab",
    cache: Path | None = None,
    quiet: bool = False,
) -> Lab:
    """Start, provision and connect the hosts of a scenario; the caller takes them down."""
    wanted = scenario if isinstance(scenario, Scenario) else read_scenario(scenario)
    where = cache or default_cache()
    with Steps(len(set(wanted.services)) + 3, quiet=quiet) as steps:
        parts = build_parts(wanted, where, steps)
        up = start_lab(wanted, name, where, steps)
        try:
            steps.next("provisioning with Ansible over SSH")
            provision_lab(up, parts, where, steps)
            up.tell_ways(up.describe_hosts(), steps.say)
        except BaseException:
            up.down()
            raise
    return up


def run(
    scenario: str | Path | Scenario,
    *,
    duration: str | None = None,
    results: str | Path = "results",
    name: str = "lab",
    cache: Path | None = None,
    quiet: bool = False,
) -> Run:
    """Run a scenario on hosts of this machine and return its results.

    Parameters
    ----------
    scenario : path or Scenario
        What to run.
    duration : str, optional
        Instead of the scenario's, such as ``"90 s"``.
    results : path
        Folder in which the run gets one of its own.
    name, cache, quiet
        As for `lab`.

    Raises
    ------
    ScenarioError, DataNotFoundError, UnsupportedMachineError
        Before anything is started.
    WrongAnswerError
        If the service lost, repeated or falsified an answer; the results are kept.
    """
    wanted = scenario if isinstance(scenario, Scenario) else read_scenario(scenario)
    if duration is not None:
        length_s = parse_quantity(duration, DURATION_S, "duration")
        wanted = wanted.model_copy(update={"duration": length_s})
    where = cache or default_cache()
    with Steps(STEPS, quiet=quiet) as steps:
        steps.next("map, cells and traces")
        world = World.load(wanted, where)
        deciders(world)  # a planner that cannot be made is refused before anything is started
        parts = build_parts(wanted, where, steps)
        up = start_lab(wanted, name, where, steps)
        try:
            steps.next("provisioning with Ansible over SSH")
            provision_lab(up, parts, where, steps)
            steps.next("measuring every link")
            links, hosts = up.verify(steps.detail), up.describe_hosts()
            up.tell_ways(hosts, steps.say)
            folder = Path(results) / f"{wanted.name}-{time.strftime('%Y%m%d-%H%M%S')}"
            steps.next(f"{world.duration_s():.0f} s on the road; results in {folder}")
            return Experiment(world, up, parts, folder, steps).run(links, hosts)
        finally:
            steps.next("taking the lab down")
            up.down(steps.detail)
