r"""Orders of cells, gene by gene."""

from __future__ import annotations

import numpy as np

__all__ = ["ascending", "descending_of_groups", "race"]


def ascending(cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cells in the order of rising values of each gene, equal ones in random order.

    The bits of non-negative floats are in the order of the numbers. They are sorted together with random bits, and the
    number of the cell in the lowest ones: sorting whole numbers is several times as fast as sorting their positions.

    Parameters
    ----------
    cells
        Non-negative values of n cells in g genes, float32 ``[g, n]``.
    rng
        Breaks ties.

    Returns
    -------
    Numbers of the cells, int64 ``[g, n]``.

    Examples
    --------
    >>> ascending(np.array([[0.5, 2.0, 0.0]], dtype=np.float32), np.random.default_rng(0))
    array([[2, 0, 1]])
    """
    n = cells.shape[1]
    number_bits = np.uint64((1 << max(1, n - 1).bit_length()) - 1)
    keys = (cells + np.float32(0)).view(np.uint32).astype(np.uint64)  # the sum turns -0 into 0
    keys <<= np.uint64(32)
    ties = rng.integers(2**32, size=keys.shape, dtype=np.uint32)
    ties &= ~np.uint32(number_bits)
    ties |= np.arange(n, dtype=np.uint32)
    keys |= ties
    keys.sort(axis=1)
    keys &= number_bits
    return keys.view(np.int64)


def race(cells: np.ndarray, certain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    r"""Keys whose highest ones are a draw of cells without replacement, weighted by the values of the cells.

    Cells with values x of at least c are drawn first, from the highest to the lowest: they keep their values as keys.
    The others have the keys :math:`c \, x / (x + c E)`, where E is exponential: their order is that of :math:`x / E`,
    in which the first one is a cell with a probability in proportion to its x, the second one likewise among those
    that are left, and so on (Efraimidis & Spirakis 2006). Cells with the value 0 come last.

    Parameters
    ----------
    cells
        Non-negative values of n cells in g genes, float32 ``[g, n]``.
    certain
        c of each gene, above 0, float32 ``[g]``.
    rng
        Draws.

    Returns
    -------
    float32 ``[g, n]``.

    Examples
    --------
    >>> keys = race(np.array([[0.5, 2.0, 0.0]], np.float32), np.ones(1, np.float32), np.random.default_rng(0))
    >>> bool(0 < keys[0, 0] < 1), float(keys[0, 1]), float(keys[0, 2])
    (True, 2.0, 0.0)
    """
    limit = certain[:, None]
    weight = rng.standard_exponential(cells.shape, dtype=np.float32)
    weight *= limit
    weight += cells
    np.divide(cells, weight, out=weight, where=cells > 0)
    weight *= limit
    np.copyto(weight, cells, where=(cells >= limit) | (cells == 0))
    return weight


def descending_of_groups(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Positions of values, each group's from the highest to the lowest, equal ones as they come.

    Parameters
    ----------
    values
        Non-negative values, float32 ``[n]``.
    group
        Rising numbers of the groups, int64 ``[n]``.

    Returns
    -------
    int64 ``[n]``.

    Examples
    --------
    >>> descending_of_groups(np.array([1, 3, 0, 2], dtype=np.float32), np.array([0, 0, 1, 1]))
    array([1, 0, 3, 2])
    """
    keys = group.astype(np.uint64) << np.uint64(32)
    keys |= ~(values + np.float32(0)).view(np.uint32)
    return np.argsort(keys, kind="stable")
