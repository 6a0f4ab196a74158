r"""Wasserstein distances in one dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["column_blocks", "wasserstein_powers"]

_BLOCK_VALUES = 2**22


def wasserstein_powers(x: np.ndarray, y: np.ndarray, order: float = 1.0) -> np.ndarray:
    r"""Wasserstein distance of each column, to the power of its order.

    .. math:: W_p^p = \int_0^1 |F^{-1}(q) - G^{-1}(q)|^p \, dq

    with the quantile functions of two samples (Peyré and Cuturi, *Computational OT*, 2019, eq. 2.36). They are
    constant between multiples of 1/n and 1/m, so the integral is a sum over n + m - 1 pieces at most, which are the
    same for all columns.

    Parameters
    ----------
    x
        Values ``[n, P]``.
    y
        Values ``[m, P]``.
    order
        The order p, at least 1.

    Returns
    -------
    float64 ``[P]``, in the units of the values to the power p.

    Examples
    --------
    >>> wasserstein_powers(np.array([[0.0], [3.0]]), np.array([[1.0], [1.0], [1.0]])).tolist()  # (1 + 2) / 2
    [1.5]
    """
    n, m = len(x), len(y)
    a, b = (np.sort(np.ascontiguousarray(values.T, dtype=np.float64), axis=1) for values in (x, y))
    if n == m:
        return _power(a - b, order).mean(axis=1)
    # Quantiles in units of 1 / (n m), where all ends of pieces are whole numbers.
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    starts = np.concatenate([[0], ends[:-1]])
    return _power(a[:, starts // m] - b[:, starts // n], order) @ ((ends - starts) / (n * m))


def column_blocks(*matrices: Any) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Columns of matrices as dense float64 blocks of 2^22 values together, or one column, and which they are.

    Parameters
    ----------
    matrices
        Dense or CSR, with the same number of columns.
    """
    by_column = [matrix.tocsc() if sp.issparse(matrix) else matrix for matrix in matrices]
    n_columns = by_column[0].shape[1]
    step = max(1, _BLOCK_VALUES // sum(matrix.shape[0] for matrix in by_column))
    for first in range(0, n_columns, step):
        columns = slice(first, min(first + step, n_columns))
        parts = (matrix[:, columns] for matrix in by_column)
        yield columns, [(part.toarray() if sp.issparse(part) else part).astype(np.float64) for part in parts]


def _power(differences: np.ndarray, order: float) -> np.ndarray:
    np.abs(differences, out=differences)
    return differences if order == 1 else np.power(differences, order, out=differences)
