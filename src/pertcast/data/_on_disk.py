"""Rows of a matrix in a file."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import scipy.sparse as sp
from anndata.abc import CSRDataset
from anndata.io import sparse_dataset

from pertcast.data._groups import concatenate_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

__all__ = ["RowsOnDisk", "file_lacks_X"]

_BLOCK_VALUES = 2**24
_GAP_VALUES = 2**12  # reading so many more values takes no longer than a call of HDF5


class RowsOnDisk:
    """A matrix in a file, of which the rows that are asked for are read.

    It has the shape of the matrix and gives rows as a matrix in memory has them: in any order, as often as asked for.

    Parameters
    ----------
    X
        Dense dataset of HDF5 or sparse dataset of anndata in CSR format, such as ``X`` of a backed AnnData.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import anndata as ad
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ad.AnnData(np.array([[0.0], [1.0], [2.0]])).write_h5ad(Path(folder, "screen.h5ad"))
    ...     backed = ad.read_h5ad(Path(folder, "screen.h5ad"), backed="r")
    ...     RowsOnDisk(backed.X)[np.array([2, 0, 2])].tolist()
    ...     backed.file.close()
    [[2.0], [0.0], [2.0]]
    """

    def __init__(self, X: h5py.Dataset | CSRDataset) -> None:
        self.is_sparse = isinstance(X, CSRDataset)
        self.shape: tuple[int, int] = (int(X.shape[0]), int(X.shape[1]))
        self.dtype = np.dtype(X.dtype)
        self._X, self._process = X, os.getpid()
        node: Any = getattr(X, "group", X)  # the arrays of a sparse dataset are in a group
        self._place = (node.file.filename, node.name) if isinstance(node, h5py.Group | h5py.Dataset) else None

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray | sp.csr_matrix:
        """Read rows, given by numbers of at least 0 or a slice, into memory."""
        X = self._open()
        if isinstance(rows, slice):
            return self._read(X, np.arange(*rows.indices(len(self)))) if self._values_in_hdf5 else X[rows]
        if not len(rows):
            return X[0:0]
        distinct, position = np.unique(rows, return_inverse=True)  # files are read in order, each row once
        found = self._read(X, distinct)
        return found if len(distinct) == len(rows) and (np.diff(rows) > 0).all() else found[position]

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    @property
    def block(self) -> int:
        """Number of rows with 2^24 values."""
        return max(1, _BLOCK_VALUES // max(1, self.shape[1]))

    def blocks(self) -> Iterator[tuple[int, np.ndarray | sp.csr_matrix]]:
        """Read all rows in order, a block at a time: number of the first row, and rows."""
        for first in range(0, len(self), self.block):
            yield first, self[first : first + self.block]

    @property
    def _values_in_hdf5(self) -> bool:
        """Whether this is a sparse matrix in an HDF5 file, of which anndata reads every row by itself."""
        return self.is_sparse and self._place is not None

    @cached_property
    def _indptr(self) -> np.ndarray:
        """Where the values of each row begin, int64 ``[N + 1]``."""
        return self._open().group["indptr"][:].astype(np.int64, copy=False)

    def _read(self, X: Any, rows: np.ndarray) -> np.ndarray | sp.csr_matrix:
        """Read sorted distinct rows."""
        if self._values_in_hdf5:
            return _read_sparse_runs(X.group, self._indptr, rows, self.shape[1])
        return X[rows] if self.is_sparse else _read_runs(X, rows)

    def _open(self) -> Any:
        """Return the matrix; a process that was forked, such as a worker of a data loader, opens the file anew."""
        if self._place is not None and self._process != os.getpid():
            file, name = self._place
            node = h5py.File(file, "r")[name]
            self._X, self._process = sparse_dataset(node) if self.is_sparse else node, os.getpid()
        return self._X


def _read_sparse_runs(group: h5py.Group, indptr: np.ndarray, rows: np.ndarray, n_columns: int) -> sp.csr_matrix:
    """Read sorted rows of a CSR matrix, neighbours and what little is between them together."""
    first, last = indptr[rows], indptr[rows + 1]
    length = last - first
    opens = np.flatnonzero(first[1:] - last[:-1] > _GAP_VALUES) + 1  # the first row of each run but the first
    begin = first[np.r_[: min(1, len(rows)), opens]]
    end = last[np.r_[opens, len(rows)][: len(begin)] - 1]
    offset = np.cumsum(end - begin) - (end - begin)
    parts = []
    for name in ("data", "indices"):
        stored = group[name]
        part = np.empty(int((end - begin).sum()), dtype=stored.dtype)
        for start, stop, to in zip(begin.tolist(), end.tolist(), offset.tolist(), strict=True):
            part[to : to + stop - start] = stored[start:stop]
        parts.append(part)
    if len(parts[0]) > length.sum():
        run = np.zeros(len(rows), dtype=np.int64)
        run[opens] = 1
        run = np.cumsum(run)
        kept = concatenate_ranges(first - begin[run] + offset[run], length)
        parts = [part[kept] for part in parts]
    return sp.csr_matrix((*parts, np.r_[0, np.cumsum(length)]), shape=(len(rows), n_columns))


def file_lacks_X(adata: AnnData) -> bool:
    """Whether an AnnData is backed by a file without ``X``, for which anndata raises a bare ``KeyError``."""
    return bool(adata.isbacked and "X" not in adata.file)


def _read_runs(X: h5py.Dataset, rows: np.ndarray) -> np.ndarray:
    """Read sorted rows of a dense dataset, neighbours together: lists of many rows are slow in HDF5."""
    found = np.empty((len(rows), X.shape[1]), dtype=X.dtype)
    ends = np.flatnonzero(np.diff(rows) > 1) + 1
    for first, stop in zip(np.r_[0, ends], np.r_[ends, len(rows)], strict=True):
        found[first:stop] = X[rows[first] : rows[stop - 1] + 1]
    return found
