"""Tensors of a sampling request, and the draws that training needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch import Generator

__all__ = ["SampleRequest", "choose_sources"]


class SampleRequest(NamedTuple):
    """What is needed to draw B sets of M cells of one condition."""

    source: Tensor
    """Control cell that each cell starts from, [B, M, G]."""
    control: Tensor
    """Control cells that describe the context, [1, N, G]."""
    control_mask: Tensor
    """Where ``control`` holds a cell, bool [1, N]."""
    shift: Tensor
    """Forecast of the mean shift by the anchor, [1, G]."""
    part_ids: Tensor
    """Ids of the single perturbations, int64 [1, K]."""
    part_mask: Tensor
    """Where ``part_ids`` holds one, bool [1, K]."""
    dosage: Tensor
    """Dosage, [1]."""
    covariates: Tensor
    """Continuous covariates, [1, V]."""
    context: Tensor
    """Context code, int64 [1]."""
    batch: Tensor
    """Batch code, int64 [1]."""
    stand_ins: tuple[Tensor, ...] = ()
    """Ids that speak for each part in its place (their mean does), K tensors int64 [S]; none by default."""


def choose_sources(control: Tensor, mask: Tensor, n_cells: int, generator: Generator) -> Tensor:
    """Draw the control cell that each cell of a set starts from.

    Controls are used in random order, again from the start where there are fewer than cells.

    Parameters
    ----------
    control
        [B, N, G].
    mask
        Where ``control`` holds a cell, bool [B, N]; at least one in each set.
    n_cells
        Number M of cells.
    generator
        Source of randomness.

    Returns
    -------
    [B, M, G].
    """
    keys = torch.rand(mask.shape, generator=generator, device=mask.device).masked_fill(~mask, 2.0)
    order = keys.argsort(1)
    position = torch.arange(n_cells, device=mask.device) % mask.sum(1, keepdim=True)
    index = order.gather(1, position)
    return control.gather(1, index[..., None].expand(-1, -1, control.shape[2]))
