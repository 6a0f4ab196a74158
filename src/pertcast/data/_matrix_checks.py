"""Checks of an expression matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from pertcast.data._messages import shorten
from pertcast.data._on_disk import RowsOnDisk

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

__all__ = ["check_matrix", "looks_like_counts"]

_SAMPLED_ROWS = 2000
_CHUNK_VALUES = 2**24


def check_matrix(
    X: Any, obs_names: pd.Index, var_names: pd.Index, *, where: str = "adata.X", counts: bool = False
) -> None:
    """Raise unless a matrix can be read, is numeric and finite, with unique genes, and holds what it should.

    Parameters
    ----------
    X
        Matrix ``[cells, G]``; one in a file, as :func:`row_major` returns it, is read once, a block at a time.
    obs_names
        Names of the cells.
    var_names
        Names of the genes.
    where
        What messages call the matrix.
    counts
        Whether raw counts are wanted; they are refused otherwise.

    Raises
    ------
    TypeError
        If the matrix is neither in memory nor in a file that can be read, or not numeric.
    ValueError
        If it is empty, a gene name is repeated, a value is NaN or infinite, or counts are there where they should not
        be, or the other way round.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> import pertcast as pc
    >>> counts = np.array([[0.0, 3.0], [1.0, 0.0]])
    >>> cells, genes = pd.Index(["c0", "c1"]), pd.Index(["g0", "g1"])
    >>> pc.data.check_matrix(np.log1p(counts), cells, genes)
    >>> pc.data.check_matrix(counts, cells, genes)
    Traceback (most recent call last):
        ...
    ValueError: adata.X looks like raw counts (non-negative integers up to 3), but log-normalised values are expected...
    """
    if X is None:
        raise ValueError(f"{where} is empty. Name the layer that holds the expression with `layer=...`.")
    if not (sp.issparse(X) or isinstance(X, np.ndarray | RowsOnDisk)):
        raise TypeError(
            f"{where} must be a NumPy array or a SciPy sparse matrix in memory, but it is a {type(X).__name__}. Load "
            "it first: `adata = adata.to_memory()`."
        )
    if not (np.issubdtype(X.dtype, np.number) or X.dtype == bool):
        raise TypeError(f"{where} must be numeric, but its dtype is {X.dtype}. Convert it, for example to float32.")
    if not all(X.shape):
        raise ValueError(f"{where} has shape {X.shape}: there are no values to learn from.")
    if not var_names.is_unique:
        repeated = var_names[var_names.duplicated()].unique()
        raise ValueError(
            f"{len(repeated)} gene names occur more than once: {shorten(repeated)}. Call "
            "`adata.var_names_make_unique()`."
        )
    _check_finite(X, obs_names, var_names, where)
    if counts:
        _check_counts(X, obs_names, var_names, where)
    elif looks_like_counts(X):
        in_layer = "layers[" in where
        fix = (
            "Name a layer that is normalised (`sc.pp.normalize_total`, then `sc.pp.log1p`), or leave `layer` out if "
            "`adata.X` is"
            if in_layer
            else "Keep the counts with `adata.layers['counts'] = adata.X.copy()` if you need them, and run "
            "`sc.pp.normalize_total(adata, target_sum=1e4); sc.pp.log1p(adata)`; or name a layer that is normalised "
            "with `layer=...`. Integers that are no counts, such as pixel intensities, need a transformation such as "
            "`np.arcsinh`"
        )
        largest = max(block.max() for _, block in _blocks(X))
        raise ValueError(
            f"{where} looks like raw counts (non-negative integers up to {largest:g}), but log-normalised values are "
            f"expected. {fix}."
        )


def looks_like_counts(X: Any) -> bool:
    """Whether all non-zero values of up to 2000 rows are positive integers and the largest is above 1.

    Parameters
    ----------
    X
        Matrix ``[cells, G]``. Rows are drawn with a fixed seed.

    Examples
    --------
    >>> looks_like_counts(np.array([[0.0, 3.0], [1.0, 0.0]])), looks_like_counts(np.array([[0.0, 0.7], [1.0, 0.0]]))
    (True, False)
    """
    n_rows = X.shape[0]
    if n_rows > _SAMPLED_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(n_rows, _SAMPLED_ROWS, replace=False))
        X = (X.tocsr() if sp.issparse(X) else X)[rows]
    elif isinstance(X, RowsOnDisk):
        X = X[:]
    values = X.data if sp.issparse(X) else np.asarray(X)
    return bool(values.size and values.min() >= 0 and values.max() > 1 and (values == np.floor(values)).all())


def _check_finite(X: Any, obs_names: pd.Index, var_names: pd.Index, where: str) -> None:
    """Raise if a value is NaN or infinite."""
    bad, first = _find(X, lambda values: ~np.isfinite(values))
    if bad:
        raise ValueError(
            f"{where} holds {bad} NaN or infinite values, the first in cell {obs_names[first[0]]!r}, gene "
            f"{var_names[first[1]]!r}. Replace them, or leave out the cells or genes concerned."
        )


def _check_counts(X: Any, obs_names: pd.Index, var_names: pd.Index, where: str) -> None:
    """Raise if a value is no count."""
    bad, first = _find(X, lambda values: (values < 0) | (values != np.floor(values)))
    if bad:
        raise ValueError(
            f"{where} should hold raw counts, but {bad} values are negative or no integers, the first in cell "
            f"{obs_names[first[0]]!r}, gene {var_names[first[1]]!r}. Name the layer of raw counts with "
            "`counts_layer=...`."
        )


def _blocks(X: Any) -> Iterable[tuple[int, Any]]:
    """First rows and blocks of a matrix in a file; one in memory is one block."""
    return X.blocks() if isinstance(X, RowsOnDisk) else ((0, X),)


def _find(X: Any, is_bad: Any) -> tuple[int, tuple[int, int]]:
    """Return the number of bad values and the position of the first."""
    count, position = 0, (0, 0)
    for start, block in _blocks(X):
        found, first = _find_in_memory(block, is_bad)
        if found and not count:
            position = (start + first[0], first[1])
        count += found
    return count, position


def _find_in_memory(X: Any, is_bad: Any) -> tuple[int, tuple[int, int]]:
    """Do that for a matrix in memory, in chunks of 2^24 values."""
    values = X.data if sp.issparse(X) else X
    step = _CHUNK_VALUES if sp.issparse(X) else max(1, _CHUNK_VALUES // X.shape[1])
    count, position = 0, None
    for start in range(0, len(values), step):
        bad = is_bad(values[start : start + step])
        found = int(np.count_nonzero(bad))
        if found and position is None:
            position = tuple(int(i) for i in np.argwhere(bad)[0])
            position = (position[0] + start, *position[1:])
        count += found
    if position is None:
        return 0, (0, 0)
    return count, _sparse_position(X, position[0]) if sp.issparse(X) else (position[0], position[1])


def _sparse_position(X: Any, stored: int) -> tuple[int, int]:
    """Row and column of a stored value."""
    coordinates = X.tocoo()
    return int(coordinates.row[stored]), int(coordinates.col[stored])
