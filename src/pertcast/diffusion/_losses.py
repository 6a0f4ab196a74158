"""The training loss of PerturbDiff."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pertcast.diffusion._energy import energy_distance
from pertcast.diffusion._masking import cell_mask
from pertcast.diffusion._process import same_shape

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PopulationLoss", "masked_mse", "population_loss"]


class PopulationLoss(NamedTuple):
    """Loss of each set, from :func:`population_loss`.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[[0.0], [1.0]]])
    >>> loss = population_loss(x.flip(1), x, unbiased=False)  # the same cells in another order
    >>> loss.energy, loss.mse
    (tensor([0.]), tensor([1.]))
    """

    total: Tensor
    """``energy + mse_weight * mse``, [B]."""
    energy: Tensor
    """Energy distance divided by the square root of the number of features, [B]."""
    mse: Tensor
    """Mean squared error over cells and features, [B]."""


def masked_mse(x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error of each set over its real cells and all features.

    Parameters
    ----------
    x
        Cells, [B, M, K].
    y
        Cells paired with those of ``x``, [B, M, K].
    mask
        True for real cells, boolean, [B, M]. What padded cells hold, NaN included, does not matter. None means that
        all cells are real.

    Returns
    -------
    Mean squared error, [B].

    Raises
    ------
    ValueError
        If the shapes do not agree, the mask is not boolean, or a set has no real cell.

    Examples
    --------
    >>> import torch
    >>> masked_mse(torch.tensor([[[1.0], [2.0]]]), torch.zeros(1, 2, 1), torch.tensor([[True, False]]))
    tensor([1.])
    """
    same_shape(x=x, y=y)
    mask = cell_mask(x, mask, name="mask")
    error = (x - y).where(mask[..., None], 0)
    return error.square().sum((1, 2)) / (mask.sum(1) * x.shape[2])


def population_loss(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    mse_weight: float = 0.0,
    unbiased: bool = True,
) -> PopulationLoss:
    r"""Loss between predicted and real populations (PerturbDiff, arXiv 2602.19685, Eq. 8).

    .. math:: L = \tfrac{1}{\sqrt{K}} D_{\text{energy}}(\hat x, x) + w \, \tfrac{1}{M K} \sum_j \|\hat x_j - x_j\|^2

    Distances grow with the square root of the number of features K, squared errors with K. Both terms are put on the
    scale of one feature here, so that one weight suits any K. Eq. 8 as printed, with unscaled terms, is
    :math:`\sqrt{K}` times the loss with :math:`w = \sqrt{K}`; half an energy distance plus the mean squared error
    is, up to a factor, :math:`w = 2 / \sqrt{K}`.

    Parameters
    ----------
    prediction
        Predicted cells, [B, M, K].
    target
        Real cells, [B, M, K]. Only the second term depends on which cell is paired with which.
    mask
        True for real cells, boolean, [B, M]. What padded cells hold, NaN included, does not matter.
    mse_weight
        The weight ``w``, at least 0. With 0 the squared error is reported but has no gradient in ``total``.
    unbiased
        Use the U-statistic of the energy distance (see :func:`energy_distance`).

    Returns
    -------
    Total, energy and squared error of each set.

    Raises
    ------
    ValueError
        If the shapes do not agree, the mask is not boolean, a set has no real cell, or ``mse_weight`` is negative.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[[0.0], [1.0]]])
    >>> population_loss(x + 2, x, mse_weight=0.5)
    PopulationLoss(total=tensor([4.]), energy=tensor([2.]), mse=tensor([4.]))
    """
    if not mse_weight >= 0:
        raise ValueError(f"mse_weight is {mse_weight}; it must not be negative.")
    same_shape(prediction=prediction, target=target)
    energy = energy_distance(prediction, target, mask, mask, unbiased=unbiased) / math.sqrt(target.shape[2])
    mse = masked_mse(prediction if mse_weight > 0 else prediction.detach(), target, mask)
    total = energy + mse_weight * mse if mse_weight > 0 else energy
    return PopulationLoss(total, energy, mse)
