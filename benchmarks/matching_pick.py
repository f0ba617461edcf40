"""Which setting a peer is run with in each case: the one that was best on other drives.

The pick is made once, on drives of another seed than those that are scored, and kept beside the
peers' environment; it is made anew when a worker, the drives' maker or the pins change.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from matching_ground import CASES, Case, Ground, Results
from matching_measure import Wrong
from matching_peers import PEERS, REQUIREMENTS, Peer, PeerError, run_peers, shared_drives
from tqdm import tqdm

PICK_SEED, OTHER_SEED = 7_001, 7_002
PICK_DRIVES = 5
BUDGET_S, TRACE_LIMIT_S = 60.0, 10.0
Picks = dict[str, dict[Case, str]]
"""By package, the setting of each case."""


def pick_seed(scored_seed: int) -> int:
    """A seed whose drives are not scored."""
    return OTHER_SEED if scored_seed == PICK_SEED else PICK_SEED


def picked(
    name: str,
    make: Callable[..., Ground],
    scored_seed: int,
    cache: Path,
    python: Path,
) -> Picks:
    """Each peer's setting in each case on one ground.

    Parameters
    ----------
    name : str
        The ground's name.
    make : callable
        Makes it: drives, seed, cache, progress, ``short``.
    scored_seed : int
        Seed of the drives that are scored; the pick is made on others.
    cache : pathlib.Path
        Where picks are kept.
    python : pathlib.Path
        Of the peers' environment.
    """
    seed = pick_seed(scored_seed)
    kept = cache / f"matching-picks-{name}-{seed}-{_digest()}.json"
    if kept.is_file():
        return _read(kept)
    begin = partial(tqdm, leave=False, mininterval=0.5, disable=None)
    with begin(total=PICK_DRIVES, desc=f"{name}: driving to pick settings", unit="drive") as bar:
        ground = make(PICK_DRIVES, seed, cache, bar.update, short=True)
    wanted = {peer.package: {case: tried_in(peer, case) for case in CASES} for peer in PEERS}
    each = PICK_DRIVES * sum(len(names) for cases in wanted.values() for names in cases.values())
    with (
        begin(total=each, desc=f"{name}: picking settings (once)", unit="trace") as bar,
        tempfile.TemporaryDirectory(prefix="matching-pick-") as folder,
    ):
        tried = run_peers(
            ground,
            Path(folder),
            python,
            wanted=wanted,
            budget_s=BUDGET_S,
            trace_limit_s=TRACE_LIMIT_S,
            done=bar.update,
        )
    if not min(shared_drives(list(results.values())) for results in tried.values()):
        raise PeerError(f"{name}: no drive was finished under every setting, so none can be picked")
    picks = {peer.package: best_of(tried[peer.name]) for peer in PEERS}
    rows = {
        package: [[case.step_s, case.noise_m, setting] for case, setting in chosen.items()]
        for package, chosen in picks.items()
    }
    kept.parent.mkdir(parents=True, exist_ok=True)
    fresh = kept.with_suffix(".new")
    fresh.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    fresh.replace(kept)
    return picks


def tried_in(peer: Peer, case: Case) -> tuple[str, ...]:
    """Settings that are tried in a case: one for sparse fixes only where fixes are sparse."""
    sparse = case.step_s > 1
    return tuple(setting for setting in peer.settings if sparse or setting not in peer.for_sparse)


def best_of(tried: Mapping[str, Results]) -> dict[Case, str]:
    """The setting with the least length mismatched in each case; of equal ones the first."""
    found = {}
    for case in CASES:
        mismatched = {
            setting: sum((one.directed for one in results[case]), Wrong()).mismatched
            for setting, results in tried.items()
            if case in results
        }
        found[case] = min(mismatched, key=lambda setting: mismatched[setting])
    return found


def _read(kept: Path) -> Picks:
    rows = json.loads(kept.read_text("utf-8"))
    return {
        package: {Case(step_s, noise_m): setting for step_s, noise_m, setting in chosen}
        for package, chosen in rows.items()
    }


def _digest() -> str:
    """What a pick hangs on: the workers, their settings, the pins, the drives and the measure."""
    here = Path(__file__).parent
    names = [peer.worker for peer in PEERS]
    names += ["matching_worker.py", "matching_truth.py", "matching_measure.py", "matching_pick.py"]
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + repr(PEERS).encode())
    for name in names:
        digest.update((here / name).read_bytes())
    return digest.hexdigest()[:12]
