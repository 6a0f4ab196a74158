"""Predicted expression, filled population by population without a second copy."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

__all__ = ["PredictedCells"]

_SPARE, _MOST_SPARE = 1.05, 1.15


class PredictedCells:
    """Predicted expression: one float32 array or one CSR matrix, filled in order.

    The arrays of the CSR matrix are sized by the density of the cells so far and grow in place, so the peak of the
    memory is that of the result and of what is added at a time.

    Parameters
    ----------
    n_cells
        Number of cells of all populations.
    n_genes
        Number of genes G.
    is_sparse
        Whether to keep the cells sparse.

    Examples
    --------
    >>> cells = PredictedCells(3, 2, is_sparse=True)
    >>> cells.add(np.array([[0.0, 1.5]], dtype=np.float32))
    >>> cells.add(np.array([[0.0, 0.0], [2.0, 0.5]], dtype=np.float32))
    >>> cells.matrix().toarray().tolist()
    [[0.0, 1.5], [0.0, 0.0], [2.0, 0.5]]
    """

    def __init__(self, n_cells: int, n_genes: int, *, is_sparse: bool) -> None:
        self.shape = (n_cells, n_genes)
        self._dense = None if is_sparse else np.empty(self.shape, dtype=np.float32)
        self._filled = 0
        self._index_type = np.int32 if n_genes < 2**31 else np.int64
        self._data = np.empty(0, dtype=np.float32)
        self._indices = np.empty(0, dtype=self._index_type)
        self._row_ends = np.zeros(n_cells + 1 if is_sparse else 0, dtype=np.int64)

    def add(self, values: np.ndarray) -> None:
        """Append the cells ``[n, G]`` of one population."""
        values = np.ascontiguousarray(values, dtype=np.float32)
        first, self._filled = self._filled, self._filled + len(values)
        if self._dense is not None:
            self._dense[first : self._filled] = values
            return
        flat = values.ravel()
        present = np.flatnonzero(flat != 0)
        row = present // self.shape[1]
        begin = int(self._row_ends[first])
        self._row_ends[first + 1 : self._filled + 1] = begin + np.bincount(row, minlength=len(values)).cumsum()
        end = begin + len(present)
        if end > len(self._data):
            self._grow(end)
        self._data[begin:end] = flat[present]
        self._indices[begin:end] = present - row * self.shape[1]

    def matrix(self) -> np.ndarray | sp.csr_matrix:
        """All cells ``[n_cells, G]``, in the order in which they were added; nothing can be added afterwards."""
        if self._dense is not None:
            return self._dense
        size = int(self._row_ends[-1])
        if len(self._data) > _MOST_SPARE * size:
            self._resize(size)
        data, indices, ends = self._data[:size], self._indices[:size], self._row_ends
        wide = size >= 2**31  # SciPy wants one type for both
        return sp.csr_matrix(
            (data, indices.astype(np.int64) if wide else indices, ends if wide else ends.astype(np.int32)), self.shape
        )

    def _grow(self, needed: int) -> None:
        """Make room for what all cells need if the others are as dense as those so far."""
        expected = needed * (self.shape[0] / self._filled)
        self._resize(int(max(needed, _SPARE * expected)))

    def _resize(self, size: int) -> None:
        """Change the size of the arrays in place; nothing else refers to them."""
        self._data.resize(size, refcheck=False)
        self._indices.resize(size, refcheck=False)
