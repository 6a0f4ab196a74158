r"""Entropic optimal transport for given costs, by Sinkhorn iterations in the log domain."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["entropic_cost", "entropic_plan", "entropic_self_cost"]

#: Factor between successive values of epsilon on the way down to the one asked for.
_ANNEALING = 0.5


def entropic_cost(
    cost: Tensor,
    *,
    epsilon: float,
    row_weights: Tensor | None = None,
    column_weights: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-3,
) -> Tensor:
    r"""Entropic optimal transport cost (Cuturi, NeurIPS 2013; Peyré and Cuturi, *Computational OT*, 2019, chapter 4).

    .. math:: \min_P \sum_{ij} P_{ij} C_{ij} + \epsilon \, \mathrm{KL}(P \,|\, a b^\top)

    over plans P of row sums a and column sums b, with the relative entropy
    :math:`\mathrm{KL}(P | Q) = \sum_{ij} P_{ij} \log(P_{ij} / Q_{ij})`.

    Parameters
    ----------
    cost
        Cost C of moving each of M cells to each of N, [..., M, N].
    epsilon
        Strength of the entropy, in the units of the cost. 0 would be exact transport, infinity moves every cell
        everywhere: the cost is then the mean of C.
    row_weights
        Weights a of the rows, not negative, [..., M]. They are divided by their sum; a boolean mask is fine. Rows of
        weight 0 count for nothing and receive no gradient. Equal weights by default.
    column_weights
        The same for the columns, b, [..., N].
    max_iterations
        Largest number of iterations, those on the way down to ``epsilon`` not counted.
    tolerance
        Iterations stop when the row sums of the plan differ from a by no more than this, summed over rows, in each
        problem of the batch. The error of the cost is of second order in it, that of the gradient of first order.

    Returns
    -------
    Costs in the units of ``cost``, [...]. Gradients reach ``cost``: they are the plan P. Weights are constants.

    Raises
    ------
    ValueError
        If a cost is not finite, shapes do not agree, weights are negative or sum to 0, or an option is out of range.

    Warns
    -----
    RuntimeWarning
        If the tolerance is not reached. The cost is then too small.

    Notes
    -----
    For equal weights, the cost with :math:`-\epsilon H(P)`, the entropy of the plan, in place of
    :math:`\epsilon \, \mathrm{KL}` is smaller by :math:`\epsilon \log(M N)`; their gradients are equal.

    An iteration takes O(M N), about range(C) / epsilon of them are needed. Epsilon starts at the largest cost and is
    halved with each of the first iterations, which saves most of them.

    Examples
    --------
    >>> cost = torch.tensor([[0.0, 4.0], [4.0, 0.0]], requires_grad=True)
    >>> value = entropic_cost(cost, epsilon=0.1)
    >>> round(value.item(), 4)  # 0 + 0.1 log 2
    0.0693
    >>> value.backward()
    >>> cost.grad.diagonal()  # the plan: every cell stays where it is
    tensor([0.5000, 0.5000])
    """
    cost, log_a, log_b, f, g = _solve(cost, epsilon, row_weights, column_weights, max_iterations, tolerance)
    return _dual(cost, f, g, log_a, log_b, epsilon)


@torch.no_grad()
def entropic_plan(
    cost: Tensor,
    *,
    epsilon: float,
    row_weights: Tensor | None = None,
    column_weights: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-3,
) -> Tensor:
    """Entropic optimal transport plan: the P at which :func:`entropic_cost` is reached, without gradient.

    Parameters
    ----------
    cost
        Cost C of moving each of M cells to each of N, [..., M, N].
    epsilon
        Strength of the entropy, in the units of the cost.
    row_weights
        Weights a of the rows, as for :func:`entropic_cost`, [..., M].
    column_weights
        Weights b of the columns, [..., N].
    max_iterations
        As for :func:`entropic_cost`.
    tolerance
        As for :func:`entropic_cost`.

    Returns
    -------
    Plans, [..., M, N]. Column sums equal b up to rounding, row sums equal a up to the tolerance.

    Raises
    ------
    ValueError
        As :func:`entropic_cost`.

    Warns
    -----
    RuntimeWarning
        If the tolerance is not reached.

    Examples
    --------
    >>> entropic_plan(torch.tensor([[0.0, 4.0], [4.0, 0.0]]), epsilon=0.1).round(decimals=4)
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    cost, log_a, log_b, f, _ = _solve(cost, epsilon, row_weights, column_weights, max_iterations, tolerance)
    g = _softmin(cost.mT, f, log_a, epsilon)
    return _plan(cost, f, g, log_a, log_b, epsilon)


def _solve(
    cost: Tensor,
    epsilon: float,
    row_weights: Tensor | None,
    column_weights: Tensor | None,
    max_iterations: int,
    tolerance: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Cost, logarithms of the weights, and potentials of rows and columns."""
    cost, largest = _checked(cost, epsilon, max_iterations, tolerance)
    log_a = _log_weights(row_weights, cost.shape[:-1], cost, "row_weights")
    log_b = _log_weights(column_weights, (*cost.shape[:-2], cost.shape[-1]), cost, "column_weights")
    with torch.no_grad():
        fixed = cost.detach()
        f = cost.new_zeros(log_a.shape)
        for step in _annealed(largest, epsilon):
            f = _softmin(fixed, _softmin(fixed.mT, f, log_a, step), log_b, step)
        for _ in range(max_iterations):
            g = _softmin(fixed.mT, f, log_a, epsilon)
            f, previous = _softmin(fixed, g, log_b, epsilon), f
            if _excess(previous, f, log_a, epsilon) <= tolerance:
                break
        else:
            _warn(max_iterations, tolerance, epsilon, stacklevel=4)
    return cost, log_a, log_b, f, g


def entropic_self_cost(
    cost: Tensor,
    *,
    epsilon: float,
    weights: Tensor | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-3,
) -> Tensor:
    """Entropic optimal transport cost of a population to itself.

    The same as :func:`entropic_cost` with equal weights of rows and columns and a symmetric cost. Both potentials are
    then equal, and the mean of the old and the new one is a better step (Feydy et al., AISTATS 2019, section 3.1): few
    iterations are needed.

    Parameters
    ----------
    cost
        Cost of moving each of N cells to each other, symmetric, [..., N, N].
    epsilon
        Strength of the entropy, in the units of the cost.
    weights
        Weights of the cells, not negative, [..., N]. Equal by default.
    max_iterations
        As for :func:`entropic_cost`.
    tolerance
        As for :func:`entropic_cost`.

    Returns
    -------
    Costs in the units of ``cost``, [...].

    Raises
    ------
    ValueError
        As :func:`entropic_cost`, and if the cost is not square.

    Warns
    -----
    RuntimeWarning
        If the tolerance is not reached.

    Examples
    --------
    >>> round(entropic_self_cost(torch.tensor([[0.0, 4.0], [4.0, 0.0]]), epsilon=0.1).item(), 4)
    0.0693
    """
    cost, largest = _checked(cost, epsilon, max_iterations, tolerance)
    if cost.shape[-1] != cost.shape[-2]:
        raise ValueError(f"The cost of a population to itself must be square, but its shape is {tuple(cost.shape)}.")
    log_a = _log_weights(weights, cost.shape[:-1], cost, "weights")
    with torch.no_grad():
        fixed = cost.detach()
        f = cost.new_zeros(log_a.shape)
        for step in _annealed(largest, epsilon):
            f = (f + _softmin(fixed, f, log_a, step)) / 2
        for _ in range(max_iterations):
            new = _softmin(fixed, f, log_a, epsilon)
            error = _excess(f, new, log_a, epsilon)
            f = (f + new) / 2
            if error <= tolerance:
                break
        else:
            _warn(max_iterations, tolerance, epsilon, stacklevel=3)
    return _dual(cost, f, f, log_a, log_a, epsilon)


def _softmin(cost: Tensor, potential: Tensor, log_weights: Tensor, epsilon: float) -> Tensor:
    """Potential of the rows that gives the plan its row sums, for a potential of the columns, [..., M]."""
    return -epsilon * torch.logsumexp((potential / epsilon + log_weights)[..., None, :] - cost / epsilon, -1)


def _excess(f: Tensor, right: Tensor, log_weights: Tensor, epsilon: float) -> float:
    """Absolute error of the row sums for the potential f, where another would give them right; the largest sum."""
    return float((log_weights.exp() * torch.expm1((f - right) / epsilon).abs()).sum(-1).max())


def _dual(cost: Tensor, f: Tensor, g: Tensor, log_a: Tensor, log_b: Tensor, epsilon: float) -> Tensor:
    """Objective of the dual problem, [...]; its derivative by the cost is the plan."""
    plan = _plan(cost, f, g, log_a, log_b, epsilon)
    return (log_a.exp() * f).sum(-1) + (log_b.exp() * g).sum(-1) - epsilon * (plan.sum((-2, -1)) - 1)


def _plan(cost: Tensor, f: Tensor, g: Tensor, log_a: Tensor, log_b: Tensor, epsilon: float) -> Tensor:
    """Plan that belongs to two potentials, [..., M, N]."""
    return ((f / epsilon + log_a)[..., None] + (g / epsilon + log_b)[..., None, :] - cost / epsilon).exp()


def _annealed(largest: float, epsilon: float) -> Iterator[float]:
    """Values of epsilon from the largest cost down to, and without, the one asked for."""
    while largest > epsilon:
        yield largest
        largest *= _ANNEALING


def _checked(cost: Tensor, epsilon: float, max_iterations: int, tolerance: float) -> tuple[Tensor, float]:
    """Cost in single precision at least, and its largest value."""
    if cost.ndim < 2 or 0 in cost.shape:
        raise ValueError(f"The cost must have shape [..., M, N] with M, N >= 1, but its shape is {tuple(cost.shape)}.")
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise ValueError(f"`epsilon` must be above 0 and finite, but found {epsilon}.")
    if max_iterations < 1 or not tolerance > 0:
        raise ValueError(
            f"`max_iterations` must be at least 1 and `tolerance` above 0, but found {max_iterations} and {tolerance}."
        )
    largest = float(cost.detach().abs().max())
    if not math.isfinite(largest):
        raise ValueError("The cost holds NaN or infinite values. Look for them in the cells.")
    return cost.to(torch.promote_types(cost.dtype, torch.float32)), largest


def _log_weights(weights: Tensor | None, shape: tuple[int, ...], like: Tensor, name: str) -> Tensor:
    """Logarithms of weights that sum to 1, [..., N]."""
    if weights is None:
        return like.new_full(shape, -math.log(shape[-1]))
    if weights.shape != shape:
        raise ValueError(f"`{name}` has shape {tuple(weights.shape)}; {tuple(shape)} is needed.")
    weights = weights.detach().to(like)
    total = weights.sum(-1, keepdim=True)
    if not bool(((weights >= 0).all(-1) & (total[..., 0] > 0) & total[..., 0].isfinite()).all()):
        raise ValueError(f"`{name}` must be finite, not negative, and above 0 for at least one cell.")
    return (weights / total).log()


def _warn(iterations: int, tolerance: float, epsilon: float, *, stacklevel: int) -> None:
    warnings.warn(
        f"Sinkhorn did not reach tolerance={tolerance:g} in {iterations} iterations with epsilon={epsilon:g}. Raise "
        "`epsilon` or `max_iterations`.",
        RuntimeWarning,
        stacklevel=stacklevel,
    )
