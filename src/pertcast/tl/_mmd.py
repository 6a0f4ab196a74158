r"""Maximum mean discrepancy of two populations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from pertcast.tl._distances import PairwiseDistances, discrepancy

if TYPE_CHECKING:
    from pertcast.tl._matrix import Cells

__all__ = ["mmd_from_distances", "mmd_rbf"]


def mmd_rbf(
    x: Cells,
    y: Cells,
    *,
    bandwidth: float | Literal["median"] = "median",
    unbiased: bool = True,
    max_cells: int | None = None,
    seed: int = 0,
) -> float:
    r"""Squared maximum mean discrepancy with a Gaussian kernel (Gretton et al., JMLR 13:723, 2012, eq. 3 and 5).

    .. math:: E\,k(X, X') + E\,k(Y, Y') - 2\,E\,k(X, Y), \qquad k(u, v) = \exp(-\|u - v\|^2 / 2 s^2)

    It is 0 for equal distributions and at most 2, without a unit; no square root is taken.

    Parameters
    ----------
    x
        Predicted cells ``[n, G]``, dense or sparse.
    y
        Measured cells ``[m, G]``, dense or sparse.
    bandwidth
        The width s, in the units of the expression, or ``"median"``: the median distance between two different cells
        of ``y``. It comes from the measured cells alone, so a prediction cannot move its own bandwidth. Values for
        different ``y`` have different kernels.
    unbiased
        Whether means within a population leave out pairs of a cell and itself (U-statistic), so that for a given
        bandwidth the expectation does not depend on the numbers of cells; the estimate may then be slightly below 0.
        Otherwise they are included (V-statistic), which is never below 0, but too large by up to 1/n + 1/m.
    max_cells
        Largest number of cells to use of each population; more are subsampled without replacement. All by default.
    seed
        Seed of the subsampling.

    Returns
    -------
    The squared MMD, without a unit; the U-statistic may be below 0.

    Raises
    ------
    ValueError
        If the columns differ in number, a value is not finite, there is a single cell and ``unbiased`` is true, or the
        bandwidth is not above 0 or has no median to come from.

    Notes
    -----
    The kernel sees all moments, in the space of the columns given; differences far below or far above s count little.
    A point prediction (one cell repeated) has no spread and pays for it; it belongs on metrics of the mean.

    Time is O((n + m)^2 G), memory O((n + m)^2).

    Examples
    --------
    >>> x, y = np.array([[0.0], [0.0]]), np.array([[1.0], [1.0]])
    >>> round(mmd_rbf(x, y, bandwidth=1.0), 4)  # 2 - 2 exp(-1/2)
    0.7869
    """
    pairs = PairwiseDistances.of(x, y, max_cells=max_cells, seed=seed)
    return mmd_from_distances(pairs, bandwidth=bandwidth, unbiased=unbiased)


def mmd_from_distances(
    pairs: PairwiseDistances,
    *,
    bandwidth: float | Literal["median"] = "median",
    unbiased: bool = True,
) -> float:
    """:func:`mmd_rbf` for distances that are known.

    Parameters
    ----------
    pairs
        Distances of the predicted and the measured cells.
    bandwidth
        As for :func:`mmd_rbf`.
    unbiased
        As for :func:`mmd_rbf`.

    Raises
    ------
    ValueError
        If there is a single cell and ``unbiased`` is true, or the bandwidth is not above 0 or has no median to come
        from.
    """
    width = pairs.scale() if bandwidth == "median" else bandwidth
    if isinstance(width, str) or not 0 < width < np.inf:
        raise ValueError(f'`bandwidth` must be "median" or a finite number above 0, but found {bandwidth!r}.')
    between, within_x, within_y = (_kernel(d, width) for d in (pairs.xy, pairs.xx, pairs.yy))
    n, m = pairs.xy.shape
    itself = 1 if unbiased else 0  # the kernel of a cell and itself
    sums = float(between.sum()), float(within_x.sum()) - n * itself, float(within_y.sum()) - m * itself
    return -discrepancy(*sums, n, m, unbiased=unbiased)


def _kernel(distances: np.ndarray, width: float) -> np.ndarray:
    values = np.square(distances)
    values /= -2 * width**2
    return np.exp(values, out=values)
