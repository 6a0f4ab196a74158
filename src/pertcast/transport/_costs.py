"""What it costs to move one cell to another."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["Cost", "pairwise_cost"]

type Cost = Literal["euclidean", "sqeuclidean"]
"""Euclidean distance, or its square (not halved)."""

#: Squared distances below this many rounding errors of the squared norms are taken as zero.
_ROUNDING_ERRORS = 8.0


def pairwise_cost(x: Tensor, y: Tensor, cost: Cost = "euclidean") -> Tensor:
    """Cost of moving each cell of ``x`` to each cell of ``y``.

    Parameters
    ----------
    x
        Cells, [..., M, K].
    y
        Cells, [..., N, K].
    cost
        ``"euclidean"`` for the distance, ``"sqeuclidean"`` for its square.

    Returns
    -------
    Costs in the units of the cells or their square, float32 or float64, [..., M, N].

    Raises
    ------
    ValueError
        If the shapes do not agree or the cost has another name.

    Notes
    -----
    Squared distances come from a matrix product of centred cells, so memory is O(M N), never O(M N K). Cells closer
    than sqrt(8 eps) of the norms of both (0.001 in float32) are taken as coincident: cost and gradient are zero. Half
    precision is computed in float32, also under autocast.

    Examples
    --------
    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0]])
    >>> pairwise_cost(x, y, "sqeuclidean").tolist()
    [[9.0], [4.0]]
    """
    if cost not in get_args(Cost.__value__):
        raise ValueError(f"`cost` must be one of {get_args(Cost.__value__)}, but found {cost!r}.")
    if x.ndim < 2 or x.ndim != y.ndim or x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}; [..., M, K] and [..., N, K] with equal leading "
            "dimensions and K are needed."
        )
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        centre = y.detach().to(dtype).mean(-2, keepdim=True)
        x, y = x.to(dtype) - centre, y.to(dtype) - centre
        norms = x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :]
        squared = norms - 2 * (x @ y.mT)
        # The square root has no gradient at 0: those pairs go around it.
        apart = ~(squared <= _ROUNDING_ERRORS * torch.finfo(dtype).eps * norms)  # true for NaN
        distances = squared.where(apart, 1)
        return (distances.sqrt() if cost == "euclidean" else distances).where(apart, 0)
