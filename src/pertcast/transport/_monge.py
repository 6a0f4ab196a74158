r"""Monge gap of a map between populations of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pertcast.transport._costs import pairwise_cost
from pertcast.transport._entropic import entropic_cost

if TYPE_CHECKING:
    from pertcast.transport._costs import Cost

__all__ = ["monge_gap"]


def monge_gap(
    x: Tensor,
    y: Tensor,
    *,
    epsilon: float,
    cost: Cost = "euclidean",
    weights: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-3,
) -> Tensor:
    r"""Monge gap of a map that sends x_i to y_i (Uscidda and Cuturi, ICML 2023, definition 3.1, with entropy).

    .. math:: \sum_i a_i \, c(x_i, y_i) - \mathrm{OT}_\epsilon(x, y)

    What the map costs beyond the cheapest way to move the population ``x`` to the population ``y``. It says nothing
    about whether ``y`` is where the cells should go.

    Parameters
    ----------
    x
        Cells, [..., M, K].
    y
        The same cells after the map, [..., M, K].
    epsilon
        Strength of the entropy in the transport cost, in the units of the cost.
    cost
        ``"euclidean"`` for the distance, ``"sqeuclidean"`` for its square.
    weights
        Weights a of the cells, or a boolean mask that is true for real cells, [..., M]. Equal weights by default.
    max_iterations
        Largest number of Sinkhorn iterations.
    tolerance
        Largest absolute error of the row sums of the plan, summed.

    Returns
    -------
    Gaps in the units of the cost, [...]. Gradients reach ``x`` and ``y``.

    Raises
    ------
    ValueError
        If the shapes are not equal, a value is not finite, weights are negative or sum to 0, or an option is out of
        range.

    Warns
    -----
    RuntimeWarning
        If the tolerance is not reached. The gap is then too large.

    Notes
    -----
    The transport cost holds :math:`\epsilon \, \mathrm{KL}(P | a a^\top)`, see :func:`entropic_cost`. So the gap of an
    optimal map is not 0 but lies between :math:`-\epsilon \log M` and 0 for equal weights, and no gap is lower.

    Examples
    --------
    >>> x = torch.tensor([[0.0], [1.0]])
    >>> round(monge_gap(x, x + 5, epsilon=0.01, cost="sqeuclidean").item(), 3)  # a shift is optimal: 0 - 0.01 log 2
    -0.007
    >>> round(monge_gap(x, 6 - x, epsilon=0.01, cost="sqeuclidean").item(), 3)  # crossing paths cost 1 more
    0.993
    """
    if x.shape != y.shape:
        raise ValueError(f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}; a map keeps the shape of its cells.")
    if weights is not None:
        if weights.shape != x.shape[:-1]:
            raise ValueError(f"`weights` has shape {tuple(weights.shape)}; {tuple(x.shape[:-1])} is needed.")
        real = (weights != 0)[..., None]
        x, y = x.where(real, 0), y.where(real, 0)
    with torch.autocast(x.device.type, enabled=False):
        costs = pairwise_cost(x, y, cost)
        own = costs.diagonal(dim1=-2, dim2=-1)
        transported = entropic_cost(
            costs,
            epsilon=epsilon,
            row_weights=weights,
            column_weights=weights,
            max_iterations=max_iterations,
            tolerance=tolerance,
        )
        if weights is None:
            return own.mean(-1) - transported
        share = weights.detach().to(own)
        return (own * share).sum(-1) / share.sum(-1) - transported
