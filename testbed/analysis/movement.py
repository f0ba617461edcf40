"""Figures of how users move and what their radio sees."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.analysis import style
from testbed.mobility.radio import HandoverRule, SignalModel
from testbed.mobility.rates import RateTable
from testbed.mobility.trace import Trace
from testbed.roads.projection import Projection

KMH = 3.6
MBPS = 1e6
STANDING_MPS = 0.5
SHOWN_STATIONS = 5
_MOST_DRAWN = 4000
"""Points of a distribution that are drawn; beyond that nothing more can be seen."""


def speeds_figure(trace: Trace, by: str = "mode", ax: Axes | None = None) -> Figure:
    """Distribution of the speeds of users on the move, for each value of a column.

    Parameters
    ----------
    trace : Trace
        With the column ``by``; fixes slower than 0.5 m/s are left out.
    by : str
        What tells the groups: ``mode``, ``user``...
    ax : Axes, optional
        Where to draw; a new figure where absent.
    """
    moving = trace.loc[trace["speed_mps"] > STANDING_MPS, [by, "speed_mps"]]
    groups_of = moving[by].astype(str).replace("", "unlabelled")
    moving = moving.assign(**{by: groups_of, "kmh": moving["speed_mps"] * KMH})
    groups = moving.groupby(by)["kmh"].median().sort_values().index.tolist()
    shown = pd.concat(
        [
            rows.iloc[:: max(1, len(rows) // _MOST_DRAWN)]
            for _, rows in moving.groupby(by, sort=False)
        ]
        or [moving]
    )
    with style.paper():
        if ax is None:
            ax = style.new_figure(0.7 + 0.42 * max(1, len(groups))).add_subplot()
        sns.violinplot(
            shown, x="kmh", y=by, hue=by, order=groups, hue_order=groups, ax=ax, cut=0, inner="box",
            density_norm="width", linewidth=0.7, palette=style.colours(groups), legend=False,
        )  # fmt: skip
        high = float(shown["kmh"].quantile(0.995)) if len(shown) else 1.0
        ax.set(xlabel="speed while moving, km/h", ylabel="", xlim=(0, high * 1.05))
        return style.figure_of(ax)


def radio_table(
    trace: Trace, signal: SignalModel, handover: HandoverRule, projection: Projection
) -> pd.DataFrame:
    """What one user's radio sees at each fix.

    Parameters
    ----------
    trace : Trace
        One user's way.
    signal : SignalModel
        Strength of the base stations.
    handover : HandoverRule
        Decides which one serves; fresh, as it remembers.
    projection : Projection
        The plane on which the base stations lie.

    Returns
    -------
    pandas.DataFrame
        One row per fix and base station heard: ``time_s, station, rssi_dbm, serving, connected``.
    """
    x, y = projection.to_xy(trace["lat_deg"].to_numpy(), trace["lon_deg"].to_numpy())
    rows = []
    places = zip(trace["time_s"].tolist(), x.tolist(), y.tolist(), strict=True)
    for time_s, x_m, y_m in places:
        heard = signal.measure(x_m, y_m)
        state = handover.observe(time_s, heard)
        rows += [
            (time_s, name, dbm, name == state.serving, state.connected)
            for name, dbm in heard.items()
        ]
    columns = ["time_s", "station", "rssi_dbm", "serving", "connected"]
    return pd.DataFrame(rows, columns=columns)


def radio_figure(radio: pd.DataFrame, rates: RateTable | None = None) -> Figure:
    """Strength of the base stations on a way, which one served, and what that could carry.

    Parameters
    ----------
    radio : pandas.DataFrame
        See `radio_table`.
    rates : RateTable, optional
        Gives the rate below the strengths.
    """
    wide = radio.pivot_table(index="time_s", columns="station", values="rssi_dbm")
    served = radio[radio["serving"]]
    names = served["station"].drop_duplicates().tolist()
    others = wide.drop(columns=names).max().nlargest(SHOWN_STATIONS).index.tolist()
    colours = style.colours(names)
    with style.paper():
        figure = style.new_figure(3.6 if rates is not None else 2.4)
        if rates is not None:
            top, low = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        else:
            top, low = figure.add_subplot(), None
        for name in others:
            top.plot(wide.index, wide[name], color=style.PALE, lw=0.8, zorder=1)
        for name in names:
            top.plot(wide.index, wide[name], color=colours[name], lw=0.9, alpha=0.6, zorder=2)
            here = served[served["station"] == name].set_index("time_s")["rssi_dbm"]
            line = here.reindex(wide.index)
            top.plot(wide.index, line, color=colours[name], lw=2.4, zorder=3, label=name)
        for at in _changes(served):
            top.axvline(at, color=style.DOWN, lw=0.8, ls=(0, (3, 3)), zorder=0)
        top.set_ylabel("RSSI, dBm")
        top.legend(ncols=6, loc="lower left", bbox_to_anchor=(0, 1.0), title="serving (thick)",
                   alignment="left", columnspacing=1.0)  # fmt: skip
        last = top
        if low is not None and rates is not None:
            carried = rates.throughput_bps(served["rssi_dbm"].to_numpy()) / MBPS
            carried = np.where(served["connected"].to_numpy(), carried, 0.0)
            low.step(served["time_s"], carried, where="post", color=style.AHEAD, lw=1.2)
            low.set_ylabel("Mbit/s")
            low.set_ylim(bottom=0)
            last = low
        last.set_xlabel("time, s")
        return figure


def _changes(served: pd.DataFrame) -> list[float]:
    """When another base station began to serve."""
    changed = served["station"].ne(served["station"].shift()).to_numpy()
    return list(served["time_s"].to_numpy()[changed][1:].tolist())


def stays_figure(stays: pd.DataFrame, theta_s: float, ax: Axes | None = None) -> Figure:
    """How long a way stays in each coverage, in the order in which they come.

    Parameters
    ----------
    stays : pandas.DataFrame
        `testbed.roads.short_coverage.Passage.table`.
    theta_s : float
        Coverages that last less are short (MSMF, section 4.2), seconds.
    ax : Axes, optional
        Where to draw; a new figure where absent.
    """
    with style.paper():
        if ax is None:
            ax = style.new_figure(2.2).add_subplot()
        colours = [style.DOWN if short else style.AHEAD for short in stays["short"]]
        ax.bar(np.arange(len(stays)), stays["stay_s"], color=colours, width=0.8)
        ax.axhline(theta_s, color=style.INK, lw=0.8, ls=(0, (4, 3)))
        ax.annotate(
            f"theta = {theta_s:g} s", (1.0, theta_s), xycoords=("axes fraction", "data"),
            xytext=(-2, 2), textcoords="offset points", ha="right", fontsize=7.5,
            path_effects=[style.OUTLINE],
        )  # fmt: skip
        ax.set_xticks(np.arange(len(stays)), stays["site"], rotation=60, ha="right", fontsize=7)
        ax.set(ylabel="expected stay, s", xlabel="")
        return style.figure_of(ax)
