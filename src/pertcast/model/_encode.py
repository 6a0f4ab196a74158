"""Reading cells in batches and encoding them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from mudata import MuData

from pertcast.data._expression import read_expression
from pertcast.data._keys import ScreenKeys
from pertcast.data._matrix import gather_rows

if TYPE_CHECKING:
    from collections.abc import Callable

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
) -> np.ndarray:
    """Encode all cells of an AnnData, a batch at a time.

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

    Returns
    -------
    float32 ``[n, F]``.

    Raises
    ------
    KeyError, TypeError, ValueError
        See :func:`pertcast.data._expression.read_expression`.
    """
    keys = ScreenKeys.from_setup(metadata.setup_args)
    if isinstance(adata, MuData):
        keys.check_modalities(adata)
    X, columns = read_expression(keys.holder(adata, "layer"), keys, metadata)
    parts = []
    for first in range(0, X.shape[0], batch_size):
        cells = gather_rows(X, np.arange(first, min(first + batch_size, X.shape[0])))
        cells = cells if columns is None else cells[:, columns]
        with torch.inference_mode():
            parts.append(encode(torch.from_numpy(np.ascontiguousarray(cells)).to(device)).float().cpu().numpy())
    return np.concatenate(parts)
