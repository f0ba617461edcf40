"""What a machine's facts mean: what works here, what does not, and what to do about it.

`testbed.edge.probe` finds the facts, `examine` puts the judgements on them together
(`testbed.hosts.judgements`) and touches nothing, `require` refuses a machine that cannot do what it
should. Two roles are judged apart: the ``machine`` makes
namespace hosts and carries their WAN (CRIU comes with the edges' own root file system), an
``edge`` runs and moves services.
"""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from testbed.edge import probe
from testbed.errors import LabError, UnsupportedMachineError
from testbed.hosts.diagnosis import Diagnosis, Finding, Role
from testbed.hosts.judgements import (
    Facts,
    dirty_tracker,
    engine_ways,
    judge_edge,
    judge_engine,
    judge_kernel,
    judge_machine,
    judge_room,
    judge_system,
    judge_tracking,
    judge_wan,
    techniques,
    wan_backend,
)
from testbed.hosts.wan import Backend

IN_ROOT = """
mount --bind "$0" "$0"
mount -o remount,bind,ro "$0"
mount -t proc proc "$0/proc"
mount --rbind /sys "$0/sys"
mount --rbind /dev "$0/dev"
mount -t tmpfs none "$0/run"
mount -t tmpfs none "$0/tmp"
mkdir "$0/run/testbed" "$0/run/testbed/edge"
mount --bind "$1" "$0/run/testbed/edge"
exec chroot "$0" env PYTHONPATH=/run/testbed python3 -B -m edge.probe
"""
"""Asks an edge's root file system for its facts; all mounts end with the process."""
RANGES = ("10.77.0.0/24", "10.78.0.0/24", "10.88.0.0/24")
"""Addresses that a lab takes: control, WAN and services."""


def examine(facts: Facts, role: Role = "machine", ranges: Sequence[str] = RANGES) -> Diagnosis:
    """Judge a host's facts for a role.

    Parameters
    ----------
    facts : mapping
        What `testbed.edge.probe.facts` returned there.
    role : {"machine", "edge"}
        What the host is to be.
    ranges : sequence of str
        Address ranges that the lab will take on a machine, as CIDR.
    """
    findings: list[Finding] = list(judge_system(facts))
    if not any(finding.blocks for finding in findings):
        findings += judge_kernel(facts, role)
        findings.append(judge_wan(facts, role))
        findings.append(judge_tracking(facts))
        if role == "edge":
            findings += [*judge_edge(facts), *judge_engine(facts)]
        else:
            findings += judge_machine(facts, ranges)
        findings += judge_room(facts, role)
    usable = not any(finding.blocks for finding in findings)
    return Diagnosis(
        host=facts.get("host") or "this machine",
        role=role,
        findings=tuple(findings),
        wan_backend=wan_backend(facts),
        dirty_tracker=dirty_tracker(facts),
        techniques=techniques(facts) if usable else (),
        ways=engine_ways(facts) if role == "edge" else {},
    )


def examine_edges(facts: Facts, root: Path) -> Diagnosis:
    """Judge the namespace edges that this machine would hold, beyond what it was judged for itself.

    Parameters
    ----------
    facts : mapping
        The machine's own: edges share its kernel.
    root : Path
        The edges' root file system (`testbed.hosts.root`); its CRIU, runtime and tracker count.
    """
    diagnosis = examine({**_facts_in(root), "host": "a namespace edge"}, "edge")
    known = {finding.name for finding in examine(facts).findings}
    only = tuple(finding for finding in diagnosis.findings if finding.name not in known)
    return replace(diagnosis, findings=only)


def _facts_in(root: Path) -> Facts:
    """What an edge finds out about itself, asked in its root file system without starting one.

    Raises
    ------
    LabError
        If nothing can be run in there.
    """
    edge = str(Path(probe.__file__).parent)
    asking = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", IN_ROOT]
    done = subprocess.run([*asking, str(root), edge], capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split())[-300:].rstrip(".")
        raise LabError(
            f"the edges' root file system does not work: {said}. Remove "
            f"{root}; the next lab makes it again"
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def require(diagnosis: Diagnosis) -> None:
    """Refuse a host that cannot take its role.

    Raises
    ------
    UnsupportedMachineError
        With everything that blocks, in the doctor's own words.
    """
    if diagnosis.blocking:
        lines = [f"  {finding.name}: {finding.sentence}" for finding in diagnosis.blocking]
        raise UnsupportedMachineError("\n".join([diagnosis.verdict, *lines]))


def choose_backend() -> Backend:
    """Probe this machine and return the way it can emulate the WAN of namespace hosts.

    Raises
    ------
    UnsupportedMachineError
        If it cannot run namespace hosts; the message says what is missing.
    """
    diagnosis = examine(probe.facts(), "machine")
    require(diagnosis)
    return "netem" if diagnosis.wan_backend == "netem" else "delay-line"
