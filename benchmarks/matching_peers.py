"""The peers: their environment, the files they are given, and what they give back."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matching_ground import CASES, Case, Ground, Results
from matching_measure import Answer, Part

REQUIREMENTS = Path(__file__).with_name("matching_requirements.txt")
INSTALL_LIMIT_S = 900
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


class PeerError(RuntimeError):
    """A peer's environment cannot be made, or its worker does not work at all."""


@dataclass(frozen=True)
class Peer:
    """One matcher to compare with.

    package : its name in the package index. worker : the script that runs it. settings : those
    that it can be run with. for_sparse : those of them that are for sparse fixes only.
    """

    package: str
    worker: str
    settings: tuple[str, ...]
    for_sparse: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Package and pinned version."""
        pins = dict(
            line.split("==") for line in REQUIREMENTS.read_text("utf-8").split() if "==" in line
        )
        return f"{self.package} {pins[self.package]}"


PEERS = (
    Peer("leuvenmapmatching", "matching_peer_leuven.py", ("told", "documented", "wide"), ("wide",)),
    Peer("mappymatch", "matching_peer_mappymatch.py", ("usual", "tolerant")),
)


@dataclass
class Heard:
    """What came from one worker: answers by drive, case and setting, and its complaints."""

    answers: dict[tuple[int, Case, str], Answer] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


Wanted = Mapping[str, Mapping[Case, Sequence[str]]]
"""By package, the settings to run in each case."""


def environment(cache: Path, tell: Callable[[str], None]) -> Path:
    """Python of the peers' own environment, made where it is not there yet.

    Raises
    ------
    PeerError
        If it cannot be installed; with what pip said.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + version.encode()).hexdigest()[:12]
    folder = cache / f"matching-peers-{digest}"
    python, ready = folder / "bin" / "python", folder / "ready"
    if ready.is_file():
        return python
    tell(f"installing the peers into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS)]
    for command in ([sys.executable, "-m", "venv", str(folder)], install):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PeerError(f"{command[0]}: {error}") from error
        if done.returncode:
            raise PeerError(
                f"{REQUIREMENTS.name} could not be installed: {done.stderr.strip()[-800:]}. Is "
                "the package index reachable? `--ours` measures without the peers"
            )
    ready.touch()
    return python


def hand_out(ground: Ground, folder: Path, wanted: Wanted) -> None:
    """Write the network, every trace, and each peer's jobs drive by drive."""
    roads = ground.roads
    names = ("tail", "head", "limit_mps", "length_m", "point_start", "point_x_m", "point_y_m",
             "node_x_m", "node_y_m", "opposite")  # fmt: skip
    np.savez(folder / "network.npz", allow_pickle=False, **{n: getattr(roads, n) for n in names})
    traces = {}
    for number in range(len(ground.drives)):
        for case in CASES:
            fixes = ground.fixes(number, case)
            rows = np.column_stack((fixes.time_s, fixes.x_m, fixes.y_m))
            traces[f"{number}|{case.step_s}|{case.noise_m}"] = rows
    np.savez(folder / "fixes.npz", allow_pickle=False, **traces)
    for peer in PEERS:
        jobs = [
            (number, case.step_s, case.noise_m, setting)
            for number in range(len(ground.drives))
            for case, names in wanted[peer.package].items()
            for setting in names
        ]
        (folder / f"{peer.package}.json").write_text(json.dumps(jobs), encoding="utf-8")


def run_peers(
    ground: Ground,
    folder: Path,
    python: Path,
    *,
    wanted: Wanted,
    budget_s: float,
    trace_limit_s: float,
    done: Callable[[], object],
) -> dict[str, dict[str, Results]]:
    """All peers at the same time, each on a core of its own as far as there are cores.

    Returns
    -------
    dict
        By peer and setting; the drives that it got through in every case, in order. A case has
        results only under the settings that were wanted for it.

    Raises
    ------
    PeerError
        If a worker ends before it has answered anything.
    """
    hand_out(ground, folder, wanted)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    heard = {peer: Heard() for peer in PEERS}
    running: list[tuple[subprocess.Popen[str], list[threading.Thread]]] = []
    try:
        for at, peer in enumerate(PEERS):
            worker = subprocess.Popen(
                [
                    str(python),
                    str(Path(__file__).with_name(peer.worker)),
                    *(str(folder), f"{peer.package}.json", str(budget_s), str(trace_limit_s)),
                    str(cores[-1 - at % len(cores)]),
                ],
                env={**os.environ, **ONE_THREAD},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            readers = [
                threading.Thread(target=_listen, args=(worker.stdout, heard[peer], done)),
                threading.Thread(target=_complaints, args=(worker.stderr, heard[peer])),
            ]
            running.append((worker, readers))
            for reader in readers:
                reader.start()
        for worker, readers in running:
            worker.wait()
            for reader in readers:
                reader.join()
    finally:
        for worker, _ in running:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
    for (worker, _), peer in zip(running, PEERS, strict=True):
        if worker.returncode or not heard[peer].answers:
            raise PeerError(
                f"{peer.name} on {ground.name}: its worker ended with {worker.returncode}: "
                f"{' | '.join(heard[peer].said[-5:])}. `--ours` measures without the peers"
            )
    return {peer.name: _judged(ground, heard[peer], wanted[peer.package]) for peer in PEERS}


def _listen(stream: Any, heard: Heard, done: Callable[[], object]) -> None:
    for line in stream:
        row = json.loads(line)
        parts = tuple(Part(tuple(edges), first, last) for edges, first, last in row["parts"])
        case = Case(row["step_s"], row["noise_m"])
        heard.answers[row["number"], case, row["setting"]] = Answer(
            parts, np.array(row["fix_edge"]), row["cpu_s"], row["failure"]
        )
        done()


def _complaints(stream: Any, heard: Heard) -> None:
    heard.said.extend(line.strip() for line in stream)


def _judged(
    ground: Ground, heard: Heard, wanted: Mapping[Case, Sequence[str]]
) -> dict[str, Results]:
    """The drives that were answered in every case; workers go through them in order."""
    jobs = [(case, setting) for case, names in wanted.items() for setting in names]
    whole = [
        number
        for number in range(len(ground.drives))
        if all((number, *job) in heard.answers for job in jobs)
    ]
    results: dict[str, Results] = {setting: {} for _, setting in jobs}
    for case, setting in jobs:
        results[setting][case] = [
            ground.judge(number, case, heard.answers[number, case, setting]) for number in whole
        ]
    return results


def shared_drives(results: Sequence[Results]) -> int:
    """How many drives everybody got through in every case."""
    return min(len(found) for result in results for found in result.values())
