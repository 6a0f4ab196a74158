r"""Wasserstein distances of populations, along genes and along random directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pertcast.tl._distances import as_populations
from pertcast.tl._quantiles import column_blocks, wasserstein_powers

if TYPE_CHECKING:
    from pertcast.tl._matrix import Cells

__all__ = ["gene_wasserstein", "gene_wasserstein_distances", "sliced_wasserstein"]


def gene_wasserstein_distances(x: Cells, y: Cells, *, max_cells: int | None = None, seed: int = 0) -> np.ndarray:
    r"""1-Wasserstein distance of each gene, :math:`\int |F(t) - G(t)| \, dt` with the two distribution functions.

    Parameters
    ----------
    x
        Cells ``[n, G]``, dense or sparse.
    y
        Cells ``[m, G]``, dense or sparse.
    max_cells
        Largest number of cells to use of each population; more are subsampled without replacement. All by default.
    seed
        Seed of the subsampling.

    Returns
    -------
    float64 ``[G]``, in the units of the expression. At least the absolute difference of the means, and equal to it if
    one distribution is the other one shifted.

    Raises
    ------
    ValueError
        If the columns differ in number or a value is not finite.

    Notes
    -----
    Exact, for unequal numbers of cells too. As a V-statistic it is above 0 for two samples of one distribution, by
    about the standard deviation of the gene times sqrt(1/n + 1/m).

    Examples
    --------
    >>> gene_wasserstein_distances(np.array([[0.0, 1.0], [2.0, 1.0]]), np.array([[1.0, 4.0]])).tolist()
    [1.0, 3.0]
    """
    a, b = as_populations(x, y, max_cells=max_cells, seed=seed)
    result = np.empty(a.shape[1])
    for columns, (left, right) in column_blocks(a, b):
        result[columns] = wasserstein_powers(left, right)
    return result


def gene_wasserstein(x: Cells, y: Cells, *, max_cells: int | None = None, seed: int = 0) -> float:
    """Mean over genes of the 1-Wasserstein distance, of order 1 and not squared.

    Also known as earth mover's distance. It sees the distribution of each gene, and nothing of how genes go together.
    It is 0 for equal distributions of all genes, in the units of the expression.

    Parameters
    ----------
    x
        Cells ``[n, G]``, dense or sparse.
    y
        Cells ``[m, G]``, dense or sparse.
    max_cells
        Largest number of cells to use of each population; more are subsampled without replacement. All by default.
    seed
        Seed of the subsampling.

    Returns
    -------
    The distance in the units of the data, at least 0.

    Raises
    ------
    ValueError
        If the columns differ in number or a value is not finite.

    Notes
    -----
    A V-statistic of the columns given, with an excess of the order of sqrt(1/n + 1/m): compare values for equal
    numbers of cells only, beside that of two halves of ``y``. A point prediction (one cell repeated) gets the mean
    absolute deviation of the measured cells from it, about 0.8 standard deviations for normal values; it belongs on
    metrics of the mean.

    See Also
    --------
    gene_wasserstein_distances : the distance of each gene.

    Examples
    --------
    >>> gene_wasserstein(np.array([[0.0, 1.0], [2.0, 1.0]]), np.array([[1.0, 4.0]]))
    2.0
    """
    return float(gene_wasserstein_distances(x, y, max_cells=max_cells, seed=seed).mean())


def sliced_wasserstein(
    x: Cells,
    y: Cells,
    *,
    order: float = 1.0,
    n_projections: int = 128,
    max_cells: int | None = None,
    seed: int = 0,
) -> float:
    r"""Sliced Wasserstein distance (Bonneel et al., J. Math. Imaging Vis. 51:22, 2015).

    .. math:: \left( E_\theta \, W_p^p(\theta^\top X, \theta^\top Y) \right)^{1/p}

    over random directions of length 1: for order 1, the mean over directions of the 1-Wasserstein distance of the
    projected cells. It is 0 for equal distributions and above 0 otherwise, in the units of the expression. A
    direction sees about 1 / sqrt(G) of a shift, so values for different numbers of genes cannot be compared.

    Parameters
    ----------
    x
        Cells ``[n, G]``, dense or sparse.
    y
        Cells ``[m, G]``, dense or sparse.
    order
        The order p, at least 1.
    n_projections
        Number of directions. They are the same for all populations of the same number of genes and ``seed``.
    max_cells
        Largest number of cells to use of each population; more are subsampled without replacement. All by default.
    seed
        Seed of the directions and of the subsampling.

    Returns
    -------
    The distance in the units of the data, at least 0.

    Raises
    ------
    ValueError
        If the columns differ in number, a value is not finite, or an option is out of range.

    Notes
    -----
    Exact along each direction, for unequal numbers of cells too. A V-statistic of the columns given, with an excess of
    the order of sqrt(1/n + 1/m) for order 1: compare values for equal numbers of cells only, beside that of two halves
    of ``y``. A point prediction (one cell repeated) has no spread and pays for it; it belongs on metrics of the mean.

    Examples
    --------
    >>> sliced_wasserstein(np.array([[0.0], [2.0]]), np.array([[1.0]]))  # one gene: the distance itself
    1.0
    """
    if not 1 <= order < np.inf or n_projections < 1:
        raise ValueError(
            f"`order` must be a finite number of at least 1 and `n_projections` at least 1, but found {order} and "
            f"{n_projections}."
        )
    a, b = as_populations(x, y, max_cells=max_cells, seed=seed)
    directions = _directions(a.shape[1], n_projections, seed)
    return float(wasserstein_powers(a @ directions, b @ directions, order).mean() ** (1 / order))


def _directions(n_genes: int, n_projections: int, seed: int) -> np.ndarray:
    """Random directions of length 1 ``[G, P]``, uniform on the sphere."""
    directions = np.random.default_rng([seed, 1]).normal(size=(n_genes, n_projections))
    return directions / np.linalg.norm(directions, axis=0)
