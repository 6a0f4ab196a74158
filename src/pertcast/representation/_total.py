"""Totals of cells: all the same where counts were normalised."""

from __future__ import annotations

import numpy as np

__all__ = ["limit_total", "shared_total"]

_MIN_CELLS = 3
_TOLERANCE = 1e-3
_MAX_VALUE = 50.0


def shared_total(cells: np.ndarray) -> float | None:
    """Total that all cells have in counts, such as 10,000, if they were normalised and brought to log1p.

    Parameters
    ----------
    cells
        Expression of at least three cells, log1p, ``[N, G]``.

    Returns
    -------
    Mean of the totals of ``expm1(cells)``; None if they differ by more than a thousandth: the cells were not
    normalised, or not over these genes.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(1.0, size=(20, 50))
    >>> round(shared_total(np.log1p(100 * counts / counts.sum(1, keepdims=True))))
    100
    >>> shared_total(np.log1p(counts)) is None
    True
    """
    if len(cells) < _MIN_CELLS or cells.max(initial=0) > _MAX_VALUE:
        return None
    totals = _totals(cells)
    total = float(totals.mean())
    return total if total > 0 and np.abs(totals - total).max() <= _TOLERANCE * total else None


def limit_total(cells: np.ndarray, total: float) -> np.ndarray:
    r"""Scale the counts of a population down where its cells have more than they can have.

    With T the total and t the mean of those of the cells, :math:`x' = \log(1 + (e^x - 1) \min(1, T / t))`. Forecasts of
    logs do not know of the total. Less than T is left as it is: forecasts are drawn towards no effect, and what rises
    too little, not all genes alike, lacks the rest.

    Parameters
    ----------
    cells
        Predicted cells of one population, log1p, non-negative, ``[n, G]``.
    total
        T, above 0.

    Returns
    -------
    float32 ``[n, G]``; the cells themselves where nothing is to do.

    Examples
    --------
    >>> cells = np.log1p(np.array([[30.0, 90.0], [10.0, 70.0]]))
    >>> np.expm1(limit_total(cells, 50.0)).round(3).tolist()
    [[15.0, 45.0], [5.0, 35.0]]
    """
    mean = float(_totals(cells).mean()) if len(cells) else 0.0
    if mean <= total:
        return cells
    found = np.expm1(cells)
    found *= total / mean
    return np.log1p(found, out=found).astype(np.float32, copy=False)


def _totals(cells: np.ndarray) -> np.ndarray:
    """Totals of counts, float64 ``[n]``."""
    return np.expm1(cells).sum(axis=1, dtype=np.float64)
