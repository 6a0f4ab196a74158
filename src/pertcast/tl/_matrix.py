"""Checks and column means of the matrices that metrics compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

__all__ = ["Cells", "as_cells", "column_means", "require_same_columns"]

type Cells = np.ndarray | sp.spmatrix | sp.sparray
"""Cells by genes, dense or sparse."""


def as_cells(X: Any, name: str) -> np.ndarray | sp.csr_matrix | sp.csr_array:
    """Return cells as an array or a CSR matrix, after a check.

    Parameters
    ----------
    X
        Matrix ``[n, G]``, dense or sparse.
    name
        What messages call it.

    Raises
    ------
    ValueError
        If it is not a matrix, has no cells, or holds NaN or infinite values.
    """
    cells = X.tocsr() if sp.issparse(X) else np.asarray(X)
    if cells.ndim != 2 or cells.shape[0] == 0:
        raise ValueError(
            f"`{name}` must be a matrix of at least one cell and its genes, but its shape is {cells.shape}."
        )
    if not np.isfinite(cells.data if sp.issparse(cells) else cells).all():
        raise ValueError(f"`{name}` holds NaN or infinite values. Leave out these cells or genes.")
    return cells


def require_same_columns(x: Any, y: Any, names: str) -> None:
    """Raise unless two matrices have the same number of columns.

    Parameters
    ----------
    x, y
        Matrices.
    names
        What messages call them.

    Raises
    ------
    ValueError
        If the numbers differ.
    """
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"{names} must hold the same genes in the same order, but they have {x.shape[1]} and {y.shape[1]} columns."
        )


def column_means(cells: Any) -> np.ndarray:
    """Mean over cells, added up in float64 also where the cells are float32.

    Parameters
    ----------
    cells
        What :func:`as_cells` returned, ``[n, G]``.

    Returns
    -------
    float64 ``[G]``.
    """
    if sp.issparse(cells):
        return np.ones(cells.shape[0]) @ cells / cells.shape[0]
    return cells.mean(axis=0, dtype=np.float64)
