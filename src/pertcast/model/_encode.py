"""Reading cells in batches and encoding them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from mudata import MuData

from pertcast.data._expression import read_expression
from pertcast.data._keys import ScreenKeys
from pertcast.data._matrix import gather_rows
from pertcast.data._messages import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData

    from pertcast.data import ScreenMetadata

__all__ = ["encode_cells"]


def encode_cells(
    adata: AnnData | MuData,
    metadata: ScreenMetadata,
    encode: Callable[[torch.Tensor], torch.Tensor],
    *,
    device: torch.device,
    batch_size: int,
    indices: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """Encode cells of an AnnData, a batch at a time.

    Parameters
    ----------
    adata
        Cells with the genes of the training data, in any order; of a MuData the registered modality is read.
    metadata
        What the model knows of its training data.
    encode
        Maps float32 ``[n, G]`` to ``[n, F]``.
    device
        Device of the model.
    batch_size
        Cells of a batch.
    indices
        Row numbers of n cells, or a mask of all; all by default.

    Returns
    -------
    float32 ``[n, F]``.

    Raises
    ------
    KeyError, TypeError, ValueError
        See :func:`pertcast.data._expression.read_expression`; or if there is no such row.
    """
    keys = ScreenKeys.from_setup(metadata.setup_args)
    if isinstance(adata, MuData):
        keys.check_modalities(adata)
    X, columns = read_expression(keys.holder(adata, "layer"), keys, metadata)
    rows = _rows(indices, X.shape[0])
    parts = []
    for first in range(0, max(len(rows), 1), batch_size):
        cells = gather_rows(X, rows[first : first + batch_size])
        cells = cells if columns is None else cells[:, columns]
        with torch.inference_mode():
            parts.append(encode(torch.from_numpy(np.ascontiguousarray(cells)).to(device)).float().cpu().numpy())
    return np.concatenate(parts)


def _rows(indices: Sequence[int] | np.ndarray | None, n_cells: int) -> np.ndarray:
    """Row numbers of the cells that are asked for."""
    if indices is None:
        return np.arange(n_cells)
    found = np.asarray(indices)
    if found.dtype == bool and found.shape == (n_cells,):
        return np.flatnonzero(found)
    whole = np.issubdtype(found.dtype, np.integer) or not found.size
    if found.ndim != 1 or not whole or (found.size and not (found.min() >= 0 and found.max() < n_cells)):
        raise ValueError(
            f"`indices` must be row numbers from 0 to {n_cells - 1}, or a mask of the {n_cells} cells, but found "
            f"{shorten(found.ravel()[:5].tolist())} of shape {found.shape}."
        )
    return found.astype(np.int64)
