"""How the services' memory behaves, how large their images are, and what a cold build takes.

``--write`` keeps the figures in ``memory.json`` beside each service. Needs root.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from testbed.experiment.service_trial import ServiceTrial, ServiceTrials
from testbed.images.build import build
from testbed.services.memory import FILE
from testbed.services.service import find_service

OURS = ("simple", "face-detection", "openface", "yolo", "xonotic", "ram")
INTERVALS_S = (0.5, 1.0, 2.0, 5.0)
QUICK_S = (0.5, 1.0)


def words(quick: bool) -> str:  # noqa: FBT001 - a private affair of this file
    """What was measured where."""
    cpu = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return (
        f"benchmarks/services.py{' --quick' if quick else ''}: {cpu}, Linux {platform.release()}, "
        f"{time.strftime('%Y-%m-%d')}; in a namespace edge, read from outside while the service "
        "stood still; medians"
    )


def row(trial: ServiceTrial) -> dict[str, Any]:
    """One service's figures, flat."""
    memory = trial.memory
    delta = trial.moves["delta"]
    ahead = [phase.bytes for phase in delta.phases if phase.phase == "ahead"]
    return {
        "service": trial.service,
        "image_mb": round(trial.image.size_bytes / 1e6, 1),
        "base_mb": round(sum(layer.size_bytes for layer in trial.image.base_layers) / 1e6, 1),
        "resident_mb": memory.resident_mb,
        "private_mb": memory.private_mb,
        "compressed_share": memory.compressed_share,
        "idle_mb_per_s": round(memory.idle.rate_mb_per_s, 3),
        "load_mb_per_s": round(memory.load.rate_mb_per_s, 3),
        "checkpoint_mb": round(trial.moves["cold"].bytes_frozen / 1e6, 2),
        "dump_s": round(trial.phase_s("cold", "dump"), 3),
        "restore_s": round(trial.phase_s("cold", "restore"), 3),
        "ahead_mb": round(ahead[0] / 1e6, 2) if ahead else 0.0,
        "frozen_mb": round(delta.bytes_frozen / 1e6, 3),
        "delay_ms": round(float(trial.requests["delay_s"].median()) * 1e3, 2),
        "processing_ms": round(float(trial.requests["processing_s"].median()) * 1e3, 2),
    }


def write(trial: ServiceTrial, how: str) -> None:
    """Keep a service's figures beside it."""
    content = asdict(replace(trial.memory, how=how))
    path = find_service(trial.service).folder / FILE
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def cold_builds(services: list[str]) -> list[dict[str, Any]]:
    """Build every image in an empty cache, one after the other; later ones find shared layers."""
    rows = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        for name in services:
            service, cache = find_service(name), Path(folder)
            began_s = time.monotonic()
            with service.build_context(cache) as context:
                ready_s = time.monotonic()
                image = build(context, cache=cache, name=name)
            ended_s = time.monotonic()
            rows.append({
                "service": name,
                "fetch_s": round(ready_s - began_s, 1),
                "build_s": round(ended_s - ready_s, 1),
                "layers_mb": [round(layer.size_bytes / 1e6, 1) for layer in image.layers],
            })  # fmt: skip
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("services", nargs="*", default=list(OURS))
    parser.add_argument("--quick", action="store_true", help="short intervals, one sample each")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.add_argument("--write", action="store_true", help="keep the figures in memory.json")
    parser.add_argument("--cold-builds", action="store_true", help="time builds instead")
    options = parser.parse_args()
    if options.cold_builds:
        rows = cold_builds(options.services)
    else:
        rows = []
        intervals, samples = (QUICK_S, 1) if options.quick else (INTERVALS_S, 3)
        with ServiceTrials({name: {} for name in options.services}, quiet=options.json) as trials:
            for name in options.services:
                trial = trials.try_out(name, intervals_s=intervals, samples=samples)
                rows.append(row(trial))
                if options.write:
                    write(trial, words(options.quick))
                if not options.json:
                    print(rows[-1], file=sys.stderr)
    print(json.dumps(rows, indent=None if options.json else 1))


if __name__ == "__main__":
    main()
