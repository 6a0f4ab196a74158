"""Distribution of single genes in control, measured and predicted cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pertcast.pl._cells import dense, expression, gene_positions, largest, require_same_genes
from pertcast.pl._style import COLORS, finish, get_axes, kind_legend, labels, strip_frame
from pertcast.tl import mean_shift

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["gene_distribution"]

_HALF_WIDTH = 0.13


def gene_distribution(
    real: AnnData,
    predicted: AnnData,
    control: AnnData,
    genes: str | Sequence[str] | None = None,
    *,
    n_genes: int = 6,
    real_layer: str | None = None,
    predicted_layer: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    title: str | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot the distribution of genes in control, measured and predicted cells side by side.

    A violin of a gene with zeros would show little but the zeros. Where no value is negative, the violin therefore
    shows the cells that express the gene, its greatest width is the share of such cells, and the share is written
    below it. Otherwise it shows all cells, all violins equally wide. The bar is the mean of the cells shown.

    Parameters
    ----------
    real
        Measured perturbed cells.
    predicted
        Predicted cells with the same genes.
    control
        Control cells with the same genes.
    genes
        Genes to plot; by default those with the largest measured shift.
    n_genes
        Number of genes, where these are not named.
    real_layer
        Key of ``layers`` with the expression of ``real`` and ``control``; ``X`` by default.
    predicted_layer
        Key of ``layers`` with the expression of ``predicted``; ``X`` by default.
    ax
        Axes to draw on; a new figure by default.
    figsize
        Width and height of a new figure, in inches; by default as wide as the genes need.
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
        If a layer does not exist.
    TypeError
        If the expression is not in memory.
    ValueError
        If a gene does not exist, the genes differ, an AnnData has no cells, or a value is not finite.

    Examples
    --------
    >>> import anndata
    >>> rng = np.random.default_rng(0)
    >>> control, real, predicted = (anndata.AnnData(rng.poisson(rate, (30, 3))) for rate in (1, 2, 2))
    >>> ax = gene_distribution(real, predicted, control, ["0", "2"])
    >>> [tick.get_text() for tick in ax.get_xticklabels()]
    ['0', '2']
    """
    require_same_genes(real=real, predicted=predicted, control=control)
    cells = {
        "control": expression(control, real_layer, "control"),
        "observed": expression(real, real_layer, "real"),
        "predicted": expression(predicted, predicted_layer, "predicted"),
    }
    shift = mean_shift(cells["observed"], cells["control"])
    chosen = largest(shift, n_genes) if genes is None else gene_positions(real, genes)
    values = {kind: dense(X[:, chosen]) for kind, X in cells.items()}
    sparse = all((X >= 0).all() for X in values.values()) and any((X == 0).any() for X in values.values())

    ax = get_axes(ax, figsize or (1.6 + 1.1 * len(chosen), 3.6))
    step = 2.4 * _HALF_WIDTH
    for offset, (kind, X) in zip((-step, 0.0, step), values.items(), strict=True):
        for place, column in enumerate(X.T):
            expressing = column[column > 0] if sparse else column
            share = len(expressing) / len(column)
            _violin(ax, expressing, place + offset, _HALF_WIDTH * (share if sparse else 1.0), COLORS[kind])
            if len(expressing):
                bar = place + offset + np.array([-1, 1]) * _HALF_WIDTH
                ax.plot(bar, [expressing.mean()] * 2, color="black", linewidth=1.6, zorder=4, solid_capstyle="butt")
            if sparse:
                ax.annotate(f"{100 * share:.0f}", (place + offset, 0), xytext=(0, -3), textcoords="offset points",
                            ha="center", va="top", fontsize="x-small", color=COLORS[kind])  # fmt: skip
    names = labels(real.var_names[chosen])
    slanted = max(map(len, names)) > 8
    ax.set_xticks(range(len(chosen)), names, rotation=40 if slanted else 0, ha="right" if slanted else "center",
                  rotation_mode="anchor")  # fmt: skip
    ax.set(xlim=(-0.6, len(chosen) - 0.4), ylabel="Expression", title=title or "")
    if sparse:
        low, high = ax.get_ylim()
        ax.set_ylim(-0.09 * high, high)
        ax.axhline(0, color="0.8", linewidth=0.6, zorder=0)
        ax.set_xlabel("numbers: % of cells that express the gene")
    kind_legend(ax, *COLORS)
    strip_frame(ax)
    return finish(ax, save=save, show=show)


def _violin(ax: Axes, values: np.ndarray, place: float, half_width: float, color: str) -> None:
    """Draw the density of values to both sides of a place; single values as a line."""
    if not len(values):
        return
    if np.ptp(values) == 0:
        ax.plot(place + np.array([-1, 1]) * half_width, values[:1].repeat(2), color=color, linewidth=2.5, alpha=0.7)
        return
    parts: dict = ax.violinplot([values], positions=[place], widths=2 * half_width, showextrema=False)
    for body in parts["bodies"]:
        body.set(facecolor=color, edgecolor=color, alpha=0.7, linewidth=0.8)
