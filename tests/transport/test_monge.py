from __future__ import annotations

import math

import numpy as np
import ot
import pytest
import scipy.linalg
import torch
from torch import Tensor

from pertcast.transport import Cost, entropic_cost, entropic_plan, monge_gap, pairwise_cost, sinkhorn_divergence

COSTS: list[Cost] = ["euclidean", "sqeuclidean"]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(n: int, mean: list[float], covariance: list[list[float]], seed: int) -> Tensor:
    root = torch.linalg.cholesky(torch.tensor(covariance, dtype=torch.float64))
    z = torch.randn(n, len(mean), generator=generator(seed), dtype=torch.float64)
    return z @ root.T + torch.tensor(mean, dtype=torch.float64)


def gaussian_map(first: Tensor, second: Tensor) -> Tensor:
    """Linear part of the Monge map between Gaussians of two covariances (Peyré and Cuturi 2019, remark 2.31)."""
    root = scipy.linalg.sqrtm(first.numpy()).real
    inverse = np.linalg.inv(root)
    middle = scipy.linalg.sqrtm(root @ second.numpy() @ root).real
    return torch.from_numpy(inverse @ middle @ inverse)


@pytest.fixture
def cells() -> tuple[Tensor, Tensor]:
    """Cells, and where some map sends them."""
    x, noise = (torch.randn(20, 3, generator=generator(seed), dtype=torch.float64) / 2 for seed in (0, 1))
    return x, x.flip(-1) * 0.7 + noise


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_plan_and_gap_equal_pot(cells: tuple[Tensor, Tensor], cost: Cost, epsilon: float) -> None:
    x, y = cells
    M = ot.dist(x.numpy(), y.numpy(), metric=cost)
    a = np.full(20, 1 / 20)
    expected = ot.sinkhorn(a, a, M, epsilon, method="sinkhorn_log", stopThr=1e-10, numItermax=5_000)
    plan = entropic_plan(pairwise_cost(x, y, cost), epsilon=epsilon, tolerance=1e-9)
    np.testing.assert_allclose(plan.numpy(), expected, atol=1e-7)
    transported = (expected * M).sum() + epsilon * (expected * np.log(expected * 400)).sum()
    gap = monge_gap(x, y, epsilon=epsilon, cost=cost, tolerance=1e-9)
    assert gap.item() == pytest.approx(np.diagonal(M).mean() - transported, abs=1e-7)


@pytest.mark.parametrize("cost", COSTS)
def test_small_epsilon_is_the_exact_gap(cells: tuple[Tensor, Tensor], cost: Cost) -> None:
    x, y = cells
    M = ot.dist(x.numpy(), y.numpy(), metric=cost)
    exact = np.diagonal(M).mean() - ot.emd2([], [], M)
    assert exact > 0.1
    gap = monge_gap(x, y, epsilon=0.02, cost=cost, max_iterations=3000).item()
    assert exact - 0.02 * math.log(20) - 1e-4 <= gap <= exact + 1e-4


@pytest.mark.parametrize("cost", COSTS)
def test_gradient_of_the_gap_equals_differences_and_pot(cells: tuple[Tensor, Tensor], cost: Cost) -> None:
    x, y = (side[:5].clone().requires_grad_() for side in cells)
    assert torch.autograd.gradcheck(
        lambda x, y: monge_gap(x, y, epsilon=0.5, cost=cost, tolerance=1e-9), (x, y), atol=1e-6, rtol=1e-5
    )
    (gradient,) = torch.autograd.grad(monge_gap(x, y, epsilon=0.5, cost=cost, tolerance=1e-9), y)
    M = ot.dist(x.detach().numpy(), y.detach().numpy(), metric=cost)
    a = np.full(5, 0.2)
    plan = ot.sinkhorn(a, a, M, 0.5, method="sinkhorn_log", stopThr=1e-11, numItermax=5_000)
    difference = y.detach().numpy()[None] - x.detach().numpy()[:, None]
    slope = 2 * difference if cost == "sqeuclidean" else difference / M[..., None]
    expected = ((np.eye(5) / 5 - plan)[..., None] * slope).sum(0)
    np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-7)


def test_gradient_of_the_divergence_equals_that_of_pot(cells: tuple[Tensor, Tensor]) -> None:
    """The derivative is that of the cost weighted with the plans, by the envelope theorem."""
    x, y = cells
    moving = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(sinkhorn_divergence(moving, y, epsilon=1.0, tolerance=1e-10), moving)
    expected = np.zeros_like(x.numpy())
    a = np.full(20, 1 / 20)
    for other, sign in ((y, 1.0), (x, -1.0)):
        M = ot.dist(x.numpy(), other.numpy(), metric="euclidean")
        plan = ot.sinkhorn(a, a, M, 1.0, method="sinkhorn_log", stopThr=1e-11, numItermax=5_000)
        difference = x.numpy()[:, None] - other.numpy()[None]
        slope = difference / np.where(M > 0, M, 1)[..., None]
        expected += sign * (plan[..., None] * slope).sum(1)
    np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-7)


def test_gap_vanishes_for_the_monge_map_of_gaussians() -> None:
    x = gaussian(50, [0.0, 0.0], [[1.0, 0.3], [0.3, 0.5]], 0)
    first = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=torch.float64)
    second = torch.tensor([[0.5, -0.4], [-0.4, 2.0]], dtype=torch.float64)
    linear = gaussian_map(first, second)
    torch.testing.assert_close(linear @ first @ linear.T, second)
    optimal = x @ linear.T + 3.0
    bound = 0.1 * math.log(50)
    gap = monge_gap(x, optimal, epsilon=0.1, cost="sqeuclidean")
    assert -bound - 1e-9 <= gap.item() <= 1e-3
    angle = torch.tensor(1.0, dtype=torch.float64)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    root = torch.from_numpy(scipy.linalg.sqrtm(second.numpy()).real)
    whiten = torch.from_numpy(np.linalg.inv(scipy.linalg.sqrtm(first.numpy()).real))
    other = x @ (root @ turn @ whiten).T + 3.0  # the same Gaussian by a dearer map
    assert monge_gap(x, other, epsilon=0.1, cost="sqeuclidean").item() > 0.5


@pytest.mark.parametrize("cost", COSTS)
def test_a_shift_has_no_gap_and_a_permutation_has(cells: tuple[Tensor, Tensor], cost: Cost) -> None:
    x, _ = cells
    assert abs(monge_gap(x, x + 4.0, epsilon=0.01, cost=cost).item()) <= 0.01 * math.log(20) + 1e-6
    assert monge_gap(x, x.roll(1, 0) + 0.5, epsilon=0.01, cost=cost).item() > 0.1


def test_padding_and_weights(cells: tuple[Tensor, Tensor]) -> None:
    x, y = cells
    mask = torch.arange(20) < torch.tensor([[20], [12]])
    padded = [torch.stack([each, each]).where(mask[..., None], torch.nan) for each in (x, y)]
    found = monge_gap(padded[0], padded[1], epsilon=0.3, weights=mask, tolerance=1e-9)
    alone = [monge_gap(x[:n], y[:n], epsilon=0.3, tolerance=1e-9) for n in (20, 12)]
    torch.testing.assert_close(found, torch.stack(alone), atol=1e-8, rtol=0)


def test_plan_has_the_sums_and_the_cost(cells: tuple[Tensor, Tensor]) -> None:
    cost = pairwise_cost(*cells).requires_grad_()
    b = torch.rand(20, generator=generator(5), dtype=torch.float64)
    plan = entropic_plan(cost, epsilon=0.2, column_weights=b, tolerance=1e-9)
    assert not plan.requires_grad
    torch.testing.assert_close(plan.sum(0), b / b.sum())
    torch.testing.assert_close(plan.sum(1), torch.full((20,), 0.05, dtype=torch.float64), atol=1e-9, rtol=0)
    value = entropic_cost(cost, epsilon=0.2, column_weights=b, tolerance=1e-9)
    torch.testing.assert_close(torch.autograd.grad(value, cost)[0], plan, atol=1e-8, rtol=0)


def test_errors() -> None:
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"x has shape \(3, 2\) and y \(4, 2\); a map keeps"):
        monge_gap(x, torch.zeros(4, 2), epsilon=1)
    with pytest.raises(ValueError, match=r"`weights` has shape \(2,\); \(3,\) is needed"):
        monge_gap(x, x, epsilon=1, weights=torch.ones(2))
    with pytest.warns(RuntimeWarning, match="in 1 iterations"):
        entropic_plan(torch.rand(30, 30, generator=generator(4)) * 9, epsilon=1e-2, max_iterations=1)
