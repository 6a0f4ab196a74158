"""Reading rows of an expression matrix without making all of it dense."""

from __future__ import annotations

import logging
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp
from anndata.abc import CSCDataset, CSRDataset

from pertcast.data._on_disk import RowsOnDisk

__all__ = ["Matrix", "from_file", "gather_rows", "is_sparse", "row_major"]

logger = logging.getLogger(__name__)

type Matrix = np.ndarray | sp.csr_matrix | sp.csr_array | RowsOnDisk
"""A matrix whose rows are cheap to read: a C-ordered array, a CSR matrix, or one of both in a file."""


def row_major(X: Any, where: str = "X") -> Matrix:
    """Return a matrix whose rows are cheap to read; a copy unless ``X`` is a C-ordered array or a CSR matrix.

    Parameters
    ----------
    X
        Dense array or sparse matrix ``[cells, G]`` in memory, or that of an AnnData that is backed by a file.
    where
        What messages call the matrix.

    Returns
    -------
    ``X`` itself, a C-ordered array or a CSR matrix with its values, or what reads its rows from the file.

    Raises
    ------
    TypeError
        If ``X`` is none of these, or in CSC format in a file.

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
    X = from_file(X, where)
    if isinstance(X, RowsOnDisk):
        return X
    if isinstance(X, np.ndarray):
        if X.flags.c_contiguous:
            return np.asarray(X)
        logger.info("%s is not laid out row after row, so rows are slow to read; a copy that is is used.", where)
        return np.ascontiguousarray(X)
    raise TypeError(
        f"{where} must be a NumPy array or a SciPy sparse matrix in memory, but it is a {type(X).__name__}. Load it "
        "first, for example with `adata = adata.to_memory()`."
    )


def from_file(X: Any, where: str = "X") -> Any:
    """Return what reads the rows of a matrix that is in a file; any other is returned as it is.

    Raises
    ------
    TypeError
        If the file holds it in CSC format.
    """
    if isinstance(X, CSCDataset):
        raise TypeError(
            f"{where} is in a file in CSC format, from which rows cannot be read by themselves. Load it, and write it "
            "again in CSR format: `adata = adata.to_memory(); adata.X = adata.X.tocsr(); adata.write_h5ad(...)`."
        )
    return RowsOnDisk(X) if isinstance(X, h5py.Dataset | CSRDataset) else X


def is_sparse(X: Matrix) -> bool:
    """Whether only values other than 0 of a matrix are stored, in memory or in a file."""
    return X.is_sparse if isinstance(X, RowsOnDisk) else sp.issparse(X)


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
    if isinstance(X, RowsOnDisk):
        found = np.zeros((len(rows), n_columns), dtype=np.float32)
        found[present] = gather_rows(X[rows[present]], np.arange(present.sum()))
        return found.reshape(*shape, n_columns)
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
