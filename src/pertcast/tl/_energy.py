r"""Energy distance between two populations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from pertcast.tl._matrix import as_cells, require_same_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pertcast.tl._matrix import Cells


__all__ = ["energy_distance"]

_BLOCK_VALUES = 2**22


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
        expectation does not depend on the numbers of cells; the estimate may then be slightly below 0. Otherwise they
        are included (V-statistic), which is never below 0, but too large by about the mean distance times 1/n + 1/m.
    max_cells
        Largest number of cells to use of each population; more are subsampled without replacement. All by default.
    seed
        Seed of the subsampling.

    Raises
    ------
    ValueError
        If the columns differ in number, a value is not finite, or there is a single cell and ``unbiased`` is true.

    Notes
    -----
    Time is O((n + m)^2 G). Memory is bounded: distances are summed in blocks, of which at most 2^22 values (or one
    cell) are dense at once.

    Examples
    --------
    >>> energy_distance(np.array([[0.0], [0.0]]), np.array([[3.0], [3.0]]))
    6.0
    """
    a, b = as_cells(x, "x"), as_cells(y, "y")
    require_same_columns(a, b, "`x` and `y`")
    if max_cells is not None:
        if max_cells < 1:
            raise ValueError(f"`max_cells` must be at least 1, but found {max_cells}.")
        rng = np.random.default_rng(seed)
        a, b = _subsample(a, max_cells, rng), _subsample(b, max_cells, rng)
    n, m = a.shape[0], b.shape[0]
    if unbiased and min(n, m) < 2:
        raise ValueError(
            f"The unbiased energy distance needs at least 2 cells of each population, but found {n} and {m}. Use "
            "`unbiased=False`."
        )
    centre = (np.asarray(a.mean(axis=0), dtype=np.float64) + np.asarray(b.mean(axis=0), dtype=np.float64)).reshape(-1)
    centre /= 2  # distances stay the same, rounding errors become smaller
    between = _sum_between(a, b, centre) / (n * m)
    within_a = _sum_within(a, centre) / (n * (n - 1 if unbiased else n))
    within_b = _sum_within(b, centre) / (m * (m - 1 if unbiased else m))
    return float(2 * between - within_a - within_b)


def _subsample(cells: Any, size: int, rng: np.random.Generator) -> Any:
    if cells.shape[0] <= size:
        return cells
    return cells[np.sort(rng.choice(cells.shape[0], size, replace=False))]


def _blocks(cells: Any, centre: np.ndarray, start: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """Cells from a row on as dense float64 blocks, centred, each with the number of its first row."""
    step = max(1, _BLOCK_VALUES // max(1, cells.shape[1]))
    for first in range(start, cells.shape[0], step):
        block = cells[first : first + step]
        yield first, (block.toarray() if sp.issparse(block) else block).astype(np.float64) - centre


def _sum_between(x: Any, y: Any, centre: np.ndarray) -> float:
    """Sum of the distances of all cells of x to all cells of y."""
    return sum(_distances(a, b).sum() for _, a in _blocks(x, centre) for _, b in _blocks(y, centre))


def _sum_within(x: Any, centre: np.ndarray) -> float:
    """Sum of the distances of all ordered pairs of cells of x; a cell is at distance 0 from itself."""
    total = 0.0
    for first, a in _blocks(x, centre):
        for other, b in _blocks(x, centre, first):
            distances = _distances(a, b)
            if other == first:
                np.fill_diagonal(distances, 0)
                total += distances.sum()
            else:
                total += 2 * distances.sum()
    return total


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances ``[n, m]``, from inner products."""
    squared = a @ b.T
    squared *= -2
    squared += np.einsum("ij,ij->i", a, a)[:, None]
    squared += np.einsum("ij,ij->i", b, b)
    return np.sqrt(np.maximum(squared, 0, out=squared), out=squared)
