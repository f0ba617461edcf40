"""How good predictions were: beside what the radio then did (`testbed.prediction.batch`)."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.analysis import style

LEADS_S = (5.0, 10.0, 20.0, 30.0)
ASKED_EVERY_S = 5.0
BINS = 10
NAMED_FROM = 0.05
"""Candidates less likely than this are not worth naming, and are not judged."""


def handoff_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """When the serving site changed: one row per handoff.

    Parameters
    ----------
    predictions : pandas.DataFrame
        `testbed.prediction.batch.predict_traces`.

    Returns
    -------
    pandas.DataFrame
        ``user, time_s, from_site, to_site, since_s`` (time since the user's handoff before).
    """
    fixes = predictions.drop_duplicates(["user", "time_s"])[["user", "time_s", "serving_site"]]
    rows = []
    for user, own in fixes.groupby("user", sort=False):
        site = own["serving_site"].to_numpy()
        time_s = own["time_s"].to_numpy(float)
        before_s = time_s[0]
        for at in np.flatnonzero(site[1:] != site[:-1]) + 1:
            rows.append((user, time_s[at], site[at - 1], site[at], time_s[at] - before_s))
            before_s = time_s[at]
    return pd.DataFrame(rows, columns=["user", "time_s", "from_site", "to_site", "since_s"])


def accuracy_table(
    predictions: Mapping[str, pd.DataFrame], leads_s: Sequence[float] = LEADS_S
) -> pd.DataFrame:
    """Share of handoffs whose target was named so long before, by predictor.

    A handoff is asked about where the one before it lies further back than the lead.

    Parameters
    ----------
    predictions : mapping of str to pandas.DataFrame
        What each predictor said of the same traces.
    leads_s : sequence of float
        How long before, seconds.

    Returns
    -------
    pandas.DataFrame
        ``predictor, lead_s, handoffs, first, among_three`` (shares from 0 to 1).
    """
    rows = []
    for name, said in predictions.items():
        handoffs = handoff_table(said)
        named = _named(said)
        for lead_s in leads_s:
            asked = handoffs[handoffs["since_s"] > lead_s]
            ranks = [
                _rank(named[user], time_s - lead_s, site)
                for user, time_s, site in zip(
                    asked["user"], asked["time_s"], asked["to_site"], strict=True
                )
            ]
            found = np.array(ranks)
            rows.append(
                (name, lead_s, len(found), float((found == 0).mean()), float((found < 3).mean()))  # noqa: PLR2004
                if len(found)
                else (name, lead_s, 0, np.nan, np.nan)
            )
    return pd.DataFrame(rows, columns=["predictor", "lead_s", "handoffs", "first", "among_three"])


_Named = tuple[np.ndarray[tuple[int], np.dtype[np.float64]], list[list[str]]]


def _named(said: pd.DataFrame) -> dict[str, _Named]:
    """For each user the times of the fixes, and the next sites named at each, best first."""
    nexts = said[said["step"] == 1]
    found: dict[str, _Named] = {}
    for user, own in nexts.groupby("user", sort=False):
        sites = own.groupby("time_s", sort=True)["site"].agg(list)
        found[str(user)] = (sites.index.to_numpy(float), sites.tolist())
    return found


_UNNAMED = 99


def _rank(named: _Named, time_s: float, site: str) -> int:
    """Place of a site among those named at the last fix up to a time."""
    times, sites = named
    at = int(np.searchsorted(times, time_s, side="right")) - 1
    return sites[at].index(site) if at >= 0 and site in sites[at] else _UNNAMED


def reliability_table(predictions: pd.DataFrame, horizon_s: float) -> pd.DataFrame:
    """What the probability of the best candidate meant.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Made with this horizon.
    horizon_s : float
        A prediction came true if its site served within so many seconds as the next other one.

    Returns
    -------
    pandas.DataFrame
        One row per bin of probability: ``said`` (mean), ``came_true`` (share) and ``asked``.
    """
    handoffs = handoff_table(predictions)
    best = predictions[predictions["step"] == 1].drop_duplicates(["user", "time_s"])
    said, came = [], []
    for user, own in best.groupby("user", sort=False):
        end_s, asked_s = float(own["time_s"].iloc[-1]), -np.inf
        of_user = handoffs[handoffs["user"] == user]
        when_s = of_user["time_s"].to_numpy(float)
        columns = zip(own["time_s"], own["site"], own["probability"], strict=True)
        for time_s, site, probability in columns:
            if time_s - asked_s < ASKED_EVERY_S or time_s + horizon_s > end_s:
                continue
            if probability < NAMED_FROM:
                continue
            asked_s = time_s
            coming = int(np.searchsorted(when_s, time_s, side="right"))
            in_time = coming < len(when_s) and when_s[coming] <= time_s + horizon_s
            said.append(probability)
            came.append(bool(in_time and of_user["to_site"].iloc[coming] == site))
    rows = pd.DataFrame({"said": said, "came_true": came})
    rows["bin"] = np.minimum((rows["said"] * BINS).astype(int), BINS - 1)
    table = rows.groupby("bin").agg(
        said=("said", "mean"), came_true=("came_true", "mean"), asked=("said", "size")
    )
    return table.reset_index(drop=True)


def calibration_error(reliability: pd.DataFrame) -> float:
    """Expected calibration error: mean distance of said and true, weighted by how often asked."""
    apart = (reliability["said"] - reliability["came_true"]).abs() * reliability["asked"]
    return float(apart.sum() / reliability["asked"].sum())


def accuracy_figure(table: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """Share of handoffs whose target was named first, by the time before (`accuracy_table`)."""
    names = table["predictor"].drop_duplicates().tolist()
    colours = style.colours(names)
    with style.paper():
        if ax is None:
            ax = style.new_figure(2.8).add_subplot()
        for name in names:
            own = table[table["predictor"] == name]
            first = 100 * own["first"]
            ax.plot(own["lead_s"], first, "o-", color=colours[name], ms=4, lw=1.6, label=name)
        ax.set(xlabel="before the handoff, s", ylabel="target named first, %", ylim=(0, 101))
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return style.figure_of(ax)


def reliability_figure(table: pd.DataFrame, ax: Axes | None = None) -> Figure:
    """What was said and what came true; the larger a dot the more often (`reliability_table`)."""
    with style.paper():
        if ax is None:
            ax = style.new_figure(3.2).add_subplot()
        ax.plot([0, 1], [0, 1], color=style.GREY, lw=0.8, ls=(0, (4, 3)))
        ax.plot(table["said"], table["came_true"], color=style.AHEAD, lw=1.0)
        size = 12 + 160 * table["asked"] / table["asked"].max()
        ax.scatter(table["said"], table["came_true"], s=size, color=style.AHEAD, edgecolors="white")
        ax.set(xlabel="probability that was said", ylabel="share that came true",
               xlim=(0, 1), ylim=(0, 1), aspect="equal")  # fmt: skip
        error = calibration_error(table)
        ax.text(0.03, 0.95, f"expected calibration error {error:.3f}", transform=ax.transAxes)
        return style.figure_of(ax)
