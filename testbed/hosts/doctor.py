"""What a machine's facts mean: what works here, what does not, and what to do about it.

`testbed.edge.probe` finds the facts, `examine` puts the judgements on them together
(`testbed.hosts.judgements`) and touches nothing, `require` refuses a machine that cannot do what it
should. Two roles are judged apart: the ``machine`` makes
namespace hosts and carries their WAN (CRIU comes with the edges' own root file system), an
``edge`` runs and moves services.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from testbed.edge import probe
from testbed.errors import UnsupportedMachineError
from testbed.hosts.diagnosis import Diagnosis, Finding, Role
from testbed.hosts.judgements import (
    Facts,
    dirty_tracker,
    judge_edge,
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
        findings += judge_edge(facts) if role == "edge" else judge_machine(facts, ranges)
        findings += judge_room(facts, role)
    usable = not any(finding.blocks for finding in findings)
    return Diagnosis(
        host=facts.get("host") or "this machine",
        role=role,
        findings=tuple(findings),
        wan_backend=wan_backend(facts),
        dirty_tracker=dirty_tracker(facts),
        techniques=techniques(facts) if usable else (),
    )


def examine_edges(facts: Facts, root: Path) -> Diagnosis:
    """Judge the namespace edges that this machine would hold, beyond what it was judged for itself.

    Parameters
    ----------
    facts : mapping
        The machine's own: edges share its kernel.
    root : Path
        The edges' root file system (`testbed.hosts.root`); its CRIU and runtime count.
    """
    criu = _version_in(root, "criu")
    here = {
        **facts,
        "host": "a namespace edge",
        "criu": {"version": criu, "problem": probe.criu_problem(criu or "", facts["kernel"])},
        "runtimes": {name: _version_in(root, name) for name in ("crun", "runc")},
    }
    diagnosis = examine(here, "edge")
    known = {finding.name for finding in examine(facts).findings}
    only = tuple(finding for finding in diagnosis.findings if finding.name not in known)
    return replace(diagnosis, findings=only)


def _version_in(root: Path, package: str) -> str | None:
    """The version of a package in a root file system; ``None`` where it is not in there."""
    asking = ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W", "-f", "${Version}", package]
    done = subprocess.run(asking, capture_output=True, text=True, check=False)
    found = re.match(r"\d+(\.\d+)+", done.stdout)
    return found[0] if found else None


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
