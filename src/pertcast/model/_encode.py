"""Reading cells in batches and encoding them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from pertcast.data import align_genes
from pertcast.data._matrix import gather_rows, row_major

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pertcast.data import ScreenMetadata

__all__ = ["encode_cells"]


def encode_cells(
    adata: Any,
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
    """
    setup = metadata.setup_args
    modality = (setup.get("modalities") or {}).get("layer")
    holder = adata if modality is None else adata[modality]
    columns = align_genes(holder, pd.Index(metadata.var_names))
    X = row_major(holder.X if setup.get("layer") is None else holder.layers[setup["layer"]])
    parts = []
    for first in range(0, holder.n_obs, batch_size):
        cells = gather_rows(X, np.arange(first, min(first + batch_size, holder.n_obs)))
        cells = cells if columns is None else cells[:, columns]
        with torch.inference_mode():
            parts.append(encode(torch.from_numpy(np.ascontiguousarray(cells)).to(device)).float().cpu().numpy())
    return np.concatenate(parts)
