"""Tensors of a sampling request, and the draws that training needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch import Generator

__all__ = ["SampleRequest", "choose_sources"]


class SampleRequest(NamedTuple):
    """What is needed to draw B sets of M cells of C conditions.

    Examples
    --------
    >>> import torch
    >>> code = torch.zeros(2, dtype=torch.long)
    >>> request = SampleRequest(
    ...     source=torch.rand(3, 4, 5),  # three sets of four cells with five genes
    ...     control=torch.rand(2, 6, 5),  # two conditions
    ...     control_mask=torch.ones(2, 6, dtype=torch.bool),
    ...     shift=torch.zeros(2, 5),
    ...     part_ids=code[:, None],
    ...     part_mask=torch.ones(2, 1, dtype=torch.bool),
    ...     dosage=torch.tensor([1.0, 10.0]),
    ...     covariates=torch.zeros(2, 0),
    ...     context=code,
    ...     batch=code,
    ...     owner=torch.tensor([0, 1, 1]),
    ... )
    >>> request.per_set(request.dosage)
    tensor([ 1., 10., 10.])
    """

    source: Tensor
    """Control cell that each cell starts from, [B, M, G]."""
    control: Tensor
    """Control cells that describe the context, [C, N, G]."""
    control_mask: Tensor
    """Where ``control`` holds a cell, bool [C, N]."""
    shift: Tensor
    """Forecast of the mean shift by the anchor, [C, G]."""
    part_ids: Tensor
    """Ids of the single perturbations, int64 [C, K]."""
    part_mask: Tensor
    """Where ``part_ids`` holds one, bool [C, K]."""
    dosage: Tensor
    """Dosage, [C]."""
    covariates: Tensor
    """Continuous covariates, [C, V]."""
    context: Tensor
    """Context code, int64 [C]."""
    batch: Tensor
    """Batch code, int64 [C]."""
    stand_ins: tuple[Tensor, ...] = ()
    """Ids that speak for each part in its place (their mean does), K tensors int64 [S]; then C is 1."""
    owner: Tensor | None = None
    """Condition of each set, int64 [B]; by default there is one condition, which all sets share."""
    detection: Tensor | None = None
    """Share of all controls that express each gene, [C, G]; for modules that ask for it."""

    def per_set(self, values: Tensor) -> Tensor:
        """Values of conditions [C, ...] as values of sets, [B, ...]."""
        if self.owner is None:
            return values.expand(len(self.source), *values.shape[1:])
        return values[self.owner]


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
