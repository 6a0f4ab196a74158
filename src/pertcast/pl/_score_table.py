"""Means of metrics for models, baselines and the noise ceiling, as a coloured table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pertcast.data._messages import did_you_mean
from pertcast.pl._style import COLORS, finish, get_axes, labels
from pertcast.tl import metrics as known_metrics
from pertcast.tl import summarize

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["score_table"]

_ROLE_COLORS = {"model": COLORS["predicted"], "baseline": "0.35", "ceiling": COLORS["observed"]}


def score_table(
    table: pd.DataFrame,
    metrics: str | Sequence[str] | None = None,
    *,
    task: str | None = None,
    cmap: str = "cividis",
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    title: str | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot a table of means: a row for each model and baseline, a column for each metric, the ceiling at the bottom.

    A colour is how far a row is on the way from the worst of its column, which is dark, to the best, which is bright,
    with the noise ceiling among them. Numbers of different metrics cannot be compared. The best of models and baselines
    is bold. Better is a lower ``loss`` of :func:`pertcast.tl.summarize`: where 0 or 1 is best, values that are too high
    and too low can have the best mean without being good. A metric that is not known has no colours. Models have orange
    names, baselines grey, the noise ceiling blue. Models are ordered by their mean colour, where what is not defined
    counts as the worst. A number of conditions in brackets says that the metric is defined on fewer than all of them,
    which makes the mean one over other conditions than those of its neighbours.

    Parameters
    ----------
    table
        Table of :func:`pertcast.tl.evaluate` or :func:`pertcast.tl.benchmark`.
    metrics
        Metrics to show; by default all in the table that are defined for a model or baseline.
    task
        Task to show; needed if the table holds several.
    cmap
        Colour map, dark to bright.
    ax
        Axes to draw on; a new figure by default.
    figsize
        Width and height of a new figure, in inches; by default as large as the table needs.
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
        If a metric or the task is not in the table, or nothing is defined.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [("NoEffect", "baseline", 2.0), ("mine", "model", 0.5), ("ceiling", "ceiling", 0.0)]
    >>> table = pd.DataFrame(rows, columns=["model", "role", "value"])
    >>> table = table.assign(task="", condition="A | B cells", metric="energy_distance")
    >>> [tick.get_text() for tick in score_table(table).get_yticklabels()]
    ['mine', 'NoEffect', 'noise ceiling']
    """
    chosen = _choose(table, metrics, task)
    summary = summarize(chosen)
    names = list(dict.fromkeys(chosen["metric"])) if metrics is None or isinstance(metrics, str) else list(metrics)
    means = summary.pivot(index="model", columns="metric", values="mean").reindex(columns=names)
    counts = summary.pivot(index="model", columns="metric", values="n_conditions").reindex_like(means)
    roles = summary.drop_duplicates("model").set_index("model")["role"]
    ranked = means[(roles.reindex(means.index) != "ceiling") & means.notna().any(axis=1)]
    if not len(ranked):
        raise ValueError("No value of these metrics is defined; the column `reason` of the table says why.")
    if metrics is None:
        names = [name for name in names if ranked[name].notna().any()]
        means, counts, ranked = means[names], counts[names], ranked[names]
    digits = {name: _decimals(ranked[name]) for name in names}
    losses = summary.pivot(index="model", columns="metric", values="loss").reindex_like(means)
    worst = losses.replace(np.inf, np.nan).max()
    shade = ((worst - losses) / (worst - losses.min()).replace(0, np.nan)).clip(lower=0)
    order = shade.loc[ranked.index].fillna(0).mean(axis=1).sort_values(ascending=False, kind="stable").index.to_list()
    order += [name for name in means.index if roles[name] == "ceiling"]
    shades = shade.reindex(order).to_numpy(float)

    ax = get_axes(ax, figsize or (2.4 + 0.85 * len(names), 1.6 + 0.32 * len(order)))
    ax.imshow(np.ma.masked_invalid(shades), cmap=cmap, vmin=-0.15, vmax=1, aspect="auto")
    fewer = (counts < counts.max()).reindex(order).to_numpy()
    seen = losses.loc[ranked.index].round(digits)  # numbers that look equal are equally good
    best = (seen == seen.min()).reindex(order, fill_value=False).to_numpy()
    numbers = counts.reindex(order).to_numpy()
    for (row, column), mean in np.ndenumerate(means.reindex(order).to_numpy(float)):
        text = f"{mean:.{digits[names[column]]}f}" + (f" ({numbers[row, column]:.0f})" if fewer[row, column] else "")
        color = "0.5" if np.isnan(mean) else "white" if shades[row, column] < 0.5 else "black"
        weight = "bold" if best[row, column] else "normal"
        ax.text(column, row, "–" if np.isnan(mean) else text, ha="center", va="center", fontsize="small",
                fontweight=weight, color=color)  # fmt: skip
    better = known_metrics()["better"].reindex(names)
    arrows = better.map({"higher": " ↑", "lower": " ↓", "one": " → 1", "zero": " → 0"}).fillna("")
    ax.set_xticks(range(len(names)), [f"{name}{arrow}" for name, arrow in zip(names, arrows, strict=True)])
    ax.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
    for tick in ax.get_xticklabels():
        tick.set(rotation=35, ha="left", rotation_mode="anchor")
    ax.set_yticks(range(len(order)), labels("noise ceiling" if roles[name] == "ceiling" else name for name in order))
    for tick, name in zip(ax.get_yticklabels(), order, strict=True):
        tick.set(color=_ROLE_COLORS[roles[name]], fontweight="bold" if roles[name] == "model" else "normal")
    ax.set_title(title or "")
    for side in ax.spines.values():
        side.set_visible(False)
    return finish(ax, save=save, show=show)


def _choose(table: pd.DataFrame, metrics: str | Sequence[str] | None, task: str | None) -> pd.DataFrame:
    """Rows of some metrics and of one task."""
    if metrics is not None:
        wanted = [metrics] if isinstance(metrics, str) else list(metrics)
        present = list(table["metric"].unique())
        for name in wanted:
            if name not in present:
                raise ValueError(f"The table has no rows of the metric {name!r}.{did_you_mean(name, present)}")
        table = table[table["metric"].isin(wanted)]
    if task is not None:
        table = table[table["task"] == task]
        if not len(table):
            raise ValueError(f"The table has no rows of the task {task!r}.")
    if table["task"].nunique() > 1:
        raise ValueError(f"The table holds the tasks {sorted(table['task'].unique())}; choose one with `task`.")
    return table


def _decimals(means: pd.Series) -> int:
    """Decimals that give the typical mean of a metric three significant digits, at most four."""
    typical = float(means.abs().median())
    return int(np.clip(2 - np.floor(np.log10(typical)), 0, 4)) if typical > 0 else 3
