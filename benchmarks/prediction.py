"""Which site comes next, how sure, how soon? Our predictors beside each other, on held-out users.

GeoLife's labelled journeys in Beijing and SUMO's trips in Berlin, cells 500 m apart in hexagons.
For each handoff: was its target named, so many seconds before? Each predictor is asked for sites
within twice that time; where other handoffs lie in between, for the site that many steps ahead.
And every 10 s: what did the probability of the best candidate mean? Judged is the expected
calibration error (ECE) as it is commonly defined, the same for every predictor: all states for
which it names a candidate, however unlikely, in ten bins of equal width; a further column leaves
out those below 5 %, which are many and easy. Nothing is learnt from the users and seeds that are
tested here.

    .venv/bin/python benchmarks/prediction.py [--quick] [--json FILE] [--png FILE]
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from prediction_data import MODES, SEPARATION_M, SUMO, Journey, World, geolife, sumo
from prediction_score import HORIZONS_S, Score, Scores, score, total

from testbed.errors import DataNotFoundError
from testbed.hosts.root import default_cache
from testbed.measurement.summary import render
from testbed.prediction.constant_velocity import ConstantVelocity
from testbed.prediction.history import SiteHistory, Visit
from testbed.prediction.map_based import MapBased
from testbed.prediction.markov import MarkovSites
from testbed.prediction.nearest import NearestSite
from testbed.prediction.outlook import Foreseeing
from testbed.prediction.regression import PolynomialRegression
from testbed.prediction.rssi import RssiTrend
from testbed.prediction.turn_counts import TurnCounts

GOAL_CALIBRATION = 0.05
GOAL_PER_S = 10_000
USERS = 1_000
REACH_S = 120.0
TURNS_SEEN = "map-based, turns seen"
WITHOUT_HISTORY = ("map-based", "constant-velocity", "regression", "rssi", "nearest")
NOTES = """\
Per cent of handoffs whose target was named first (top-1) or among three (top-3), so many seconds
before. Brier: all sites and staying, every 10 s; 0 is perfect. ECE: expected calibration error of
the best candidate over all states that have one, 10 bins; floor: what it would be on average if
every probability were exact; >=5%: ECE over states whose best candidate has at least 5 %.
false: share of sites named with at least 50 % that were not entered in time. lead: median
seconds for which a handoff's target was named with at least 50 % without a break (within 60 s,
asked every 10 s). markov and turns seen: with the history of the training users or seeds; all
others without history."""


def data_folder() -> Path:
    """Where GeoLife and the map of Beijing are looked for."""
    named = os.environ.get("TESTBED_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


def visits(world: World, journey: Journey) -> list[Visit]:
    """The cells that served, and for how long."""
    at = [0, *journey.handoffs.tolist(), len(journey.time_s) - 1]
    return [
        (world.cells.names[int(journey.serving[a])], float(journey.time_s[b] - journey.time_s[a]))
        for a, b in pairwise(at)
    ]


def seen_turns(world: World, journeys: Sequence[Journey]) -> TurnCounts:
    """Turns of the training journeys, as they were matched fix by fix."""
    routes = []
    for journey in journeys:
        if journey.training:
            edges = journey.edge[journey.edge >= 0].tolist()
            routes.append([edge for edge, _ in groupby(edges)])
    return TurnCounts.fit(routes, roads=world.roads.name, edge_count=world.roads.edge_count)


def contenders(world: World, journeys: Sequence[Journey]) -> dict[str, Foreseeing]:
    """All predictors; the one with history has it from the training journeys only."""
    on = (world.roads, world.cells, world.coverage, REACH_S)
    history = SiteHistory.fit([visits(world, j) for j in journeys if j.training])
    return {
        "map-based": MapBased(*on),
        TURNS_SEEN: MapBased(*on, counts=seen_turns(world, journeys)),
        "constant-velocity": ConstantVelocity(*on),
        "regression": PolynomialRegression(*on),
        "rssi": RssiTrend(*on),
        "nearest": NearestSite(*on),
        "markov": MarkovSites(*on, history=history),
    }


def table(scores: Mapping[str, Scores], modes: Sequence[str]) -> str:
    """Every predictor at every horizon."""
    rows = []
    for name, found in scores.items():
        for horizon_s, result in total(found, modes).items():
            rows.append((
                name if horizon_s == HORIZONS_S[0] else "",
                f"{horizon_s:.0f} s",
                f"{result.handoffs:,}",
                *(f"{share:.1%}" for share in (result.top1, result.top3)),
                *(_number(v) for v in (result.mean_brier, result.calibration_error)),
                _number(result.calibration_floor),
                _number(result.calibration_error_of_likely),
                "-" if math.isnan(result.false_alarms) else f"{result.false_alarms:.0%}",
                f"{result.lead:.0f} s" if result.lead_s else "",
            ))  # fmt: skip
    headers = (
        "predictor",
        "ahead",
        "handoffs",
        "top-1",
        "top-3",
        "Brier",
        "ECE",
        "floor",
        ">=5%",
        "false",
        "lead",
    )
    return render(headers, rows, right=range(1, len(headers)))


def by_mode(scores: Mapping[str, Scores], modes: Sequence[str]) -> str:
    """Top-1 of every predictor and ECE of the map-based one, mode by mode."""
    rows = []
    for mode in modes:
        for what, of in (("top-1 of best other", "best"), ("top-1", "top1"), ("ECE", "ece")):
            cells = []
            for horizon_s in HORIZONS_S:
                own = scores["map-based"].get((mode, horizon_s), Score())
                others = [
                    scores[n].get((mode, horizon_s), Score()).top1 for n in WITHOUT_HISTORY[1:]
                ]
                value = {"best": max(others), "top1": own.top1, "ece": own.calibration_error}[of]
                cells.append(_number(value) if of == "ece" else f"{value:.1%}")
            handoffs = scores["map-based"][mode, HORIZONS_S[1]].handoffs
            shown = mode if of == "best" else f"  {handoffs:,} handoffs" if of == "top1" else ""
            rows.append((shown, what if of == "best" else f"{what}, map-based", *cells))
    headers = ("mode", "what", *(f"{h:.0f} s" for h in HORIZONS_S))
    return render(headers, rows, right=range(2, len(headers)))


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def json_rows(
    data: str, scores: Mapping[str, Scores], modes: Sequence[str], *, judged: bool
) -> list[dict[str, Any]]:
    """One row for each number; the goals are judged here, over all modes of a data set."""
    sums = {name: total(found, modes) for name, found in scores.items()}
    rows = []
    for name, by_horizon in sums.items():
        ours = name == "map-based"
        for horizon_s, result in by_horizon.items():
            what = f"{name}, {data}, {horizon_s:.0f} s ahead"
            peer = max(
                (n for n in WITHOUT_HISTORY if n in sums and n != "map-based"),
                key=lambda n: sums[n][horizon_s].top1,
            )
            best = sums[peer][horizon_s].top1
            rows.append(
                _row(
                    f"{what}: target named first, of {result.handoffs}",
                    result.top1,
                    "share",
                    peer=f"{peer}: {best:.3f}" if ours else None,
                    ratio=result.top1 / best if ours and best else math.nan,
                    goal=1.0 if ours and judged else None,
                    met=result.top1 >= best,
                )
            )
            rows.append(
                _row(
                    f"{what}: expected calibration error",
                    result.calibration_error,
                    "share",
                    goal=GOAL_CALIBRATION if ours and judged else None,
                    met=result.calibration_error < GOAL_CALIBRATION,
                )
            )
            for more, value, unit in (
                ("target among the first three", result.top3, "share"),
                ("Brier score", result.mean_brier, "score"),
                ("calibration error, 5 % and more", result.calibration_error_of_likely, "share"),
                ("calibration error by chance alone", result.calibration_floor, "share"),
                ("false alarms", result.false_alarms, "share"),
                ("lead time, median", result.lead, "s"),
            ):
                if not (unit == "s" and math.isnan(value)):
                    rows.append(_row(f"{what}: {more}", value, unit))
    return rows


def _row(
    name: str,
    value: float,
    unit: str,
    *,
    peer: str | None = None,
    ratio: float = math.nan,
    goal: float | None = None,
    met: bool = False,
) -> dict[str, Any]:
    return {
        "name": name,
        "value": None if math.isnan(value) else round(value, 4),
        "unit": unit,
        "peer": peer,
        "ratio": None if math.isnan(ratio) else round(ratio, 3),
        "goal": goal,
        "met": None if goal is None else met,
    }


def speed_row(world: World, journeys: Sequence[Journey]) -> dict[str, Any]:
    """Predictions per second for many users at once: states in, candidates out, one core."""
    states = []
    for journey in journeys:
        states += journey.states(world)[10::40]
        if len(states) >= USERS:
            break
    states = (states * (USERS // len(states) + 1))[:USERS]
    predictor = MapBased(world.roads, world.cells, world.coverage)
    predictor.predict_many(states[:5])
    took_s = []
    for _ in range(5):
        began_s = time.process_time()
        predictor.predict_many(states)
        took_s.append(time.process_time() - began_s)
    rate = USERS / sorted(took_s)[2]
    return _row(
        f"map-based, {world.roads.name}: predictions for {USERS:,} users on one core, 30 s horizon",
        rate,
        "1/s",
        goal=GOAL_PER_S,
        met=rate >= GOAL_PER_S,
    )


def reliability_png(path: Path, scores: Mapping[str, Mapping[str, Scores]]) -> None:
    """What probabilities of the map-based predictor meant, by horizon."""
    import matplotlib as mpl  # noqa: PLC0415 - only for a picture

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, len(scores), figsize=(5 * len(scores), 4.6), squeeze=False)
    for axis, (data, found) in zip(axes[0], scores.items(), strict=True):
        modes = sorted({mode for mode, _ in found["map-based"]})
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for horizon_s, result in total(found["map-based"], modes).items():
            rows = result.reliability()
            axis.plot(
                [p for p, _, _ in rows],
                [true for _, true, _ in rows],
                marker="o",
                label=f"{horizon_s:.0f} s: ECE {result.calibration_error:.3f}",
            )
        axis.set(title=data, xlabel="probability of the best candidate", ylabel="came true")
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Test on all data that are here; say what is skipped, and why."""
    rows: list[dict[str, Any]] = []
    scores: dict[str, dict[str, Scores]] = {}
    parts: dict[str, tuple[tuple[World, list[Journey]], tuple[str, ...]]] = {}
    try:
        parts["GeoLife"] = (geolife(data_folder(), options.cache, quick=options.quick), MODES)
    except DataNotFoundError as error:
        print(f"GeoLife SKIPPED: {error}")
    parts["SUMO in Berlin"] = (sumo(options.cache, quick=options.quick), (SUMO,))
    for data, ((world, journeys), modes) in parts.items():
        tested = [journey for journey in journeys if not journey.training]
        found = score(contenders(world, journeys), world, tested, data)
        scores[data] = found
        users = sorted({journey.user for journey in tested})
        print(f"\n{data}: {len(tested)} journeys of {len(users)} users or seeds, "
              f"cells {SEPARATION_M:g} m apart\n{table(found, modes)}")  # fmt: skip
        print(f"\n{by_mode(found, modes)}")
        rows += json_rows(data, found, modes, judged=not options.quick)
        rows.append(speed_row(world, tested))
    print(f"\n{NOTES}")
    if options.png:
        reliability_png(options.png, scores)
    return rows


def main() -> int:
    """Run the benchmark; 0 where every goal is met, 1 where one is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument(
        "--quick", action="store_true", help="few journeys, no history; only speed is judged"
    )
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--png", type=Path, help="file for the reliability diagram")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="what is kept on disk")
    options = parser.parse_args()
    began_s = time.monotonic()
    try:
        rows = run(options)
    except KeyboardInterrupt:
        print("benchmark: interrupted", file=sys.stderr)
        return 130
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    judged = [row for row in rows if row["goal"] is not None]
    for row in judged:
        print(f"{'met' if row['met'] else 'NOT MET'}: {row['name']}: {row['value']} {row['unit']}"
              f"{', ' + row['peer'] if row['peer'] else ''}, goal {row['goal']:g}")  # fmt: skip
    print(f"{time.monotonic() - began_s:.0f} s in all")
    return 0 if all(row["met"] for row in judged) else 1


RAW = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    sys.exit(main())
