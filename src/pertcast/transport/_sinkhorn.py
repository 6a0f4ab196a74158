r"""Sinkhorn cost and divergence of populations of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pertcast.transport._costs import pairwise_cost
from pertcast.transport._entropic import entropic_cost, entropic_self_cost

if TYPE_CHECKING:
    from pertcast.transport._costs import Cost

__all__ = ["sinkhorn_cost", "sinkhorn_divergence"]


def sinkhorn_cost(
    x: Tensor,
    y: Tensor,
    *,
    epsilon: float,
    cost: Cost = "euclidean",
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-3,
) -> Tensor:
    """Entropic optimal transport cost of two populations, :func:`entropic_cost` of their pairwise costs.

    Without the correction of :func:`sinkhorn_divergence` it is above 0 even for equal populations, and smallest for
    an ``x`` that is less spread out than ``y``.

    Parameters
    ----------
    x
        First populations, [..., M, K].
    y
        Second populations, [..., N, K].
    epsilon
        Strength of the entropy, in the units of the cost. The Euclidean cost has the units of the cells.
    cost
        ``"euclidean"`` for the distance, ``"sqeuclidean"`` for its square.
    x_weights
        Weights of the cells of ``x``, or a boolean mask that is true for real cells, [..., M]. What cells of weight 0
        hold, NaN included, changes neither the value nor the gradient. Equal weights by default.
    y_weights
        The same for ``y``, [..., N].
    max_iterations
        Largest number of Sinkhorn iterations at the given ``epsilon``.
    tolerance
        Largest absolute error of the row sums of the plan, summed.

    Returns
    -------
    Costs, float32 or float64, [...]. Gradients reach ``x`` and ``y``.

    Raises
    ------
    ValueError
        If shapes do not agree, a value is not finite, weights are negative or sum to 0, or an option is out of range.

    Warns
    -----
    RuntimeWarning
        If the tolerance is not reached.

    Examples
    --------
    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[5.0], [6.0]])
    >>> sinkhorn_cost(x, y, epsilon=0.1, cost="sqeuclidean").item()  # 25 + 0.1 log 2
    25.069...
    """
    x, y = _without_padding(x, x_weights, "x_weights"), _without_padding(y, y_weights, "y_weights")
    with torch.autocast(x.device.type, enabled=False):
        return entropic_cost(
            pairwise_cost(x, y, cost),
            epsilon=epsilon,
            row_weights=x_weights,
            column_weights=y_weights,
            max_iterations=max_iterations,
            tolerance=tolerance,
        )


def sinkhorn_divergence(
    x: Tensor,
    y: Tensor,
    *,
    epsilon: float,
    cost: Cost = "euclidean",
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-3,
) -> Tensor:
    r"""Sinkhorn divergence of two populations (Genevay et al., AISTATS 2018; Feydy et al., AISTATS 2019, eq. 3).

    .. math:: \mathrm{OT}(x, y) - \mathrm{OT}(x, x) / 2 - \mathrm{OT}(y, y) / 2

    with the entropic cost of :func:`sinkhorn_cost`, entropy included. It is 0 for equal populations and above 0
    otherwise. It goes from the exact transport cost, for ``epsilon`` towards 0, to
    :math:`E\,C(x, y) - E\,C(x, x') / 2 - E\,C(y, y') / 2` for a large ``epsilon``: with the Euclidean cost this is half
    the energy distance.

    Parameters
    ----------
    x
        First populations, [..., M, K].
    y
        Second populations, [..., N, K].
    epsilon
        Strength of the entropy, in the units of the cost. The Euclidean cost has the units of the cells.
    cost
        ``"euclidean"`` for the distance, ``"sqeuclidean"`` for its square.
    x_weights
        Weights of the cells of ``x``, or a boolean mask that is true for real cells, [..., M]. What cells of weight 0
        hold, NaN included, changes neither the value nor the gradient. Equal weights by default.
    y_weights
        The same for ``y``, [..., N].
    max_iterations
        Largest number of Sinkhorn iterations at the given ``epsilon``, in each of the three problems.
    tolerance
        Largest absolute error of the row sums of each plan, summed.

    Returns
    -------
    Divergences in the units of the cost, float32 or float64, [...]. Gradients reach ``x`` and ``y``.

    Raises
    ------
    ValueError
        If shapes do not agree, a value is not finite, weights are negative or sum to 0, or an option is out of range.

    Warns
    -----
    RuntimeWarning
        If the tolerance is not reached.

    Examples
    --------
    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[5.0], [6.0]])
    >>> round(sinkhorn_divergence(x, y, epsilon=0.1, cost="sqeuclidean").item(), 4)
    25.0
    """
    x, y = _without_padding(x, x_weights, "x_weights"), _without_padding(y, y_weights, "y_weights")
    with torch.autocast(x.device.type, enabled=False):
        between = entropic_cost(
            pairwise_cost(x, y, cost),
            epsilon=epsilon,
            row_weights=x_weights,
            column_weights=y_weights,
            max_iterations=max_iterations,
            tolerance=tolerance,
        )
        within = [
            entropic_self_cost(
                pairwise_cost(cells, cells, cost),
                epsilon=epsilon,
                weights=weights,
                max_iterations=max_iterations,
                tolerance=tolerance,
            )
            for cells, weights in ((x, x_weights), (y, y_weights))
        ]
        return between - (within[0] + within[1]) / 2


def _without_padding(x: Tensor, weights: Tensor | None, name: str) -> Tensor:
    """Cells with the mean of the others in place of those of weight 0, so that these do not move the centre."""
    if weights is None:
        return x
    if weights.shape != x.shape[:-1]:
        raise ValueError(f"`{name}` has shape {tuple(weights.shape)}; {tuple(x.shape[:-1])} is needed for these cells.")
    real = (weights != 0)[..., None]
    mean = x.detach().where(real, 0).sum(-2, keepdim=True) / real.sum(-2, keepdim=True).clamp_min(1)
    return x.where(real, mean)
