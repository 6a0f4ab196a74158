"""Energy distance between two sets of cells, differentiable and exact about padding."""

from __future__ import annotations

import torch
from torch import Tensor

from pertcast.diffusion._masking import cell_mask

__all__ = ["energy_distance"]

#: Squared distances below this many rounding errors of the squared norms are taken as zero.
_ROUNDING_ERRORS = 8.0


def energy_distance(
    x: Tensor,
    y: Tensor,
    x_mask: Tensor | None = None,
    y_mask: Tensor | None = None,
    *,
    unbiased: bool = True,
) -> Tensor:
    r"""Energy distance of each pair of sets, :math:`2 E\|x - y\| - E\|x - x'\| - E\|y - y'\|`.

    The squared maximum mean discrepancy of the kernel :math:`-\|x - y\|` (Szekely and Rizzo 2013; Sejdinovic et al.
    2013): zero only for equal distributions, without a bandwidth.

    Parameters
    ----------
    x
        First sets of cells, [B, M, K].
    y
        Second sets of cells, [B, N, K].
    x_mask
        True for the real cells of ``x``, boolean, [B, M]. What padded cells hold, NaN included, changes neither the
        value nor the gradient. None means that all cells are real.
    y_mask
        The same for ``y``, [B, N].
    unbiased
        Average :math:`\|x - x'\|` over the n (n - 1) pairs of different cells (U-statistic: expectation zero for
        equal distributions, single values may be negative). Otherwise over all n :sup:`2` pairs, each cell with
        itself included (V-statistic: never negative, too large by the order of 1/n). A single cell says nothing
        about the spread of its set: with n = 1 the within term of that side is 0, without gradient, in both forms.

    Returns
    -------
    Energy distance in the units of the cells, float32 or float64, [B].

    Raises
    ------
    ValueError
        If the shapes do not agree, a mask is not boolean, or a set has no real cell.

    Notes
    -----
    Squared distances come from a matrix product of centred cells. Memory is O(B (M + N)^2) for the distances plus
    a few centred copies of the cells, never [B, M, N, K]. The within terms are centred on the mean of their set, the
    term between on the mean of ``y``, so the resolution follows the spread of the cells and not their distance from
    the origin: in float32 the result is as accurate as that of direct differences, and faster for many genes. Two
    cells closer than sqrt(8 eps) of the norms of both (0.001 in float32) are taken as coincident: their distance and
    its gradient are zero. Half precision is computed in float32, also under autocast.

    Examples
    --------
    >>> x, y = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[3.0], [3.0]]])
    >>> energy_distance(x, y)  # 2 * (3 + 1) / 2 - 2 - 0
    tensor([2.])
    >>> energy_distance(x, y, unbiased=False)  # 2 * (3 + 1) / 2 - 2 / 2 - 0
    tensor([3.])
    """
    if x.ndim != 3 or y.ndim != 3 or x.shape[0] != y.shape[0] or x.shape[2] != y.shape[2]:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}; [B, M, K] and [B, N, K] of equal B and K are needed."
        )
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    x, x_mask = _real_cells(x.to(dtype), x_mask, name="x_mask")
    y, y_mask = _real_cells(y.to(dtype), y_mask, name="y_mask")
    with torch.autocast(x.device.type, enabled=False):
        y_mean = _mean(y, y_mask)
        centred_y = y - y_mean
        between = _distances(x - y_mean, centred_y, _pairs(x_mask, y_mask)).sum((1, 2))
        return (
            2 * between / (x_mask.sum(1) * y_mask.sum(1))
            - _within(x - _mean(x, x_mask), x_mask, unbiased=unbiased)
            - _within(centred_y, y_mask, unbiased=unbiased)
        )


def _within(x: Tensor, mask: Tensor, *, unbiased: bool) -> Tensor:
    """Mean distance between the real cells of each set, 0 for a single cell, [B]."""
    n = mask.sum(1)
    different = ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    return _distances(x, x, _pairs(mask, mask) & different).sum((1, 2)) / (n * (n - 1 if unbiased else n)).clamp_min(1)


def _distances(x: Tensor, y: Tensor, wanted: Tensor) -> Tensor:
    """Euclidean distances, 0 without gradient for coincident and unwanted pairs, [B, M, N]."""
    norms = x.square().sum(-1)[:, :, None] + y.square().sum(-1)[:, None, :]
    squared = norms - 2 * (x @ y.mT)
    # The square root has no gradient at 0: those pairs go around it.
    # NaN is not taken for coincident, so that it shows in the loss.
    apart = wanted & ~(squared <= _ROUNDING_ERRORS * torch.finfo(x.dtype).eps * norms)
    return squared.where(apart, 1).sqrt().where(apart, 0)


def _real_cells(x: Tensor, mask: Tensor | None, *, name: str) -> tuple[Tensor, Tensor]:
    """Cells with zeros in the padding, and their checked mask."""
    checked = cell_mask(x, mask, name=name)
    return x if mask is None else x.where(checked[..., None], 0), checked


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of the real cells as a constant, [B, 1, K]; the padding holds zeros."""
    return (x.detach().sum(1) / mask.sum(1, keepdim=True))[:, None]


def _pairs(x_mask: Tensor, y_mask: Tensor) -> Tensor:
    return x_mask[:, :, None] & y_mask[:, None, :]
