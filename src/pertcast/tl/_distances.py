"""Euclidean distances within and between two populations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse as sp

from pertcast.tl._matrix import as_cells, require_same_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pertcast.tl._matrix import Cells

__all__ = [
    "PairwiseDistances",
    "as_populations",
    "dense_blocks",
    "discrepancy",
    "distance_matrix",
    "distances",
    "middle",
]

_BLOCK_VALUES = 2**22
#: Squared distances below this many rounding errors of the squared norms are taken as zero.
_ROUNDING_ERRORS = 8.0


@dataclass(frozen=True, eq=False)
class PairwiseDistances:
    """All Euclidean distances of two populations, computed once for several metrics.

    Memory is that of (n + m)^2 values at most. :func:`energy_distance` alone does without it.
    """

    xx: np.ndarray
    """Distances within the first population, 0 on the diagonal, float64 ``[n, n]``."""
    yy: np.ndarray
    """Distances within the second population, 0 on the diagonal, float64 ``[m, m]``."""
    xy: np.ndarray
    """Distances from the first to the second, float64 ``[n, m]``."""

    @classmethod
    def of(cls, x: Cells, y: Cells, *, max_cells: int | None = None, seed: int = 0) -> Self:
        """Compute the distances of two populations.

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

        Raises
        ------
        ValueError
            If the columns differ in number, or a value is not finite.
        """
        a, b = as_populations(x, y, max_cells=max_cells, seed=seed)
        centre = middle(a, b)
        xx, yy, xy = (_all_distances(first, second, centre) for first, second in ((a, a), (b, b), (a, b)))
        np.fill_diagonal(xx, 0)
        np.fill_diagonal(yy, 0)
        return cls(xx, yy, xy)

    def scale(self) -> float:
        """Median distance between two different cells of the second population, the measured one.

        Predicted cells have no say in it, so a prediction cannot move the scale that it is judged on.

        Raises
        ------
        ValueError
            If there is one cell, or half of the pairs of cells are equal.
        """
        median = float(np.median(self.yy[np.triu_indices(len(self.yy), 1)])) if len(self.yy) > 1 else 0.0
        if median == 0:
            raise ValueError(
                f"The median distance between the cells of `y` sets the scale, but it is 0 or undefined for these "
                f"{len(self.yy)} cells. Give at least 2 cells that differ, or give the scale as a number."
            )
        return median


def as_populations(x: Cells, y: Cells, *, max_cells: int | None, seed: int) -> tuple[Any, Any]:
    """Return two populations as arrays or CSR matrices, checked and subsampled.

    Parameters
    ----------
    x
        Cells ``[n, G]``, dense or sparse.
    y
        Cells ``[m, G]``, dense or sparse.
    max_cells
        Largest number of cells to keep of each; None keeps all.
    seed
        Seed of the subsampling, which is without replacement and keeps the order of the cells.

    Raises
    ------
    ValueError
        If the columns differ in number, a value is not finite, or ``max_cells`` is below 1.
    """
    a, b = as_cells(x, "x"), as_cells(y, "y")
    require_same_columns(a, b, "`x` and `y`")
    if max_cells is None:
        return a, b
    if max_cells < 1:
        raise ValueError(f"`max_cells` must be at least 1, but found {max_cells}.")
    rng = np.random.default_rng(seed)
    return _subsample(a, max_cells, rng), _subsample(b, max_cells, rng)


def discrepancy(between: float, within_x: float, within_y: float, n: int, m: int, *, unbiased: bool) -> float:
    """Twice the mean between two populations minus the means within them, from sums over pairs of cells.

    Parameters
    ----------
    between
        Sum over the n m pairs of a cell of x and a cell of y.
    within_x, within_y
        Sums over the n (n - 1) and the m (m - 1) ordered pairs of different cells if ``unbiased`` (U-statistic),
        otherwise over all n n and m m (V-statistic).
    n, m
        Numbers of cells.
    unbiased
        Which of the two the sums are.

    Raises
    ------
    ValueError
        If there is a single cell and ``unbiased`` is true.
    """
    if unbiased and min(n, m) < 2:
        raise ValueError(
            f"The unbiased estimate needs at least 2 cells of each population, but found {n} and {m}. Use "
            "`unbiased=False`."
        )
    left_out = 1 if unbiased else 0
    return float(2 * between / (n * m) - within_x / (n * (n - left_out)) - within_y / (m * (m - left_out)))


def middle(x: Any, y: Any) -> np.ndarray:
    """Point between the means of two populations ``[G]``: seen from there, rounding errors are small."""
    means = [np.asarray(cells.mean(axis=0), dtype=np.float64).reshape(-1) for cells in (x, y)]
    return (means[0] + means[1]) / 2


def dense_blocks(cells: Any, centre: np.ndarray, start: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """Cells from a row on as dense float64 blocks, centred, each with the number of its first row."""
    step = max(1, _BLOCK_VALUES // max(1, cells.shape[1]))
    for first in range(start, cells.shape[0], step):
        block = cells[first : first + step]
        yield first, (block.toarray() if sp.issparse(block) else block).astype(np.float64) - centre


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances ``[n, m]`` of dense cells, from inner products.

    Cells closer than 4e-8 times their distance from the origin are taken as equal.
    """
    norms = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)
    squared = a @ b.T
    squared *= -2
    squared += norms
    norms *= _ROUNDING_ERRORS * np.finfo(np.float64).eps
    squared[squared <= norms] = 0
    return np.sqrt(squared, out=squared)


def distance_matrix(x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
    """Euclidean distances of dense cells, ``[n, m]``; of the cells of x among themselves by default.

    Parameters
    ----------
    x
        Cells ``[n, G]``.
    y
        Cells ``[m, G]``.
    """
    centre = middle(x, x if y is None else y)
    result = _all_distances(x, x if y is None else y, centre)
    if y is None:
        np.fill_diagonal(result, 0)
    return result


def _subsample(cells: Any, size: int, rng: np.random.Generator) -> Any:
    if cells.shape[0] <= size:
        return cells
    return cells[np.sort(rng.choice(cells.shape[0], size, replace=False))]


def _all_distances(x: Any, y: Any, centre: np.ndarray) -> np.ndarray:
    result = np.empty((x.shape[0], y.shape[0]))
    for row, a in dense_blocks(x, centre):
        for column, b in dense_blocks(y, centre):
            result[row : row + len(a), column : column + len(b)] = distances(a, b)
    return result
