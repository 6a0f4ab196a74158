"""Predicted against measured effects, gene by gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pertcast.pl._style import COLORS, expression, get_axes, require_same_genes, save_figure
from pertcast.tl import mean_shift

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["mean_expression"]


def mean_expression(
    real: AnnData,
    predicted: AnnData,
    control: AnnData,
    *,
    real_layer: str | None = None,
    predicted_layer: str | None = None,
    n_labels: int = 10,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (5.5, 4.5),
    title: str | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Plot the predicted against the measured shift of the mean: one point for each gene.

    Shifts rather than means are shown, because the mean of a gene is almost the same before and after: means correlate
    even if nothing is predicted. R2 is 1 minus the squared error divided by the variance of the measured shifts; it is
    0 for a prediction of the same shift for all genes and below 0 for a worse one. r is the Pearson correlation. Both
    are over all genes, and written as undefined where one of the shifts is the same for all genes.

    Parameters
    ----------
    real
        Measured perturbed cells.
    predicted
        Predicted cells with the same genes.
    control
        Control cells with the same genes.
    real_layer
        Key of ``layers`` with the expression of ``real`` and ``control``; ``X`` by default.
    predicted_layer
        Key of ``layers`` with the expression of ``predicted``; ``X`` by default.
    n_labels
        Number of genes to label, those with the largest measured shift.
    ax
        Axes to draw on; a new figure by default.
    figsize
        Width and height of a new figure, in inches.
    title
        Title of the axes.
    save
        File to write the figure to.

    Raises
    ------
    KeyError
        If a layer does not exist.
    ValueError
        If the genes differ, an AnnData has no cells, or a value is not finite.

    Examples
    --------
    >>> import anndata
    >>> control = anndata.AnnData(np.zeros((2, 3)))
    >>> real, predicted = anndata.AnnData(np.eye(3)), anndata.AnnData(np.eye(3) / 2)
    >>> ax = mean_expression(real, predicted, control, n_labels=2)
    >>> ax.get_xlabel()
    'Measured shift of the mean'
    """
    require_same_genes(real=real, predicted=predicted, control=control)
    controls = expression(control, real_layer, "control")
    x = mean_shift(expression(real, real_layer, "real"), controls)
    y = mean_shift(expression(predicted, predicted_layer, "predicted"), controls)

    ax = get_axes(ax, figsize)
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    margin = 0.08 * (high - low or 1.0)
    limits = (low - margin, high + margin)
    ax.plot(limits, limits, color="black", linewidth=0.8, linestyle="--", zorder=1)
    for line in (ax.axhline, ax.axvline):
        line(0, color="0.85", linewidth=0.8, zorder=0)
    largest = np.argsort(-np.abs(x), kind="stable")[:n_labels]
    ax.scatter(x, y, s=12, color=COLORS["observed"], alpha=0.6, linewidths=0, rasterized=len(x) > 2000, zorder=2)
    ax.scatter(x[largest], y[largest], s=18, color=COLORS["predicted"], edgecolors="black", linewidths=0.4, zorder=3)
    _label(ax, x, y, largest, real.var_names.astype(str).to_numpy(), limits)

    ax.set(xlim=limits, ylim=limits, aspect="equal", title=title or "")
    ax.set_xlabel("Measured shift of the mean")
    ax.set_ylabel("Predicted shift of the mean")
    ax.text(0.03, 0.97, _summary(x, y), transform=ax.transAxes, va="top", ha="left")
    save_figure(ax, save)
    return ax


def _summary(x: np.ndarray, y: np.ndarray) -> str:
    """R2 and Pearson correlation as text."""
    if np.ptp(x) == 0:
        return "$R^2$, r: undefined (one shift for all genes)"
    r2 = 1 - np.square(y - x).sum() / np.square(x - x.mean()).sum()
    r = "undefined" if np.ptp(y) == 0 else f"{np.corrcoef(x, y)[0, 1]:.2f}"
    return f"$R^2$ = {r2:.2f}\nr = {r}"


def _label(
    ax: Axes, x: np.ndarray, y: np.ndarray, genes: np.ndarray, names: np.ndarray, limits: tuple[float, float]
) -> None:
    """Write the names of genes in a column beside the axes, each joined to its point by a line below the points.

    The heights h are as close to the points y as lines of text allow: they minimise the squared distance with
    h[i + 1] - h[i] at least one line, which is isotonic regression of y - i lines.
    """
    from sklearn.isotonic import isotonic_regression

    if not len(genes):
        return
    line = 0.05 * (limits[1] - limits[0])
    genes = genes[np.argsort(y[genes], kind="stable")]
    stack = line * np.arange(len(genes))
    heights = isotonic_regression(y[genes] - stack) + stack
    column = limits[1] + line
    for gene, height in zip(genes, heights, strict=True):
        ax.plot((x[gene], column), (y[gene], height), color="0.7", linewidth=0.5, zorder=1, clip_on=False)
        ax.text(column, height, f" {names[gene]}", ha="left", va="center", fontsize="small")
