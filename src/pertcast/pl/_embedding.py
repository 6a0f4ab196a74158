"""Control, measured and predicted cells in one plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pertcast.pl._cells import dense, expression, require_same_genes, subsample
from pertcast.pl._style import COLORS, finish, get_axes, kind_legend

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["embedding"]


def embedding(
    real: AnnData,
    predicted: AnnData,
    control: AnnData,
    *,
    real_layer: str | None = None,
    predicted_layer: str | None = None,
    max_cells: int = 2000,
    seed: int = 0,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (5.5, 4.0),
    size: float = 8.0,
    title: str | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot control, measured and predicted cells on two principal components of the real cells.

    The components are those of the control and the measured perturbed cells together; predicted cells are projected
    onto them, so they cannot bend the plane towards themselves. Both axes have the same scale.

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
    max_cells
        Largest number of cells of each kind that are used; more are subsampled.
    seed
        Seed of the subsampling and of the order in which cells are drawn.
    ax
        Axes to draw on; a new figure by default.
    figsize
        Width and height of a new figure, in inches.
    size
        Area of a point, in square points.
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
        If the genes differ, there are fewer than 2 genes or 3 real cells, or an AnnData has no cells.

    Examples
    --------
    >>> import anndata
    >>> rng = np.random.default_rng(0)
    >>> control, real, predicted = (anndata.AnnData(rng.normal(size=(20, 5))) for _ in range(3))
    >>> embedding(real, predicted, control).get_xlabel().startswith("PC1")
    True
    """
    from sklearn.decomposition import PCA

    require_same_genes(real=real, predicted=predicted, control=control)
    rng = np.random.default_rng(seed)
    cells = {
        "control": dense(subsample(expression(control, real_layer, "control"), max_cells, rng)),
        "observed": dense(subsample(expression(real, real_layer, "real"), max_cells, rng)),
        "predicted": dense(subsample(expression(predicted, predicted_layer, "predicted"), max_cells, rng)),
    }
    fitted_on = np.concatenate([cells["control"], cells["observed"]])
    if fitted_on.shape[1] < 2 or fitted_on.shape[0] < 3:
        raise ValueError(
            f"Two principal components need at least 2 genes and 3 real cells, but found {fitted_on.shape[1]} genes "
            f"and {fitted_on.shape[0]} cells."
        )
    pca = PCA(n_components=2, random_state=seed).fit(fitted_on)

    ax = get_axes(ax, figsize)
    points = np.concatenate([pca.transform(values) for values in cells.values()])
    kinds = np.repeat(np.arange(len(cells)), [len(values) for values in cells.values()])
    palette = np.array([COLORS[name] for name in cells])
    order = rng.permutation(len(points))  # mixed, so that no kind hides the others
    ax.scatter(
        points[order, 0],
        points[order, 1],
        s=size,
        c=palette[kinds[order]],
        alpha=0.7,
        linewidths=0,
        rasterized=len(points) > 2000,
    )
    kind_legend(ax, *COLORS)
    first, second = (f"{share:.0%}" for share in pca.explained_variance_ratio_)
    ax.set(aspect="equal", xlabel=f"PC1 ({first} of variance)", ylabel=f"PC2 ({second})", title=title or "")
    ax.set_adjustable("datalim")
    return finish(ax, save=save, show=show)
