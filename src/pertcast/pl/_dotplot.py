"""Shifts of the genes that respond most, measured and predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pertcast.pl._cells import (
    expression,
    gene_positions,
    label_of_controls,
    largest,
    obs_column,
    one_spelling,
    require_same_genes,
)
from pertcast.pl._style import COLORS, EFFECT_CMAP, finish, get_axes, labels
from pertcast.tl import mean_shift

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["dotplot"]

_LARGEST_DOT = 130.0


def dotplot(
    real: AnnData,
    predicted: AnnData,
    control: AnnData,
    genes: str | Sequence[str] | None = None,
    *,
    groupby: str | None = None,
    control_groupby: str | None = None,
    n_genes: int = 12,
    real_layer: str | None = None,
    predicted_layer: str | None = None,
    vmax: float | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    title: str | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot measured and predicted shifts of the top responding genes as dots.

    Colour is the shift of the mean from the controls, size the share of cells that express the gene (a value other
    than 0). Measured and predicted rows of a group stand together, so a good prediction shows pairs of equal dots.

    Parameters
    ----------
    real
        Measured perturbed cells.
    predicted
        Predicted cells with the same genes.
    control
        Control cells with the same genes.
    genes
        Genes to plot; by default those with the largest measured shift, averaged over groups as absolute values.
    groupby
        Column of ``obs`` of ``real`` and ``predicted`` whose labels are the groups, such as the perturbation; one
        group by default. Groups without measured or without predicted cells have one row. ``A+B`` and ``B+A`` are one
        group.
    control_groupby
        Column of ``obs`` of all three with the context; a group is then compared with the controls of its contexts,
        each weighted by its cells. By default all controls are used together.
    n_genes
        Number of genes, where these are not named.
    real_layer
        Key of ``layers`` with the expression of ``real`` and ``control``; ``X`` by default.
    predicted_layer
        Key of ``layers`` with the expression of ``predicted``; ``X`` by default.
    vmax
        Shift that has the darkest colour; the largest absolute one by default.
    ax
        Axes to draw on; a new figure by default.
    figsize
        Width and height of a new figure, in inches; by default as large as genes and groups need.
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
        If a layer or column does not exist.
    TypeError
        If the expression is not in memory.
    ValueError
        If a gene does not exist, the genes differ, an AnnData has no cells, or a context has no controls.

    Examples
    --------
    >>> import anndata
    >>> control = anndata.AnnData(np.zeros((2, 3)))
    >>> real, predicted = anndata.AnnData(np.eye(3)), anndata.AnnData(np.eye(3) / 2)
    >>> [tick.get_text() for tick in dotplot(real, predicted, control, n_genes=2).get_yticklabels()]
    ['observed', 'predicted']
    """
    require_same_genes(real=real, predicted=predicted, control=control)
    columns = {
        name: pd.Series("", cells.obs_names) if groupby is None else obs_column(cells, groupby, name)
        for name, cells in (("real", real), ("predicted", predicted))
    }
    spellings = [label for column in columns.values() for label in column.unique()]
    named = one_spelling(spellings, label_of_controls(control, groupby))
    controls = _Controls(control, control_groupby, expression(control, real_layer, "control"))
    rows: list[tuple[str, str, np.ndarray, np.ndarray]] = []
    for kind, adata, layer in (("observed", real, real_layer), ("predicted", predicted, predicted_layer)):
        name = "real" if kind == "observed" else kind
        X = expression(adata, layer, name)
        column = columns[name].map(named).to_numpy()
        for group in np.unique(column):
            cells = X[column == group]
            shift = mean_shift(cells, controls.mean(adata[column == group], name))
            rows.append((str(group), kind, shift, np.asarray((cells != 0).mean(axis=0)).ravel()))
    rows.sort(key=lambda row: (row[0], row[1]))
    measured = np.mean([np.abs(shift) for _, kind, shift, _ in rows if kind == "observed"], axis=0)
    chosen = largest(measured, n_genes) if genes is None else gene_positions(real, genes)

    shifts = np.stack([shift[chosen] for *_, shift, _ in rows])
    shares = np.stack([share[chosen] for *_, share in rows])
    heights = np.arange(len(rows)) + 0.4 * np.cumsum([i > 0 and rows[i][0] != rows[i - 1][0] for i in range(len(rows))])
    ax = get_axes(ax, figsize or (3.2 + 0.38 * len(chosen), 1.7 + 0.32 * (heights[-1] + 1)))
    x, y = np.meshgrid(np.arange(len(chosen)), heights)
    limit = float(np.abs(shifts).max() or 1.0) if vmax is None else vmax
    dots = ax.scatter(x.ravel(), y.ravel(), s=_LARGEST_DOT * shares.ravel(), c=shifts.ravel(), cmap=EFFECT_CMAP,
                      vmin=-limit, vmax=limit, edgecolors="0.4", linewidths=0.5)  # fmt: skip
    ax.set_xticks(range(len(chosen)), labels(real.var_names[chosen]), rotation=90)
    groups = list(dict.fromkeys(group for group, *_ in rows))
    names = dict(zip(groups, labels(groups), strict=True))
    ax.set_yticks(heights, [f"{names[group]}  {kind}".strip() for group, kind, *_ in rows])
    for tick, (_, kind, *_) in zip(ax.get_yticklabels(), rows, strict=True):
        tick.set_color(COLORS[kind])
    ax.set(xlim=(-0.7, len(chosen) - 0.3), ylim=(heights[-1] + 0.7, -0.7), title=title or "")
    ax.tick_params(length=0)
    figure: Any = ax.figure
    figure.colorbar(dots, ax=ax, label="shift of the mean", shrink=min(1.0, 4 / len(rows)), aspect=10, pad=0.02)
    for share in (0.2, 0.6, 1.0):
        ax.scatter([], [], s=_LARGEST_DOT * share, color="0.7", edgecolors="0.4", linewidths=0.5, label=f"{share:.0%}")
    ax.legend(title="cells expressing", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False,
              fontsize="small", title_fontsize="small")  # fmt: skip
    return finish(ax, save=save, show=show)


class _Controls:
    """Means of the control cells, of all or of each context."""

    def __init__(self, control: AnnData, key: str | None, X: Any) -> None:
        self.key = key
        labels = np.repeat("", control.n_obs) if key is None else obs_column(control, key, "control").to_numpy()
        origin = np.zeros((1, X.shape[1]))
        self.means = {str(name): mean_shift(X[labels == name], origin) for name in np.unique(labels)}

    def mean(self, cells: AnnData, name: str) -> np.ndarray:
        """Mean of the controls of some cells, each context weighted by its cells ``[1, G]``."""
        contexts = ["" for _ in range(cells.n_obs)] if self.key is None else list(obs_column(cells, self.key, name))
        missing = sorted(set(contexts) - self.means.keys())
        if missing:
            raise ValueError(f"`control` has no cells with {self.key!r} equal to {missing[0]!r}, but `{name}` has.")
        names, counts = np.unique(contexts, return_counts=True)
        return np.average([self.means[str(each)] for each in names], axis=0, weights=counts)[None]
