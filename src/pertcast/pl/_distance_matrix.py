"""Distances between populations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pertcast.data._messages import shorten
from pertcast.pl._cells import expression, obs_column, one_spelling, subsample
from pertcast.pl._style import COLORS, finish, get_axes, labels
from pertcast.tl import energy_distance

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["distance_matrix"]

_MOST_NUMBERS = 150


def distance_matrix(
    data: AnnData | pd.DataFrame,
    groupby: str | None = None,
    *,
    control: str = "control",
    layer: str | None = None,
    max_cells: int = 200,
    cluster: bool = True,
    seed: int = 0,
    cmap: str = "cividis_r",
    annotate: bool | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    title: str | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot the distances between all pairs of populations.

    Parameters
    ----------
    data
        Square table of distances, such as that of ``pertpy.tools.Distance.pairwise``, or cells, whose energy
        distances are then computed, see :func:`pertcast.tl.energy_distance`.
    groupby
        Column of ``obs`` whose labels are the populations; needed for cells. ``A+B`` and ``B+A`` are one population.
    control
        Label that is written in grey. Labels that hold the word "observed" are blue, those with "predicted" orange.
    layer
        Key of ``layers`` with the expression; ``X`` by default.
    max_cells
        Largest number of cells of a population that are compared; more are subsampled.
    cluster
        Whether to put populations that are close beside each other, by average linkage; else they keep their order.
    seed
        Seed of the subsampling.
    cmap
        Colour map, bright for close populations.
    annotate
        Whether to write the numbers; by default where there are at most 150.
    ax
        Axes to draw on; a new figure by default.
    figsize
        Width and height of a new figure, in inches; by default as large as the matrix needs.
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
    KeyError
        If the column or layer does not exist.
    TypeError
        If the expression is not in memory.
    ValueError
        If the table is not square or lacks a value, ``groupby`` is missing, or there are fewer than 2 populations.

    Examples
    --------
    >>> table = pd.DataFrame([[0.0, 3.0, 1.0], [3.0, 0.0, 3.0], [1.0, 3.0, 0.0]], list("abc"), list("abc"))
    >>> [tick.get_text() for tick in distance_matrix(table, cluster=False).get_xticklabels()]
    ['a', 'b', 'c']
    """
    if isinstance(data, pd.DataFrame):
        table = _checked(data)
    elif groupby is None:
        raise ValueError("`groupby` is needed to tell populations apart: name a column of `obs`.")
    else:
        table = _energy_distances(data, groupby, control, layer, max_cells, seed)
    if cluster and len(table) > 2:
        from scipy.cluster.hierarchy import leaves_list, linkage
        from scipy.spatial.distance import squareform

        symmetric = np.maximum((table.to_numpy(float) + table.to_numpy(float).T) / 2, 0)
        order = leaves_list(linkage(squareform(symmetric, checks=False), method="average", optimal_ordering=True))
        table = table.iloc[order, order]

    side = 2.2 + 0.42 * len(table)
    ax = get_axes(ax, figsize or (side + 0.6, side))
    values = table.to_numpy(float)
    image = ax.imshow(values, cmap=cmap, vmin=min(0.0, float(values.min())))
    if annotate if annotate is not None else values.size <= _MOST_NUMBERS:
        largest = float(np.abs(values).max())
        digits = int(np.clip(1 - np.floor(np.log10(largest)), 0, 4)) if largest > 0 else 0
        middle = (image.norm.vmin + image.norm.vmax) / 2  # type: ignore[operator]
        for (row, column), value in np.ndenumerate(values):
            color = "white" if value > middle else "black"
            ax.text(column, row, f"{value:.{digits}f}", ha="center", va="center", fontsize="x-small", color=color)
    names = labels(table.index)
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names)
    for ticks in (ax.get_xticklabels(), ax.get_yticklabels()):
        for tick, name in zip(ticks, table.index, strict=True):
            kinds = [kind for kind in ("observed", "predicted") if kind in str(name)]
            tick.set_color(COLORS["control"] if str(name) == control else COLORS[kinds[0]] if kinds else "black")
    ax.tick_params(length=0)
    ax.set_title(title or "")
    figure: Any = ax.figure
    figure.colorbar(image, ax=ax, label="distance" if isinstance(data, pd.DataFrame) else "energy distance",
                    shrink=0.8, pad=0.02)  # fmt: skip
    return finish(ax, save=save, show=show)


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    """Return a square table with the same names on both sides."""
    if len(table) < 2 or set(table.index) != set(table.columns) or table.index.has_duplicates:
        raise ValueError(
            "A table of distances must be square, of at least 2 populations, with the same names in rows and columns, "
            f"but its shape is {table.shape}, its rows {shorten(table.index)} and its columns {shorten(table.columns)}."
        )
    table = table.loc[:, table.index].astype(float)
    if not np.isfinite(table.to_numpy()).all():
        raise ValueError("The table of distances holds NaN or infinite values. Leave out these populations.")
    return table


def _energy_distances(
    adata: AnnData, groupby: str, control: str, layer: str | None, max_cells: int, seed: int
) -> pd.DataFrame:
    """Energy distances of all pairs of populations; that of a population and itself is 0."""
    labels, X = obs_column(adata, groupby, "data"), expression(adata, layer, "data")
    labels = labels.map(one_spelling(labels.unique(), control))
    names, rng = sorted(labels.unique()), np.random.default_rng(seed)
    if len(names) < 2:
        raise ValueError(f"Distances need at least 2 populations, but {groupby!r} holds {names}.")
    cells = {name: subsample(X[(labels == name).to_numpy()], max_cells, rng) for name in names}
    table = pd.DataFrame(0.0, index=names, columns=names)
    for i, one in enumerate(names):
        for other in names[:i]:
            table.at[one, other] = table.at[other, one] = energy_distance(cells[one], cells[other])
    return table
