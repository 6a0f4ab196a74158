"""Reading rows of an expression matrix without making all of it dense."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import scipy.sparse as sp

__all__ = ["Matrix", "gather_rows", "row_major"]

logger = logging.getLogger(__name__)

type Matrix = np.ndarray | sp.csr_matrix | sp.csr_array
"""A matrix whose rows are cheap to read: a C-ordered array or a CSR matrix."""


def row_major(X: Any, where: str = "X") -> Matrix:
    """Return a matrix whose rows are cheap to read; a copy unless ``X`` is a C-ordered array or a CSR matrix.

    Parameters
    ----------
    X
        Dense array or sparse matrix ``[cells, G]`` in memory.
    where
        What messages call the matrix.

    Returns
    -------
    ``X`` itself, or a C-ordered array or a CSR matrix with its values.

    Raises
    ------
    TypeError
        If ``X`` is neither a NumPy array nor a SciPy sparse matrix.

    Examples
    --------
    >>> import numpy as np
    >>> import pertcast as pc
    >>> import scipy.sparse as sp
    >>> X = sp.csr_matrix(np.eye(3))
    >>> pc.data.row_major(X) is X, pc.data.row_major(X.tocsc()).format
    (True, 'csr')
    """
    if sp.issparse(X):
        if X.format == "csr":
            return X
        logger.info(
            "%s is sparse in %s format, of which rows are slow to read; a CSR copy of it is used.", where, X.format
        )
        return X.tocsr()
    if isinstance(X, np.ndarray):
        if X.flags.c_contiguous:
            return np.asarray(X)
        logger.info("%s is not laid out row after row, so rows are slow to read; a copy that is is used.", where)
        return np.ascontiguousarray(X)
    raise TypeError(
        f"{where} must be a NumPy array or a SciPy sparse matrix in memory, but it is a {type(X).__name__}. Load it "
        "first, for example with `adata = adata.to_memory()`."
    )


def gather_rows(X: Matrix, rows: np.ndarray) -> np.ndarray:
    """Read rows as a dense float32 array; only these rows are made dense.

    Parameters
    ----------
    X
        Matrix ``[cells, G]`` as :func:`row_major` returns it.
    rows
        Row numbers of any shape; -1 gives a row of zeros.

    Returns
    -------
    float32 ``[*rows.shape, G]``.

    Examples
    --------
    >>> X = sp.csr_matrix(np.array([[0.0, 1.0], [2.0, 0.0]]))
    >>> gather_rows(X, np.array([1, -1, 1])).tolist()
    [[2.0, 0.0], [0.0, 0.0], [2.0, 0.0]]
    """
    shape, n_columns = rows.shape, X.shape[1]
    rows = rows.reshape(-1)
    present = rows >= 0
    if sp.issparse(X):
        picked = X[rows[present]]
        length = np.zeros(len(rows), dtype=picked.indptr.dtype)
        length[present] = np.diff(picked.indptr)
        padded = sp.csr_matrix(
            (picked.data.astype(np.float32, copy=False), picked.indices, np.r_[0, np.cumsum(length)]),
            shape=(len(rows), n_columns),
        )
        return padded.toarray().reshape(*shape, n_columns)
    dense = X[rows].astype(np.float32, copy=False)  # fancy indexing copies, so X itself is not written to
    dense[~present] = 0
    return dense.reshape(*shape, n_columns)
