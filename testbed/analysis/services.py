"""What the services answered and what moving them cost: tables and figures of trials."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from testbed.analysis import style
from testbed.errors import ResultsError
from testbed.experiment.service_trial import ServiceTrial
from testbed.hosts.root import default_cache
from testbed.services.openface.inputs import PEOPLE
from testbed.services.service import find_service

Trials = Mapping[str, ServiceTrial]
NGO_TABLE_I = {
    "simple": (74.2, 11.29, 0.0477),
    "openface": (1860.0, 196.8, 7.94),
    "yolo": (792.0, 584.8, 5.60),
}
"""Image, checkpoint of the pre-migration, checkpoint of the migration, MB (Ngo, Table I)."""
PICTURED = {"face-detection": "faces", "openface": "faces", "yolo": "objects"}
"""Services that look at pictures, and what they say they see."""
MOST_PICTURES = 4
MB = 1e6


def ngo_table(trials: Trials) -> pd.DataFrame:
    """Ngo's Table I with this machine's figures beside the paper's, megabytes.

    The checkpoint of the pre-migration is what is sent first, while the service runs; that of the
    migration is what is sent while it stands still. Both by the technique ``delta``.
    """
    rows = {}
    for name, trial in trials.items():
        delta = trial.moves["delta"]
        ahead = [p.bytes for p in delta.phases if p.phase == "ahead"]
        here = (trial.image.size_bytes / MB, (ahead or [0])[0] / MB, delta.bytes_frozen / MB)
        rows[name] = [*_with_reduction(here), *_with_reduction(NGO_TABLE_I.get(name))]
    columns = ["image_mb", "pre_migration_mb", "migration_mb", "reduction_percent"]
    both = pd.MultiIndex.from_product([["here", "paper"], columns])
    return pd.DataFrame.from_dict(rows, orient="index", columns=both)


def _with_reduction(sizes: tuple[float, float, float] | None) -> list[float]:
    if sizes is None:
        return [float("nan")] * 4
    image, before, after = sizes
    return [image, before, after, 100 * (1 - after / before) if before else float("nan")]


def cost_table(trials: Trials) -> pd.DataFrame:
    """Delay (processing and transmission, medians), memory and the parts of a cold move."""
    rows = {}
    for name, trial in trials.items():
        requests, cold = trial.requests, trial.moves["cold"]
        processing_s = requests["processing_s"]
        rows[name] = {
            "delay_ms": requests["delay_s"].median() * 1e3,
            "processing_ms": processing_s.median() * 1e3,
            "transmission_ms": (requests["delay_s"] - processing_s).median() * 1e3,
            "resident_mb": trial.memory.resident_mb,
            "checkpoint_mb": cold.bytes_frozen / MB,
            "compressed_mb": trial.memory.private_mb * trial.memory.compressed_share,
            "dump_ms": trial.phase_s("cold", "dump") * 1e3,
            "restore_ms": trial.phase_s("cold", "restore") * 1e3,
            "cold_event_window_ms": cold.event_window_s * 1e3,
            "delta_event_window_ms": trial.moves["delta"].event_window_s * 1e3,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def layer_table(trials: Trials) -> pd.DataFrame:
    """Every layer once, megabytes, and the services whose images have it."""
    sizes: dict[str, tuple[str, str, float, float]] = {}
    users: dict[str, list[str]] = {}
    for name, trial in trials.items():
        for layer in trial.image.layers:
            kind = "base" if layer.base else "application"
            packed = layer.compressed_bytes / MB
            sizes[layer.digest] = (kind, layer.created_by[:60], layer.size_bytes / MB, packed)
            users.setdefault(layer.digest, []).append(name)
    rows = [(*size, ", ".join(users[digest])) for digest, size in sizes.items()]
    rows += [
        ("instance", "written memory", t.memory.private_mb,
         t.memory.private_mb * t.memory.compressed_share, name)
        for name, t in trials.items()
    ]  # fmt: skip
    columns = ["layer", "made_by", "size_mb", "compressed_mb", "services"]
    return pd.DataFrame(rows, columns=columns)


def last_answers(trials: Trials) -> pd.DataFrame:
    """What each service said last, in words; pictures are drawn by `pictures_figure`."""
    said = {name: trial.answers[-1] if trial.answers else {} for name, trial in trials.items()}
    return pd.DataFrame(
        {
            "count": {name: trial.requests["count"].iloc[-1] for name, trial in trials.items()},
            "said": {name: _brief(answer) for name, answer in said.items()},
        }
    )


def _brief(answer: Mapping[str, Any]) -> str:
    left_out = {"sequence", "count", "processing_s", "threshold"}
    kept = {key: value for key, value in answer.items() if key not in left_out}
    for face in kept.get("faces", []):
        if isinstance(face, dict):
            kept["faces"] = [{k: v for k, v in face.items() if k != "embedding"}]
    return json.dumps(kept)[:200]


def pictures_figure(trial: ServiceTrial) -> Figure:
    """What was sent, with what the service said is on it.

    Raises
    ------
    ResultsError
        If the service does not look at pictures.
    """
    if trial.service not in PICTURED:
        known = ", ".join(PICTURED)
        raise ResultsError(f"{trial.service} looks at no pictures; these do: {known}")
    pictures = _pictures(trial)
    with style.paper():
        figure = style.new_figure(2.1)
        axes = figure.subplots(1, len(pictures), squeeze=False)[0]
        for ax, (picture, said) in zip(axes, pictures, strict=True):
            ax.imshow(picture)
            ax.set_axis_off()
            for thing in said[PICTURED[trial.service]]:
                _draw_thing(ax, thing)
    return figure


def _pictures(trial: ServiceTrial) -> list[tuple[Any, Mapping[str, Any]]]:
    """Pictures that were sent, each once, with the answer to it, spread over all."""
    service = find_service(trial.service)
    with tempfile.TemporaryDirectory() as folder:
        service.prepare_inputs(Path(folder), cache=default_cache())
        order = sorted(
            (Path(folder) / "inputs").rglob("*.jpg"), key=lambda p: (len(p.stem), p.stem)
        )
        if trial.service == "yolo":
            order.sort(key=lambda path: path.stem)
        found: dict[int, Mapping[str, Any]] = {}
        for answer in trial.answers:
            which = _which(trial.service, int(answer["sequence"]), len(order))
            if which is not None:
                found.setdefault(which, answer)
        shown = sorted(found)[:: max(1, len(found) // MOST_PICTURES)][:MOST_PICTURES]
        return [(_read(order[which]), found[which]) for which in shown]


ENROLLED = sum("enrol" in person for person in PEOPLE)
"""How many people the client of face recognition enrols before it asks."""


def _which(service: str, sequence: int, pictures: int) -> int | None:
    """Index of the picture that was sent under a number; ``None`` for an enrolment."""
    if service != "openface":
        return (sequence - 1) % pictures
    if sequence <= ENROLLED:
        return None
    return ENROLLED + (sequence - ENROLLED - 1) % (pictures - ENROLLED)


def _read(path: Path) -> Any:
    content: Any = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(content, cv2.COLOR_BGR2RGB)


def _draw_thing(ax: Axes, thing: Mapping[str, Any] | list[int]) -> None:
    box: Any = thing
    name, colour = "", style.DOWN
    if isinstance(thing, Mapping):
        box, name = thing["box"], str(thing["name"] or "nobody known")
        if "confidence" in thing:
            name = f"{name} {thing['confidence']:.2f}"
    x, y, width, height = box
    ax.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=1.4))
    ax.text(x, y, name, color=colour, fontsize=7, va="bottom", path_effects=[style.OUTLINE])


def delta_figure(trials: Trials) -> Figure:
    """How much of a service's memory differs after an interval, idle and in use."""
    with style.paper():
        figure = style.new_figure(2.8)
        axes = figure.subplots(1, 2, sharey=True)
        colours = style.colours(list(trials))
        for ax, state in zip(axes, ("idle", "load"), strict=True):
            for name, trial in trials.items():
                changes = getattr(trial.memory, state)
                ax.plot(changes.interval_s, np.maximum(changes.changed_mb, 1e-3), marker="o",
                        markersize=3, color=colours[name], label=name)  # fmt: skip
            ax.set_yscale("log")
            ax.set_xlabel("interval (s)")
            ax.set_title({"idle": "without requests", "load": "in use"}[state])
        axes[0].set_ylabel("changed memory (MB)")
        axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
