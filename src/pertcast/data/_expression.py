"""Finding and checking the expression of given cells, for a model that knows its genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pertcast.data._genes import align_genes
from pertcast.data._matrix import row_major
from pertcast.data._matrix_checks import check_matrix
from pertcast.data._messages import did_you_mean, shorten
from pertcast.data._on_disk import RowsOnDisk, file_lacks_X

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

    from pertcast.data._keys import ScreenKeys
    from pertcast.data._matrix import Matrix
    from pertcast.data._screen import ScreenMetadata

__all__ = ["read_expression"]


def read_expression(
    holder: AnnData, keys: ScreenKeys, metadata: ScreenMetadata, rows: np.ndarray | None = None
) -> tuple[Matrix, np.ndarray | None]:
    """Find the expression of cells, and check it.

    Parameters
    ----------
    holder
        AnnData with the genes of the training data, in any order.
    keys
        Where the parts of the training data are.
    metadata
        What the model knows of its training data.
    rows
        Row numbers of the cells to check; all by default.

    Returns
    -------
    Matrix of all cells, laid out by rows, and the columns of the G genes; None where they are all columns in the order
    of the model.

    Raises
    ------
    KeyError
        If there is no such layer.
    TypeError
        If the expression is neither in memory nor in a file that can be read.
    ValueError
        If a gene is missing or repeated, a value is NaN or infinite, or the values are raw counts.
    """
    if keys.layer is not None and keys.layer not in holder.layers:
        layers = [str(name) for name in holder.layers.keys() if name is not None]
        raise KeyError(
            f"No layer {keys.layer!r} in adata.layers, which holds {shorten(layers) or 'nothing'}."
            f"{did_you_mean(keys.layer, layers)} The model was set up with `layer={keys.layer!r}`."
        )
    where = "adata.X" if keys.layer is None else f"adata.layers[{keys.layer!r}]"
    columns = align_genes(holder, pd.Index(metadata.var_names))
    if keys.layer is None:
        found: Any = None if file_lacks_X(holder) else holder.X
    else:
        found = holder.layers[keys.layer]
    if found is None:
        raise ValueError(f"{where} is empty. Put the expression of the cells there.")
    X: Any = row_major(found, where)
    genes = holder.var_names if columns is None else holder.var_names[columns]
    for cells, names in _parts(X, holder.obs_names, rows):
        check_matrix(cells if columns is None else cells[:, columns], names, genes, where=where)
    return X, columns


def _parts(X: Any, names: pd.Index, rows: np.ndarray | None) -> Iterator[tuple[Any, pd.Index]]:
    """Cells to check, and their names: all at once, or some at a time where they are in a file."""
    chosen = np.arange(len(names)) if rows is None else np.sort(rows)
    if isinstance(X, RowsOnDisk):
        for part in np.array_split(chosen, -(-len(chosen) // X.block)):
            yield X[part], names[part]
    elif len(chosen) == len(names):
        yield X, names
    else:
        yield X[chosen], names[chosen]
