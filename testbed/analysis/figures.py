"""Figures of a run over time: what users waited, what a migration did, what it sent."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from testbed.analysis import style
from testbed.analysis.tables import phase_bytes, phase_table
from testbed.measurement.requests import gap_window, longest_gap, right_answers_s
from testbed.measurement.summary import human_bytes, human_ms, moment_s, place
from testbed.records import MigrationRecord

if TYPE_CHECKING:
    from testbed.measurement.store import Run

LOG_FROM = 12.0
"""Delays are drawn on a logarithmic axis if the longest is this many times the median."""
CLOSE_UPS = 6
BAND_HIGH = 0.055
NARROWEST_BAND = 0.045
"""Share of the axis below which a stretch is too narrow for a name in it."""


def delay_figure(run: "Run", ax: Axes | None = None) -> Figure:
    """Draw every request's delay over time, and each migration close up.

    Above the delays stand the serving cell and the host of the service; gaps in the right answers
    around a migration are shaded. With ``ax`` the close-ups are left out.
    """
    with style.paper():
        moves: list[MigrationRecord] = run.records("migrations")
        if ax is not None:
            _draw_delays(ax, run, moves)
            return style.figure_of(ax)
        close = moves[:CLOSE_UPS]
        figure = style.new_figure(4.4 if close else 2.9)
        rows = figure.add_gridspec(2 if close else 1, max(len(close), 1), height_ratios=(
            (1.7, 1.0) if close else (1.0,)
        ))  # fmt: skip
        top = figure.add_subplot(rows[0, :])
        _draw_delays(top, run, moves)
        panels = [figure.add_subplot(rows[1, at]) for at in range(len(close))]
        highest_ms = max(
            (_draw_close_up(panel, run, move, number) for number, (panel, move) in
             enumerate(zip(panels, close, strict=True), start=1)), default=0.0,
        )  # fmt: skip
        for panel in panels:
            panel.set_ylim(0, 1.08 * highest_ms or 1.0)
            panel.tick_params(labelleft=panel is panels[0])
        if close:
            panels[0].set_ylabel("delay (ms)")
            figure.supxlabel(
                "sent, from the freeze (ms); shaded: no right answer; dashed: handover",
                fontsize=8.5,
            )
    return figure


def bytes_figure(run: "Run", ax: Axes | None = None) -> Figure:
    """Draw the bytes of each migration by phase, sent ahead beside sent while frozen.

    The two differ by orders of magnitude and so have an axis each. With ``ax`` only what was sent
    while frozen is drawn.
    """
    with style.paper():
        sent, count = phase_bytes(run), len(run.migrations)
        if ax is not None:
            _stack_bytes(ax, sent[sent["frozen"]], count, style.DOWN, "Sent while frozen")
            return style.figure_of(ax)
        figure = style.new_figure(1.35 + 0.3 * max(count, 2))
        left, right = figure.subplots(1, 2)
        _stack_bytes(left, sent[~sent["frozen"]], count, style.AHEAD, "Sent while running")
        _stack_bytes(right, sent[sent["frozen"]], count, style.DOWN, "Sent while frozen")
        left.set_ylabel("migration")
        right.tick_params(labelleft=False)
    return figure


def timeline_figure(run: "Run", migration: str | None = None, ax: Axes | None = None) -> Figure:
    """Draw the phases of one migration as bars over time, as a whole and around the freeze.

    Parameters
    ----------
    run : Run
        What to draw.
    migration : str, optional
        Which migration; the first where absent.
    ax : Axes, optional
        Where to draw the stretch around the freeze; a figure with both where absent.

    Raises
    ------
    KeyError
        If the run has no such migration.
    """
    moves = {move.migration: move for move in run.records("migrations")}
    chosen = next(iter(moves), "") if migration is None else migration
    if chosen not in moves:
        raise KeyError(f"no migration {chosen!r} in {run.folder}; there are: {', '.join(moves)}")
    move, phases = moves[chosen], phase_table(run, chosen)
    with style.paper():
        if ax is not None:
            _gantt(ax, phases, move, close=True)
            return style.figure_of(ax)
        lines = phases["phase"].nunique()
        figure = style.new_figure(1.5 + 0.19 * max(lines, 4))
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.5), sharey=True)
        _gantt(left, phases, move, close=False)
        _gantt(right, phases, move, close=True)
        right.tick_params(labelleft=False)
        number = list(moves).index(chosen) + 1
        figure.suptitle(
            f"Migration {number} ({move.technique}): {place(move.source_site, move.source)} → "
            f"{place(move.target_site, move.target)}",
            fontsize=9,
        )
        figure.legend(
            handles=[
                Patch(color=style.DOWN, label="service stands still"),
                Patch(color=style.AHEAD, label="service runs"),
            ],
            loc="outside lower right", ncols=2, borderaxespad=0.2,
        )  # fmt: skip
    return figure


def _draw_delays(ax: Axes, run: "Run", moves: list[MigrationRecord]) -> None:
    requests = run.requests
    delays_ms = requests["delay_s"] * 1e3
    for user, group in requests.groupby("user", sort=False):
        ax.scatter(
            group["time_s"], group["delay_s"] * 1e3, s=2.5, color=style.INK, alpha=0.5,
            linewidths=0, rasterized=True, label=str(user),
        )  # fmt: skip
    known = delays_ms.dropna()
    ax.margins(y=0.15)
    if known.size and known.max() > LOG_FROM * known.median():
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(lambda delay_ms, _: f"{delay_ms:,.10g}")
    else:
        ax.set_ylim(0, 1.18 * float(known.max()) if known.size else 1.0)
    end_s = max(run.manifest.duration_s, float(requests["time_s"].max()) if len(requests) else 0.0)
    ax.set(
        xlim=(0, max(end_s, 1e-3)), xlabel="time in the run (s)", ylabel="delay of a request (ms)"
    )
    for number, move in enumerate(moves, start=1):
        gap = _gap(run, move)
        if gap is None:
            continue
        ax.axvspan(*gap, color=style.DOWN, alpha=0.35, lw=1.2, zorder=0)
        ax.text(
            gap[0], 0.985, f" {number}: {human_ms(gap[1] - gap[0])} ms", color=style.DARK,
            transform=ax.get_xaxis_transform(), ha="left", va="top", fontsize=7.5,
            path_effects=[style.OUTLINE],
        )  # fmt: skip
    for at_s in run.handovers["started_s"]:
        ax.axvline(at_s, color=style.GREY, lw=0.7, ls=(0, (3, 3)), zorder=0)
    hosts, cells = _host_stretches(moves, end_s), _cell_stretches(run, end_s)
    _band(ax, cells, 1.03, "cell", style.colours([c for c in run.fixes["serving_cell"] if c]))
    _band(ax, hosts, 1.11, "service at", dict.fromkeys((name for _, _, name in hosts), "#777777"))


def _draw_close_up(ax: Axes, run: "Run", move: MigrationRecord, number: int) -> float:
    """Draw the requests around a freeze and the gap in right answers; return the longest delay."""
    origin_s = moment_s(move)
    gap = _gap(run, move)
    if gap is None:
        reach_s = 0.25
    else:
        reach_s = max(1.6 * (gap[1] - origin_s), 0.1)
        ax.axvspan(
            *((edge_s - origin_s) * 1e3 for edge_s in gap), color=style.DOWN, alpha=0.25, lw=0
        )
    requests = run.requests
    near = requests[
        (requests["user"] == move.user)
        & requests["time_s"].between(origin_s - reach_s, origin_s + 1.5 * reach_s)
    ]
    ax.scatter(
        (near["time_s"] - origin_s) * 1e3, near["delay_s"] * 1e3, s=9, color=style.INK,
        linewidths=0,
    )  # fmt: skip
    for at_s in run.handovers["started_s"]:
        if origin_s - reach_s < at_s < origin_s + 1.5 * reach_s:
            ax.axvline((at_s - origin_s) * 1e3, color=style.GREY, lw=0.9, ls=(0, (3, 3)), zorder=0)
    ax.set(xlim=(-reach_s * 1e3, 1.5 * reach_s * 1e3))
    words = "" if gap is None else f": {human_ms(gap[1] - gap[0])} ms"
    ax.set_title(f"{number}{words}", color=style.DARK)
    ax.xaxis.set_major_locator(MaxNLocator(3))
    longest_ms = float((near["delay_s"] * 1e3).max())
    return 0.0 if math.isnan(longest_ms) else longest_ms


def _gap(run: "Run", move: MigrationRecord) -> tuple[float, float] | None:
    """From the last right answer before a migration to the first after it, seconds."""
    if math.isnan(move.client_gap_s):
        return None
    requests = run.requests
    mine = requests[(requests["user"] == move.user) & (requests["service"] == move.service)]
    return longest_gap(right_answers_s(mine), *gap_window(move))


def _host_stretches(moves: list[MigrationRecord], end_s: float) -> list[tuple[float, float, str]]:
    """Where the first user's service was, as (start_s, end_s, host)."""
    done = [m for m in moves if m.user == moves[0].user and not math.isnan(m.answered_s)]
    if not done:
        return []
    edges_s = [0.0, *(move.answered_s for move in done), end_s]
    names = [done[0].source, *(move.target for move in done)]
    return list(zip(edges_s[:-1], edges_s[1:], names, strict=True))


def _cell_stretches(run: "Run", end_s: float) -> list[tuple[float, float, str]]:
    """Which cell served the first user, as (start_s, end_s, cell)."""
    fixes = run.fixes
    if fixes.empty:
        return []
    mine = fixes[fixes["user"] == fixes["user"].iloc[0]]
    starts = mine[mine["serving_cell"] != mine["serving_cell"].shift()]
    edges_s = [*starts["time_s"].astype(float), end_s]
    return list(zip(edges_s[:-1], edges_s[1:], starts["serving_cell"].astype(str), strict=True))


def _band(
    ax: Axes,
    stretches: list[tuple[float, float, str]],
    low: float,
    about: str,
    colours: dict[str, str],
) -> None:
    """A strip above the axes that tells what held from when to when."""
    if not stretches:
        return
    over = ax.get_xaxis_transform()
    width_s = ax.get_xlim()[1]
    for start_s, end_s, name in stretches:
        ax.add_patch(Rectangle(
            (start_s, low), end_s - start_s, BAND_HIGH, transform=over, clip_on=False, lw=1.2,
            fc=colours.get(name, style.PALE), ec="white", alpha=0.4,
        ))  # fmt: skip
        if (end_s - start_s) / width_s > NARROWEST_BAND * len(name) / 4:
            ax.text(
                (start_s + end_s) / 2, low + BAND_HIGH / 2, name, transform=over, ha="center",
                va="center_baseline", fontsize=7,
            )  # fmt: skip
    ax.text(
        -0.008, low + BAND_HIGH / 2, about, transform=ax.transAxes, ha="right",
        va="center_baseline", fontsize=7,
    )  # fmt: skip


def _stack_bytes(ax: Axes, sent: pd.DataFrame, count: int, colour: str, title: str) -> None:
    """One bar per migration, a piece per phase, its total at its end."""
    totals = sent.groupby("number")["bytes"].sum()
    largest = float(totals.max()) if len(totals) else 1.0
    scale, unit = next(
        (s, u) for s, u in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")) if largest >= s
    )
    order = sent.groupby("phase", sort=False)["bytes"].sum().sort_values(ascending=False)
    left = np.zeros(count)
    for phase, shade in zip(order.index, style.shades(colour, len(order)), strict=True):
        mine = sent[sent["phase"] == phase].groupby("number")["bytes"].sum()
        label = f"{phase} ({human_bytes(order[phase] / count)})"
        widths = mine.reindex(range(1, count + 1), fill_value=0).to_numpy(float) / scale
        ax.barh(
            np.arange(1, count + 1), widths, left=left, height=0.66, color=shade,
            edgecolor="white", linewidth=0.4, label=label,
        )  # fmt: skip
        left += widths
    for number, total in totals.items():
        ax.text(total / scale, float(number), f" {human_bytes(total)}", va="center", fontsize=7.5)  # type: ignore[arg-type]
    ax.set(
        xlim=(0, largest / scale * 1.22), ylim=(max(count, 1) + 0.6, 0.4), xlabel=f"bytes ({unit})"
    )
    ax.set_title(title, loc="left")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    if not len(order):
        ax.text(0.5, 0.5, "nothing", transform=ax.transAxes, ha="center", color=style.GREY)
        ax.set(xticks=[], xlabel="")
    else:
        ax.legend(
            title="phase (mean per migration)", loc="upper center", bbox_to_anchor=(0.5, -0.28),
            ncols=2, title_fontsize=7.5, fontsize=7.5, handlelength=1.0, columnspacing=1.0,
        )  # fmt: skip


def _gantt(ax: Axes, phases: pd.DataFrame, move: MigrationRecord, *, close: bool) -> None:
    """Bars of the phases, a line per name, ms from the freeze."""
    names = list(dict.fromkeys(phases["phase"]))
    origin_s = moment_s(move)
    stop_ms = (move.answered_s - origin_s) * 1e3
    low_ms, high_ms = _reach_ms(phases, stop_ms, close=close)
    if math.isfinite(stop_ms):
        ax.axvspan(0, stop_ms, color=style.DOWN, alpha=0.1, lw=0)
    for phase in phases.to_dict("records"):
        line = names.index(phase["phase"])
        start_ms, duration_ms = phase["start_ms"], phase["duration_ms"]
        ax.barh(
            line, max(duration_ms, (high_ms - low_ms) / 400), left=start_ms, height=0.62,
            color=style.DOWN if phase["frozen"] else style.AHEAD, linewidth=0,
        )  # fmt: skip
        if close and phase["frozen"]:
            _write_beside(ax, phase, line, high_ms)
    ax.set(xlim=(low_ms, high_ms), ylim=(len(names) - 0.4, -0.6), xlabel="from the freeze (ms)")
    ax.set_yticks(range(len(names)), names)
    ax.set_title("around the freeze" if close else "the whole migration", loc="left")
    ax.xaxis.set_major_locator(MaxNLocator(6 if close else 4))
    ax.grid(axis="y", color=style.PALE, lw=0.5)
    ax.set_axisbelow(True)


def _reach_ms(phases: pd.DataFrame, stop_ms: float, *, close: bool) -> tuple[float, float]:
    if phases.empty:
        return -1.0, 1.0
    ends_ms = phases["start_ms"] + phases["duration_ms"]
    if close:
        frozen = phases["frozen"].astype(bool)
        last_ms = float(np.nanmax([stop_ms, ends_ms[frozen].max(), 1.0]))
        return -0.12 * last_ms, 1.45 * last_ms
    first_ms, last_ms = float(phases["start_ms"].min()), float(ends_ms.max())
    spare_ms = 0.04 * max(last_ms - first_ms, 1.0)
    return first_ms - spare_ms, last_ms + spare_ms


def _write_beside(ax: Axes, phase: dict[Any, Any], line: int, high_ms: float) -> None:
    """How long a frozen phase took and what it sent, at its bar's end."""
    end_ms = phase["start_ms"] + phase["duration_ms"]
    words = f" {human_ms(phase['duration_ms'] / 1e3)} ms"
    if phase["bytes"]:
        words += f", {human_bytes(phase['bytes'])}"
    ax.text(min(end_ms, high_ms), line, words, va="center", fontsize=7.5)
