"""Scores of models and baselines, condition by condition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.pl._style import COLORS, finish, get_axes, labels, strip_frame
from pertcast.tl import metrics, summarize

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["scores"]


def scores(
    table: pd.DataFrame,
    metric: str,
    *,
    task: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    title: str | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot one metric: a row for each model, a point for each condition, the mean and its interval.

    Models are ordered by their mean, the best on top. Models are orange, baselines grey, and a blue line marks the mean
    of the noise ceiling.

    Parameters
    ----------
    table
        Table of :func:`pertcast.tl.evaluate` or :func:`pertcast.tl.benchmark`.
    metric
        Metric to plot.
    task
        Task to plot; needed if the table holds several.
    ax
        Axes to draw on; a new figure by default.
    figsize
        Width and height of a new figure, in inches.
    title
        Title of the axes.
    show
        Whether to call :func:`matplotlib.pyplot.show`; notebooks show figures by themselves.
    save
        File to write the figure to.

    Returns
    -------
    The axes that were drawn on.

    Raises
    ------
    ValueError
        If the metric or the task is not in the table, or no value is defined.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [("NoEffect", "baseline", 2.0), ("mine", "model", 0.5), ("ceiling", "ceiling", 0.0)]
    >>> table = pd.DataFrame(rows, columns=["model", "role", "value"])
    >>> table = table.assign(task="", condition="A | B cells", metric="energy_distance")
    >>> [label.get_text() for label in scores(table, "energy_distance").get_yticklabels()]
    ['NoEffect', 'mine']
    """
    chosen = table[table["metric"] == metric]
    if task is not None:
        chosen = chosen[chosen["task"] == task]
    if not len(chosen):
        raise ValueError(
            f"The table has no rows of the metric {metric!r}{'' if task is None else f' in task {task!r}'}."
        )
    if chosen["task"].nunique() > 1:
        raise ValueError(f"The table holds the tasks {sorted(chosen['task'].unique())}; choose one with `task`.")
    summary = summarize(chosen).dropna(subset=["mean"])
    rows = summary[summary["role"] != "ceiling"]
    if not len(rows):
        raise ValueError(f"No value of {metric!r} is defined; the column `reason` of the table says why.")
    better = str(metrics().loc[metric, "better"])
    rows = rows.sort_values("loss", ascending=False)

    ax = get_axes(ax, figsize or (6, 0.9 + 0.35 * len(rows)))
    jitter = np.random.default_rng(0)
    row: Any
    for height, row in enumerate(rows.itertuples()):
        color = COLORS["predicted"] if row.role == "model" else COLORS["control"]
        values = chosen.loc[chosen["model"] == row.model, "value"].dropna().to_numpy()
        heights = height + jitter.uniform(-0.18, 0.18, len(values))
        ax.scatter(values, heights, s=12, color=color, alpha=0.5, linewidths=0, zorder=2)
        ax.plot((row.low, row.high), (height, height), color="black", linewidth=1.2, zorder=3)
        ax.scatter(row.mean, height, s=32, color=color, edgecolors="black", linewidths=0.8, zorder=4)
    ceiling = summary.loc[summary["role"] == "ceiling", "mean"]
    if len(ceiling):
        ax.axvline(ceiling.iloc[0], color=COLORS["observed"], linestyle="--", linewidth=1, zorder=1)
        place = (ceiling.iloc[0], 1.01)
        ax.text(*place, "noise ceiling", color=COLORS["observed"], fontsize="small", ha="center", va="bottom",
                transform=ax.get_xaxis_transform())  # fmt: skip
    ax.set_yticks(range(len(rows)), labels(rows["model"]))
    arrow = {"higher": "higher is better", "lower": "lower is better", "one": "1 is best", "zero": "0 is best"}[better]
    ax.set_xlabel(f"{metric} ({arrow})")
    ax.set_title(title or "", pad=18)
    strip_frame(ax)
    return finish(ax, save=save, show=show)
