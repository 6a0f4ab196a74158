from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from pertcast.diffusion import get_schedule
from pertcast.module import ExponentialMovingAverage, FixedInput, LearnedInput, ResidualGate
from pertcast.module._batch import choose_sources


@pytest.mark.parametrize("t", [0.01, 0.3, 0.7, 1.0])
def test_noisy_features_have_unit_variance(t: float) -> None:
    g = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 6, generator=g)).Q
    variance = torch.tensor([9.0, 4.0, 1.0, 0.25, 0.1, 0.01])
    mean, scale = torch.arange(6.0), torch.tensor(1.7)
    cells = mean + torch.randn(1, 100_000, 6, generator=g) * variance.sqrt() @ basis.T
    inputs = FixedInput(6, 4)
    inputs.fit(mean, basis, variance)
    schedule, time = get_schedule("cosine"), torch.tensor([t])
    alpha, sigma = schedule.alpha(time)[:, None, None], schedule.sigma(time)[:, None, None]
    noisy = alpha * cells + sigma * scale * torch.randn(cells.shape, generator=g)
    features = inputs.noisy(noisy, alpha, sigma, scale)[0]
    torch.testing.assert_close(features.mean(0), torch.zeros(4), rtol=0, atol=0.02)
    torch.testing.assert_close(torch.cov(features.T), torch.eye(4), rtol=0, atol=0.02)


def test_clean_features_share_one_unit() -> None:
    inputs = FixedInput(3, 2)
    inputs.fit(torch.ones(3), torch.eye(3)[:, :2], torch.tensor([4.0, 1.0]))
    found = inputs.clean(torch.tensor([[3.0, 3.0, 9.0]]), torch.tensor(7.0))
    torch.testing.assert_close(found, torch.tensor([[1.0, 1.0]]))


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_precision_does_not_depend_on_the_mean(offset: float) -> None:
    g = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(50, 50, generator=g)).Q[:, :4]
    cells = (torch.randn(20, 50, generator=g) * 8).round() / 8  # exact in float32, with the offset too
    inputs = FixedInput(50, 4)
    inputs.fit(torch.full((50,), offset), basis, torch.ones(4))
    found = inputs.clean(cells + offset, torch.tensor(1.0))
    torch.testing.assert_close(found.double(), cells.double() @ basis.double(), rtol=0, atol=1e-5)
    one = torch.ones(1, 1, 1)
    noisy = inputs.noisy(cells[None] + offset, one, 0 * one, torch.tensor(1.0))
    torch.testing.assert_close(noisy[0], found, rtol=0, atol=1e-5)


def test_missing_axes_leave_features_at_zero() -> None:
    inputs = FixedInput(4, 3)
    inputs.fit(torch.ones(4), torch.eye(4)[:, :3], torch.tensor([4.0, 1.0, 0.5]))
    inputs.fit(torch.zeros(4), torch.eye(4)[:, :1], torch.tensor([2.0]))
    cells = torch.full((1, 2, 4), 3.0)
    half = torch.full((1, 1, 1), math.sqrt(0.5))
    assert inputs.n_features == 3
    torch.testing.assert_close(inputs.clean(cells, torch.tensor(7.0))[0, 0], torch.tensor([3 / math.sqrt(2), 0.0, 0.0]))
    noisy = inputs.noisy(cells, half, half, torch.tensor(1.0))[0, 0]
    torch.testing.assert_close(noisy, torch.tensor([3 / math.sqrt(1.5), 0.0, 0.0]))


def test_scores_are_not_rounded_under_autocast() -> None:
    g = torch.Generator().manual_seed(0)
    inputs = FixedInput(6, 4)
    inputs.fit(torch.arange(6.0), torch.linalg.qr(torch.randn(6, 6, generator=g)).Q, torch.rand(6, generator=g))
    cells, part, scale = torch.randn(2, 5, 6, generator=g), torch.full((2, 1, 1), 0.6), torch.tensor(1.7)
    expected = inputs.clean(cells, scale), inputs.noisy(cells, part, part, scale)
    with torch.autocast("cpu", torch.bfloat16):
        assert (cells @ inputs.axes).dtype == torch.bfloat16
        found = inputs.clean(cells, scale), inputs.noisy(cells, part, part, scale)
        from_rounded = inputs.clean(cells.bfloat16(), scale)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    torch.testing.assert_close(from_rounded, inputs.clean(cells.bfloat16().float(), scale), rtol=0, atol=0)


def test_learned_input_is_in_units_of_the_scale() -> None:
    cells, one = torch.tensor([[[2.0, 4.0]]]), torch.ones(1, 1, 1)
    inputs = LearnedInput(2)
    assert torch.equal(inputs.clean(cells, torch.tensor(4.0)), cells / 4)
    assert torch.equal(inputs.noisy(cells, one, one, torch.tensor(4.0)), cells / 4)


@pytest.mark.parametrize("k", [1, 2, 6])
def test_average_closed_form_in_the_warm_up(k: int) -> None:
    network = nn.Linear(1, 1)
    nn.init.constant_(network.weight, 2.0)
    average = ExponentialMovingAverage(network, 0.99)
    averaged: Any = average.network
    nn.init.constant_(network.weight, 5.0)
    for _ in range(k):
        average.update(network)
    # prod over n < k of (1 + n) / (10 + n) is 1 / C(k + 9, 9).
    assert averaged.weight.item() == pytest.approx(5 - 3 / math.comb(k + 9, 9), rel=1e-6)
    assert int(average.n_updates) == k
    assert not any(p.requires_grad for p in averaged.parameters())


def test_average_settles_on_its_decay() -> None:
    network = nn.Linear(1, 1)
    nn.init.constant_(network.weight, 0.0)
    average = ExponentialMovingAverage(network, 0.4)
    averaged: Any = average.network
    expected = 0.0
    for n in range(12):
        nn.init.constant_(network.weight, float(n))
        average.update(network)
        decay = min(0.4, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert averaged.weight.item() == pytest.approx(expected, rel=1e-5)
    follower = ExponentialMovingAverage(network, 0.0)
    nn.init.constant_(network.weight, 7.0)
    follower.update(network)
    followed: Any = follower.network
    assert followed.weight.item() == 7.0
    with pytest.raises(ValueError, match=r"is 1\.0; it must be at least 0 and below 1"):
        ExponentialMovingAverage(network, 1.0)


def test_gate_scales_the_residual() -> None:
    gate = ResidualGate()
    residual = torch.tensor([2.0, -4.0])
    assert torch.equal(gate(residual), residual)
    gate.set(0.25)
    assert torch.equal(gate(residual), residual / 4)
    assert list(gate.state_dict()) == ["value"]


@pytest.mark.parametrize("n_cells", [3, 4, 10])
def test_sources_are_real_controls_used_evenly(n_cells: int) -> None:
    control = torch.arange(14.0).reshape(2, 7, 1)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, [0, 2, 4]] = False
    drawn = choose_sources(control, mask, n_cells, torch.Generator().manual_seed(0))
    assert drawn.shape == (2, n_cells, 1)
    for b in range(2):
        allowed = control[b, mask[b], 0]
        counts = (drawn[b] == allowed).sum(0)
        assert counts.sum() == n_cells
        assert counts.max() - counts.min() <= 1


def test_sources_are_drawn_in_random_order() -> None:
    control, mask = torch.arange(7.0).reshape(1, 7, 1), torch.ones(1, 7, dtype=torch.bool)
    g = torch.Generator().manual_seed(0)
    first = torch.stack([choose_sources(control, mask, 1, g)[0, 0, 0] for _ in range(3000)])
    share = torch.bincount(first.long(), minlength=7) / 3000
    torch.testing.assert_close(share, torch.full((7,), 1 / 7), rtol=0, atol=0.03)
