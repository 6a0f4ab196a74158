from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pertcast.diffusion import energy_distance, masked_mse, population_loss


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def sets(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    prediction, target = torch.randn(2, 3, 6, 9, generator=generator, dtype=torch.float64)
    mask = torch.arange(6) < torch.tensor([[6], [3], [1]])
    return prediction, target, mask


def test_mse_is_the_mean_over_real_cells_and_features(sets: tuple[Tensor, Tensor, Tensor]) -> None:
    x, y, mask = sets
    expected = torch.stack([torch.nn.functional.mse_loss(x[b][mask[b]], y[b][mask[b]]) for b in range(3)])
    torch.testing.assert_close(masked_mse(x, y, mask), expected)
    torch.testing.assert_close(masked_mse(x, y), (x - y).square().mean((1, 2)))


def test_terms_are_per_feature_and_add_up(sets: tuple[Tensor, Tensor, Tensor]) -> None:
    x, y, mask = sets
    loss = population_loss(x, y, mask, mse_weight=0.3)
    torch.testing.assert_close(loss.energy, energy_distance(x, y, mask, mask) / 3)
    torch.testing.assert_close(loss.mse, masked_mse(x, y, mask))
    torch.testing.assert_close(loss.total, loss.energy + 0.3 * loss.mse)
    biased = population_loss(x, y, mask, unbiased=False)
    torch.testing.assert_close(biased.energy, energy_distance(x, y, mask, mask, unbiased=False) / 3)


def test_repeating_every_feature_does_not_change_the_loss(sets: tuple[Tensor, Tensor, Tensor]) -> None:
    x, y, mask = sets
    once = population_loss(x, y, mask, mse_weight=0.3)
    many = population_loss(x.repeat(1, 1, 50), y.repeat(1, 1, 50), mask, mse_weight=0.3)
    for a, b in zip(once, many, strict=True):
        torch.testing.assert_close(a, b)


def test_equation_eight_is_a_choice_of_the_weight(sets: tuple[Tensor, Tensor, Tensor]) -> None:
    # MMD^2 + (1/m) sum_j ||x_j - y_j||^2, both terms summed over features.
    x, y, _ = sets
    k = x.shape[2]
    printed = energy_distance(x, y) + (x - y).square().sum(2).mean(1)
    torch.testing.assert_close(math.sqrt(k) * population_loss(x, y, mse_weight=math.sqrt(k)).total, printed)
    averaged = 0.5 * energy_distance(x, y) + (x - y).square().mean((1, 2))
    torch.testing.assert_close(0.5 * math.sqrt(k) * population_loss(x, y, mse_weight=2 / math.sqrt(k)).total, averaged)


def test_without_weight_the_squared_error_has_no_gradient(sets: tuple[Tensor, Tensor, Tensor]) -> None:
    x, y, mask = sets
    first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
    population_loss(first, y, mask).total.sum().backward()
    (energy_distance(second, y, mask, mask).sum() / 3).backward()
    assert first.grad is not None
    assert second.grad is not None
    torch.testing.assert_close(first.grad, second.grad)


@pytest.mark.parametrize("garbage", [1e8, math.nan, math.inf])
def test_padding_changes_neither_value_nor_gradient(sets: tuple[Tensor, Tensor, Tensor], garbage: float) -> None:
    x, y, mask = sets
    clean, padded = x.clone().requires_grad_(), x.masked_fill(~mask[..., None], garbage).requires_grad_()
    a = population_loss(clean, y, mask, mse_weight=0.7)
    b = population_loss(padded, y.masked_fill(~mask[..., None], -garbage), mask, mse_weight=0.7)
    for left, right in zip(a, b, strict=True):
        assert torch.equal(left, right)
    a.total.sum().backward()
    b.total.sum().backward()
    assert clean.grad is not None
    assert padded.grad is not None
    assert torch.equal(clean.grad, padded.grad)


def test_energy_prefers_the_right_spread_and_mse_the_mean(generator: torch.Generator) -> None:
    # Unpaired prediction with the data's distribution against a collapsed one: the two terms rank them differently.
    target = torch.randn(1, 400, 5, generator=generator, dtype=torch.float64)
    same = torch.randn(1, 400, 5, generator=generator, dtype=torch.float64)
    right, collapsed = population_loss(same, target), population_loss(torch.zeros_like(target), target)
    assert right.energy < 0.01 < 0.3 < collapsed.energy
    assert right.mse.item() == pytest.approx(2, rel=0.1)
    assert collapsed.mse.item() == pytest.approx(1, rel=0.1)


def test_bad_input_is_refused(sets: tuple[Tensor, Tensor, Tensor]) -> None:
    x, y, mask = sets
    with pytest.raises(ValueError, match="mse_weight is -1"):
        population_loss(x, y, mask, mse_weight=-1)
    with pytest.raises(ValueError, match=r"prediction \(3, 6, 9\), target \(3, 5, 9\)"):
        population_loss(x, y[:, :5], mask)
    with pytest.raises(ValueError, match=r"no real cell in sets \[0, 1, 2\]"):
        masked_mse(x, y, torch.zeros(3, 6, dtype=torch.bool))
