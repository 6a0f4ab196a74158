"""Predicted against measured means and shifts, gene by gene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from pertcast.pl._cells import expression, largest, require_same_genes
from pertcast.pl._style import COLORS, finish, get_axes, labels
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
    statistic: Literal["shift", "mean"] = "shift",
    real_layer: str | None = None,
    predicted_layer: str | None = None,
    n_labels: int = 10,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (5.5, 4.5),
    title: str | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot the predicted against the measured shift of the mean, or the means themselves: one point for each gene.

    Shifts are the default, because the mean of a gene is almost the same before and after: means correlate even if
    nothing is predicted. R2 is 1 minus the squared error divided by the variance of the measured values; it is 0 for a
    prediction of the same value for all genes and below 0 for a worse one. r is the Pearson correlation. Both are over
    all genes, and written as undefined where one of the sides is the same for all genes; R2 is given for the labelled
    genes too.

    Parameters
    ----------
    real
        Measured perturbed cells.
    predicted
        Predicted cells with the same genes.
    control
        Control cells with the same genes.
    statistic
        ``"shift"``: mean minus that of the controls; ``"mean"``: the mean.
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
        If ``statistic`` is neither, the genes differ, an AnnData has no cells, or a value is not finite.

    Examples
    --------
    >>> import anndata
    >>> control = anndata.AnnData(np.zeros((2, 3)))
    >>> real, predicted = anndata.AnnData(np.eye(3)), anndata.AnnData(np.eye(3) / 2)
    >>> ax = mean_expression(real, predicted, control, n_labels=2)
    >>> ax.get_xlabel()
    'Measured shift of the mean'
    """
    if statistic not in ("shift", "mean"):
        raise ValueError(f"`statistic` must be 'shift' or 'mean', but found {statistic!r}.")
    require_same_genes(real=real, predicted=predicted, control=control)
    controls = expression(control, real_layer, "control")
    shift = mean_shift(expression(real, real_layer, "real"), controls)
    x, y = shift, mean_shift(expression(predicted, predicted_layer, "predicted"), controls)
    if statistic == "mean":
        origin = mean_shift(controls, np.zeros((1, controls.shape[1])))
        x, y = x + origin, y + origin

    ax = get_axes(ax, figsize)
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    margin = 0.08 * (high - low or 1.0)
    limits = (low - margin, high + margin)
    ax.plot(limits, limits, color="black", linewidth=0.8, linestyle="--", zorder=1)
    for line in (ax.axhline, ax.axvline):
        line(0, color="0.85", linewidth=0.8, zorder=0)
    top = largest(shift, n_labels)
    ax.scatter(x, y, s=12, color=COLORS["observed"], alpha=0.6, linewidths=0, rasterized=len(x) > 2000, zorder=2)
    ax.scatter(x[top], y[top], s=18, color=COLORS["predicted"], edgecolors="black", linewidths=0.4, zorder=3)
    _label(ax, x, y, top, real.var_names.astype(str).to_numpy(), limits)

    ax.set(xlim=limits, ylim=limits, aspect="equal", title=title or "")
    what = "shift of the mean" if statistic == "shift" else "mean"
    ax.set_xlabel(f"Measured {what}")
    ax.set_ylabel(f"Predicted {what}")
    text = _summary(x, y)
    if len(top) > 2 and np.ptp(x[top]) > 0:
        text += f"\n$R^2$ = {_r2(x[top], y[top]):.2f} (labelled)"
    ax.text(0.03, 0.97, text, transform=ax.transAxes, va="top", ha="left")
    return finish(ax, save=save, show=show)


def _r2(x: np.ndarray, y: np.ndarray) -> float:
    """Share of the variance of ``x`` that ``y`` explains, at most 1."""
    return float(1 - np.square(y - x).sum() / np.square(x - x.mean()).sum())


def _summary(x: np.ndarray, y: np.ndarray) -> str:
    """R2 and Pearson correlation as text."""
    if np.ptp(x) == 0:
        return "$R^2$, r: undefined (one value for all genes)"
    r = "undefined" if np.ptp(y) == 0 else f"{np.corrcoef(x, y)[0, 1]:.2f}"
    return f"$R^2$ = {_r2(x, y):.2f}\nr = {r}"


def _label(
    ax: Axes, x: np.ndarray, y: np.ndarray, genes: np.ndarray, names: np.ndarray, limits: tuple[float, float]
) -> None:
    """Write the names of genes in a column beside the axes, each joined to its point by a line below the points.

    The heights h are as close to the points y as lines of text allow: they minimise the squared distance with
    h[i + 1] - h[i] at least one line and all within the axes, which is isotonic regression of y - i lines.
    """
    from sklearn.isotonic import isotonic_regression

    if not len(genes):
        return
    line = 0.05 * (limits[1] - limits[0])
    genes = genes[np.argsort(y[genes], kind="stable")]
    stack = line * np.arange(len(genes))
    low = limits[0] + line / 2
    high = max(low, limits[1] - line / 2 - stack[-1])
    heights = isotonic_regression(y[genes] - stack, y_min=low, y_max=high) + stack
    column = limits[1] + line
    for gene, height, name in zip(genes, heights, labels(names[genes]), strict=True):
        ax.plot((x[gene], column), (y[gene], height), color="0.7", linewidth=0.5, zorder=1, clip_on=False)
        ax.text(column, height, f" {name}", ha="left", va="center", fontsize="small")
