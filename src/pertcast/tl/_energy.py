r"""Energy distance between two populations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.tl._distances import as_populations, dense_blocks, discrepancy, distances, middle

if TYPE_CHECKING:
    from pertcast.tl._distances import PairwiseDistances
    from pertcast.tl._matrix import Cells

__all__ = ["energy_distance", "energy_from_distances"]


def energy_distance(
    x: Cells,
    y: Cells,
    *,
    unbiased: bool = True,
    max_cells: int | None = None,
    seed: int = 0,
) -> float:
    r"""Energy distance of two populations (Székely and Rizzo, J. Stat. Plan. Inference 143:1249, 2013).

    .. math:: 2 \, E\|X - Y\| - E\|X - X'\| - E\|Y - Y'\|

    with Euclidean norms, neither squared nor with a square root taken of the sum. It is 0 for equal distributions and
    above 0 otherwise, in the units of the expression.

    Parameters
    ----------
    x
        Cells ``[n, G]``, dense or sparse.
    y
        Cells ``[m, G]``, dense or sparse.
    unbiased
        Whether means within a population leave out the distance of a cell to itself (U-statistic), so that the
        expectation does not depend on the numbers of cells, if these were drawn independently; the estimate may then
        be slightly below 0. Otherwise they are included (V-statistic), which is never below 0, but too large by about
        the mean distance times 1/n + 1/m.
    max_cells
        Largest number of cells to use of each population; more are subsampled without replacement. All by default.
    seed
        Seed of the subsampling.

    Returns
    -------
    The distance in the units of the data; the U-statistic may be below 0.

    Raises
    ------
    ValueError
        If the columns differ in number, a value is not finite, or there is a single cell and ``unbiased`` is true.

    Notes
    -----
    Cells that lie more evenly than a sample, as those of a population that was given its mean, have larger distances
    within it, so that the U-statistic is too low by up to about half the mean distance divided by n.

    The distance sees means, spreads and dependencies of genes, in the space of the columns given. A point prediction
    (one cell repeated) has no spread and pays for it; it belongs on metrics of the mean.

    Time is O((n + m)^2 G). Memory is bounded: distances are summed in blocks, of which at most 2^22 values (or one
    cell) are dense at once.

    Examples
    --------
    >>> energy_distance(np.array([[0.0], [0.0]]), np.array([[3.0], [3.0]]))
    6.0
    """
    a, b = as_populations(x, y, max_cells=max_cells, seed=seed)
    centre = middle(a, b)
    sums = _sum_between(a, b, centre), _sum_within(a, centre), _sum_within(b, centre)
    return discrepancy(*sums, a.shape[0], b.shape[0], unbiased=unbiased)


def energy_from_distances(pairs: PairwiseDistances, *, unbiased: bool = True) -> float:
    """:func:`energy_distance` for distances that are known.

    Parameters
    ----------
    pairs
        Distances of the two populations.
    unbiased
        As for :func:`energy_distance`.

    Raises
    ------
    ValueError
        If there is a single cell and ``unbiased`` is true.
    """
    sums = float(pairs.xy.sum()), float(pairs.xx.sum()), float(pairs.yy.sum())
    return discrepancy(*sums, *pairs.xy.shape, unbiased=unbiased)


def _sum_between(x: Any, y: Any, centre: np.ndarray) -> float:
    """Sum of the distances of all cells of x to all cells of y."""
    return sum(distances(a, b).sum() for _, a in dense_blocks(x, centre) for _, b in dense_blocks(y, centre))


def _sum_within(x: Any, centre: np.ndarray) -> float:
    """Sum of the distances of all ordered pairs of cells of x; a cell is at distance 0 from itself."""
    total = 0.0
    for first, a in dense_blocks(x, centre):
        for other, b in dense_blocks(x, centre, first):
            block = distances(a, b)
            if other == first:
                np.fill_diagonal(block, 0)
                total += block.sum()
            else:
                total += 2 * block.sum()
    return total
