from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import ot
import pytest
import torch

from pertcast.transport import (
    entropic_cost,
    entropic_plan,
    entropic_self_cost,
    pairwise_cost,
    sinkhorn_cost,
    sinkhorn_divergence,
)

if TYPE_CHECKING:
    from torch import Tensor

    from pertcast.transport import Cost

COSTS: list[Cost] = ["euclidean", "sqeuclidean"]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def cells() -> tuple[Tensor, Tensor]:
    x = torch.randn(23, 4, generator=generator(0), dtype=torch.float64)
    y = torch.randn(17, 4, generator=generator(1), dtype=torch.float64) * 0.6 + 0.5
    return x, y


@pytest.fixture
def weights() -> tuple[Tensor, Tensor]:
    a, b = (torch.rand(n, generator=generator(n), dtype=torch.float64) for n in (23, 17))
    return a / a.sum(), b / b.sum()


def relative_entropy(plan: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    return float((plan * np.log(plan / np.outer(a, b))).sum())


@pytest.mark.parametrize("cost", COSTS)
def test_cost_matrix_equals_pot(cells: tuple[Tensor, Tensor], cost: Cost) -> None:
    x, y = cells
    expected = ot.dist(x.numpy(), y.numpy(), metric=cost)
    torch.testing.assert_close(pairwise_cost(x, y, cost), torch.from_numpy(expected))
    batched = pairwise_cost(torch.stack([x, x + 1e3]), torch.stack([y, y + 1e3]), cost)
    torch.testing.assert_close(batched[0], torch.from_numpy(expected))
    torch.testing.assert_close(batched[1], torch.from_numpy(expected))


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("epsilon", [0.3, 3.0])
def test_plan_and_cost_equal_pot(
    cells: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor], cost: Cost, epsilon: float
) -> None:
    matrix = pairwise_cost(*cells, cost).requires_grad_()
    a, b = weights
    value = entropic_cost(matrix, epsilon=epsilon, row_weights=a, column_weights=b, tolerance=1e-8)
    (plan,) = torch.autograd.grad(value, matrix)
    M = matrix.detach().numpy()
    expected = ot.sinkhorn(a.numpy(), b.numpy(), M, epsilon, method="sinkhorn_log", stopThr=1e-9, numItermax=10_000)
    np.testing.assert_allclose(plan.numpy(), expected, atol=1e-7)
    linear = ot.sinkhorn2(a.numpy(), b.numpy(), M, epsilon, method="sinkhorn_log", stopThr=1e-9, numItermax=10_000)
    assert (plan * matrix).sum().item() == pytest.approx(float(linear), abs=1e-6)
    total = float((expected * M).sum()) + epsilon * relative_entropy(expected, a.numpy(), b.numpy())
    assert value.item() == pytest.approx(total, abs=1e-7)


@pytest.mark.parametrize("cost", COSTS)
def test_transported_cost_gives_the_divergence_of_pot(cells: tuple[Tensor, Tensor], cost: Cost) -> None:
    """POT's divergence is that of the transported cost alone, without the entropies."""
    x, y = cells

    def transported(first: Tensor, second: Tensor) -> float:
        matrix = pairwise_cost(first, second, cost).requires_grad_()
        solve = entropic_self_cost if first is second else entropic_cost
        (plan,) = torch.autograd.grad(solve(matrix, epsilon=1.0, tolerance=1e-8), matrix)
        return (plan * matrix).sum().item()

    found = transported(x, y) - transported(x, x) / 2 - transported(y, y) / 2
    expected = ot.bregman.empirical_sinkhorn_divergence(x.numpy(), y.numpy(), 1.0, metric=cost, stopThr=1e-9)
    assert found == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("cost", COSTS)
def test_small_epsilon_is_exact_transport(cells: tuple[Tensor, Tensor], cost: Cost) -> None:
    x, y = cells
    exact = ot.emd2([], [], ot.dist(x.numpy(), y.numpy(), metric=cost))
    entropy = 0.03 * math.log(23 * 17)  # of a plan: at most that
    assert exact <= sinkhorn_cost(x, y, epsilon=0.03, cost=cost).item() + 1e-5 <= exact + entropy
    assert sinkhorn_divergence(x, y, epsilon=0.03, cost=cost).item() == pytest.approx(exact, abs=entropy)


def test_large_epsilon_is_half_the_energy_distance(cells: tuple[Tensor, Tensor]) -> None:
    x, y = cells
    half = pairwise_cost(x, y).mean() - pairwise_cost(x, x).mean() / 2 - pairwise_cost(y, y).mean() / 2
    assert sinkhorn_divergence(x, y, epsilon=1e5).item() == pytest.approx(half.item(), abs=1e-4)
    assert sinkhorn_cost(x, y, epsilon=1e5).item() == pytest.approx(pairwise_cost(x, y).mean().item(), abs=1e-4)


def test_a_shift_costs_its_squared_length(cells: tuple[Tensor, Tensor]) -> None:
    x, _ = cells
    shift = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    value = sinkhorn_divergence(x + shift, x, epsilon=3.0, cost="sqeuclidean", tolerance=1e-8)
    assert value.item() == pytest.approx(5.25, abs=1e-8)


@pytest.mark.parametrize("cost", COSTS)
def test_divergence_is_zero_for_equal_populations_only(cells: tuple[Tensor, Tensor], cost: Cost) -> None:
    x, y = cells
    equal = x.clone().requires_grad_()
    value = sinkhorn_divergence(equal, x.flip(0), epsilon=1.0, cost=cost, tolerance=1e-8)
    assert value.item() == pytest.approx(0, abs=1e-9)
    value.backward()
    assert equal.grad is not None
    torch.testing.assert_close(equal.grad, torch.zeros_like(equal), atol=1e-7, rtol=0)
    assert sinkhorn_divergence(x, y, epsilon=1.0, cost=cost).item() > 0.1


def test_weights_are_repetitions(cells: tuple[Tensor, Tensor]) -> None:
    x, y = cells
    counts = torch.arange(23) % 3
    repeated = x.repeat_interleave(counts, 0)
    expected = sinkhorn_divergence(repeated, y, epsilon=0.3, tolerance=1e-8)
    found = sinkhorn_divergence(x, y, epsilon=0.3, x_weights=counts, tolerance=1e-8)
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("metric", [sinkhorn_cost, sinkhorn_divergence])
def test_gradient_equals_differences(cells: tuple[Tensor, Tensor], metric: object, cost: Cost) -> None:
    x, y = (side[:4].clone().requires_grad_() for side in cells)
    assert callable(metric)

    def value(x: Tensor, y: Tensor) -> Tensor:
        return metric(x, y, epsilon=1.0, cost=cost, tolerance=1e-10)

    assert torch.autograd.gradcheck(value, (x, y), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("metric", [sinkhorn_cost, sinkhorn_divergence])
def test_padding_changes_nothing(cells: tuple[Tensor, Tensor], metric: object) -> None:
    assert callable(metric)
    x, y = cells
    alone = [metric(x[:n], y[:m], epsilon=0.3, tolerance=1e-8) for n, m in ((23, 9), (11, 17))]
    sets = torch.stack([x, x]), torch.stack([y, y])
    masks = (
        torch.arange(23) < torch.tensor([[23], [11]]),
        torch.arange(17) < torch.tensor([[9], [17]]),
    )
    padded = [cells.where(mask[..., None], torch.nan).requires_grad_() for cells, mask in zip(sets, masks, strict=True)]
    together = metric(*padded, epsilon=0.3, x_weights=masks[0], y_weights=masks[1], tolerance=1e-8)
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-8, rtol=0)
    for gradient, mask in zip(torch.autograd.grad(together.sum(), padded), masks, strict=True):
        assert gradient[~mask].eq(0).all()
        assert gradient[mask].isfinite().all()
        assert gradient[mask].abs().sum() > 0


def test_padding_far_from_the_cells_does_not_cost_precision() -> None:
    x, y = (torch.randn(40, 50, generator=generator(seed)) + 1000 for seed in (0, 1))
    alone = sinkhorn_divergence(x, y, epsilon=1.0)
    mask = torch.arange(160) < 40
    padded = [torch.cat([cells, torch.zeros(120, 50)]) for cells in (x, y)]
    found = sinkhorn_divergence(*padded, epsilon=1.0, x_weights=mask.float() / 40, y_weights=mask.float() / 40)
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=0)


def test_an_easy_problem_does_not_end_a_hard_one_beside_it(cells: tuple[Tensor, Tensor]) -> None:
    hard = pairwise_cost(cells[0][:17], cells[1], "sqeuclidean")
    both = torch.stack([torch.zeros_like(hard), hard])
    epsilon, tolerance = 1.0, 1e-8
    alone = entropic_cost(hard, epsilon=epsilon, tolerance=tolerance)
    together = entropic_cost(both, epsilon=epsilon, tolerance=tolerance)
    torch.testing.assert_close(together, torch.stack([torch.zeros_like(alone), alone]), atol=1e-8, rtol=0)
    plan = entropic_plan(both, epsilon=epsilon, tolerance=tolerance)
    torch.testing.assert_close(plan.sum(-1), torch.full((2, 17), 1 / 17, dtype=torch.float64), atol=1e-8, rtol=0)
    own = pairwise_cost(cells[1], cells[1], "sqeuclidean")
    pair = entropic_self_cost(torch.stack([torch.zeros_like(own), own]), epsilon=epsilon, tolerance=tolerance)
    expected = torch.stack([torch.zeros_like(alone), entropic_self_cost(own, epsilon=epsilon, tolerance=tolerance)])
    torch.testing.assert_close(pair, expected, atol=1e-9, rtol=0)


def test_order_of_cells_and_scale(cells: tuple[Tensor, Tensor]) -> None:
    x, y = cells
    value = sinkhorn_divergence(x, y, epsilon=0.3, tolerance=1e-8)
    torch.testing.assert_close(sinkhorn_divergence(y.flip(0), x, epsilon=0.3, tolerance=1e-8), value)
    torch.testing.assert_close(sinkhorn_divergence(9 * x, 9 * y, epsilon=2.7, tolerance=1e-8), 9 * value)


def test_self_cost_is_the_cost_to_oneself(cells: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor]) -> None:
    x, a = cells[0], weights[0]
    matrix = pairwise_cost(x, x)
    expected = entropic_cost(matrix, epsilon=1.0, row_weights=a, column_weights=a, tolerance=1e-8)
    torch.testing.assert_close(entropic_self_cost(matrix, epsilon=1.0, weights=a, tolerance=1e-8), expected)


def test_loose_tolerance_has_a_small_error(cells: tuple[Tensor, Tensor]) -> None:
    x, y = cells
    exact = sinkhorn_cost(x, y, epsilon=0.1, tolerance=1e-8).item()
    assert exact - 1e-4 < sinkhorn_cost(x, y, epsilon=0.1).item() <= exact + 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision(cells: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
    x, y = (side.to(dtype) for side in cells)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sinkhorn_divergence(x, y, epsilon=0.3)
    assert found.dtype == torch.float32
    exact = sinkhorn_divergence(x.double(), y.double(), epsilon=0.3, tolerance=1e-8)
    assert found.item() == pytest.approx(exact.item(), abs=1e-4)


def test_descent_moves_one_population_onto_the_other() -> None:
    x = torch.randn(40, 2, generator=generator(2))
    y = torch.randn(40, 2, generator=generator(3)) * 0.3 + 2
    moving = x.clone().requires_grad_()
    optimizer = torch.optim.Adam([moving], lr=0.1)
    for _ in range(80):
        optimizer.zero_grad()
        sinkhorn_divergence(moving, y, epsilon=0.1, cost="sqeuclidean").backward()
        optimizer.step()
    moved = moving.detach()
    torch.testing.assert_close(moved.mean(0), y.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(moved.std(0), y.std(0), atol=0.03, rtol=0)


class TestErrors:
    def test_shapes(self) -> None:
        with pytest.raises(ValueError, match=r"x has shape \(3, 2\) and y \(3, 4\)"):
            sinkhorn_cost(torch.zeros(3, 2), torch.zeros(3, 4), epsilon=1)
        with pytest.raises(ValueError, match=r"x has shape \(2, 3, 2\) and y \(3, 2\)"):
            sinkhorn_cost(torch.zeros(2, 3, 2), torch.zeros(3, 2), epsilon=1)
        with pytest.raises(ValueError, match="M, N >= 1"):
            sinkhorn_cost(torch.zeros(0, 2), torch.zeros(3, 2), epsilon=1)
        with pytest.raises(ValueError, match="must be square"):
            entropic_self_cost(torch.zeros(2, 3), epsilon=1)

    def test_options(self) -> None:
        x = torch.zeros(3, 2)
        with pytest.raises(ValueError, match="`epsilon` must be above 0 and finite, but found 0"):
            sinkhorn_cost(x, x, epsilon=0)
        with pytest.raises(ValueError, match="`max_iterations` must be at least 1 and `tolerance` above 0"):
            sinkhorn_cost(x, x, epsilon=1, tolerance=0)
        with pytest.raises(ValueError, match="`cost` must be one of .* but found 'cosine'"):
            sinkhorn_cost(x, x, epsilon=1, cost="cosine")  # type: ignore[arg-type]

    def test_values(self) -> None:
        x = torch.zeros(3, 2)
        with pytest.raises(ValueError, match="NaN or infinite"):
            sinkhorn_cost(x + torch.nan, x, epsilon=1)
        for bad in ([0, 0, 0], [1, -1, 1], [1, math.nan, 1], [1, math.inf, 1]):
            with pytest.raises(ValueError, match="`column_weights` must be finite, not negative"):
                sinkhorn_cost(x, x, epsilon=1, y_weights=torch.tensor(bad))
        with pytest.raises(ValueError, match=r"`x_weights` has shape \(2,\); \(3,\) is needed"):
            sinkhorn_cost(x, x, epsilon=1, x_weights=torch.ones(2))

    def test_too_few_iterations(self) -> None:
        x = torch.randn(30, 2, generator=generator(4))
        with pytest.warns(RuntimeWarning, match="in 2 iterations with epsilon=0.001. Raise `epsilon`"):
            value = sinkhorn_cost(x, x + 1, epsilon=1e-3, max_iterations=2)
        assert value.item() <= math.sqrt(2) + 1e-3 * math.log(900)
