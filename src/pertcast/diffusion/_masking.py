"""Masks of padded sets."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cell_mask"]


def cell_mask(x: Tensor, mask: Tensor | None, *, name: str) -> Tensor:
    """Mask of the real cells of ``x`` [B, M, K], all True if none is given, checked, [B, M].

    Raises
    ------
    ValueError
        If the mask is not boolean, has another shape, or leaves a set without a cell. The last check reads one number
        back from the device.
    """
    if mask is None:
        if x.shape[1] == 0:
            raise ValueError(f"The cells have shape {tuple(x.shape)}; every set needs at least one cell.")
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if mask.dtype != torch.bool or mask.shape != x.shape[:2]:
        raise ValueError(
            f"{name} is {mask.dtype} of shape {tuple(mask.shape)}; a torch.bool mask of shape {tuple(x.shape[:2])} is "
            "needed, True for real cells."
        )
    if not bool(mask.any(1).all()):
        empty = (~mask.any(1)).nonzero().flatten().tolist()
        raise ValueError(f"{name} marks no real cell in sets {empty}. Leave empty sets out of the batch.")
    return mask
