"""How much a response differs from population to population."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pertcast.pl._cells import expression, gene_positions, largest, obs_column, require_same_genes
from pertcast.pl._style import COLORS, finish, get_axes, kind_legend, labels, strip_frame
from pertcast.tl import mean_shift

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["population_spread"]


def population_spread(
    predicted: AnnData,
    control: AnnData,
    real: AnnData | None = None,
    genes: str | Sequence[str] | None = None,
    *,
    n_genes: int = 10,
    population_key: str = "population",
    real_population_key: str | None = None,
    real_layer: str | None = None,
    predicted_layer: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    title: str | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot the shift of genes in each predicted population, and in each measured one.

    One dot is the mean shift of a population; the line spans the populations and the tick is their mean. Populations
    are the draws of ``predict(n_populations=...)``, and on the measured side donors or batches. The two spreads are of
    the same kind only in part: draws share their control cells and the forecast of the mean, donors do not.

    Parameters
    ----------
    predicted
        Predicted cells of one condition, in several populations.
    control
        Control cells with the same genes.
    real
        Measured perturbed cells with the same genes; none by default.
    genes
        Genes to plot; by default those with the largest measured shift, or predicted shift without measured cells.
    n_genes
        Number of genes, where these are not named.
    population_key
        Column of ``predicted.obs`` with the population.
    real_population_key
        Column of ``real.obs`` and ``control.obs`` with the measured population, such as the donor: its cells are
        compared with its own controls where there are some, and so are predicted cells, if ``predicted.obs`` has the
        column. By default all measured cells are one population, and all controls count.
    real_layer
        Key of ``layers`` with the expression of ``real`` and ``control``; ``X`` by default.
    predicted_layer
        Key of ``layers`` with the expression of ``predicted``; ``X`` by default.
    ax
        Axes to draw on; a new figure by default.
    figsize
        Width and height of a new figure, in inches; by default as high as the genes need.
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
        If a column or layer does not exist.
    TypeError
        If the expression is not in memory.
    ValueError
        If a gene does not exist, the genes differ, or an AnnData has no cells.

    Examples
    --------
    >>> import anndata
    >>> import pandas as pd
    >>> obs = pd.DataFrame({"population": [0, 0, 1, 1]}, index=list("abcd"))
    >>> predicted = anndata.AnnData(np.arange(12.0).reshape(4, 3), obs=obs)
    >>> ax = population_spread(predicted, anndata.AnnData(np.zeros((2, 3))), genes=["1"])
    >>> ax.collections[0].get_offsets()[:, 0].tolist()
    [2.5, 8.5]
    """
    sides = {"predicted": predicted} if real is None else {"observed": real, "predicted": predicted}
    require_same_genes(control=control, predicted=predicted, **({} if real is None else {"real": real}))
    own = real_population_key if real_population_key in predicted.obs else None
    shifts = {"predicted": _shifts(predicted, control, population_key, own, predicted_layer, real_layer, "predicted")}
    if real is not None:
        own = real_population_key
        shifts["observed"] = _shifts(real, control, own, own, real_layer, real_layer, "real")
    leading = shifts["predicted" if real is None else "observed"].mean(axis=0)
    chosen = largest(leading, n_genes) if genes is None else gene_positions(predicted, genes)

    ax = get_axes(ax, figsize or (5.5, 1.3 + 0.42 * len(chosen)))
    for kind in sides:
        offset = 0.0 if real is None else -0.17 if kind == "observed" else 0.17
        for place, gene in enumerate(chosen):
            values = shifts[kind][:, gene]
            height = place + offset
            ax.scatter(
                values, np.full(len(values), height), s=16, color=COLORS[kind], alpha=0.6, linewidths=0, zorder=3
            )
            ax.plot([values.min(), values.max()], [height, height], color=COLORS[kind], linewidth=1.2, zorder=2)
            ax.plot([values.mean()] * 2, [height - 0.13, height + 0.13], color="black", linewidth=1.6, zorder=4)
    ax.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set_yticks(range(len(chosen)), labels(predicted.var_names[chosen]))
    ax.set(ylim=(len(chosen) - 0.5, -0.5), xlabel="shift of the mean, one dot for each population", title=title or "")
    kind_legend(ax, *sides)
    strip_frame(ax)
    return finish(ax, save=save, show=show)


def _shifts(
    cells: AnnData,
    control: AnnData,
    key: str | None,
    own_key: str | None,
    layer: str | None,
    control_layer: str | None,
    name: str,
) -> np.ndarray:
    """Shifts of populations ``[P, G]``: every cell is compared with controls of its own where there are some."""
    X, controls = expression(cells, layer, name), expression(control, control_layer, "control")
    populations, own, of_controls = (
        np.repeat("", adata.n_obs) if column is None else obs_column(adata, column, where).to_numpy().astype(str)
        for adata, column, where in ((cells, key, name), (cells, own_key, name), (control, own_key, "control"))
    )
    result = []
    for population in np.unique(populations):
        total = np.zeros(cells.n_vars)
        for label, count in zip(*np.unique(own[populations == population], return_counts=True), strict=True):
            here, there = (populations == population) & (own == label), of_controls == label
            total += count * mean_shift(X[here], controls[there] if there.any() else controls)
        result.append(total / np.count_nonzero(populations == population))
    return np.stack(result)
