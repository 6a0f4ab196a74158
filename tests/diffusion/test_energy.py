from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.spatial.distance import cdist, pdist
from torch import Tensor

from pertcast.diffusion import energy_distance


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def brute_force(x: Tensor, y: Tensor, *, unbiased: bool) -> float:
    """Energy distance of one pair of sets [M, K] and [N, K] by scipy."""

    def within(z: Tensor) -> float:
        n = len(z)
        return 2 * pdist(z.double().numpy()).sum() / (n * (n - 1) if unbiased else n * n) if n > 1 else 0.0

    return 2 * cdist(x.double().numpy(), y.double().numpy()).mean() - within(x) - within(y)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize(("m", "n"), [(6, 6), (5, 9), (1, 4), (3, 1), (1, 1)])
def test_equals_brute_force(generator: torch.Generator, m: int, n: int, unbiased: bool) -> None:
    x, y = draw(generator, 4, m, 7), draw(generator, 4, n, 7) + 0.5
    expected = [brute_force(a, b, unbiased=unbiased) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(energy_distance(x, y, unbiased=unbiased), expected, rtol=1e-10)


def test_v_statistic_of_one_feature_is_that_of_scipy(generator: torch.Generator) -> None:
    x, y = draw(generator, 1, 30, 1), draw(generator, 1, 20, 1) * 2
    expected = scipy.stats.energy_distance(x.flatten(), y.flatten()) ** 2
    assert energy_distance(x, y, unbiased=False).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("garbage", [1e6, math.nan, math.inf])
def test_masks_equal_leaving_cells_out(generator: torch.Generator, unbiased: bool, garbage: float) -> None:
    x, y = draw(generator, 3, 8, 4), draw(generator, 3, 6, 4) + 1
    x_mask, y_mask = torch.rand(3, 8, generator=generator) < 0.6, torch.rand(3, 6, generator=generator) < 0.6
    x_mask[0] = torch.arange(8) == 5  # a single real cell
    expected = [
        brute_force(a[a_mask], b[b_mask], unbiased=unbiased)
        for a, b, a_mask, b_mask in zip(x, y, x_mask, y_mask, strict=True)
    ]
    clean = x.clone().requires_grad_()
    padded = x.masked_fill(~x_mask[..., None], garbage).requires_grad_()
    results = [
        energy_distance(clean, y, x_mask, y_mask, unbiased=unbiased),
        energy_distance(padded, y.masked_fill(~y_mask[..., None], -garbage), x_mask, y_mask, unbiased=unbiased),
    ]
    np.testing.assert_allclose(results[0].detach(), expected, rtol=1e-10)
    assert torch.equal(results[0], results[1])
    for result in results:
        result.sum().backward()
    assert clean.grad is not None
    assert padded.grad is not None
    assert torch.equal(clean.grad, padded.grad)
    assert bool((padded.grad[~x_mask] == 0).all())
    assert bool((padded.grad[x_mask] != 0).any())


def test_order_of_cells_and_of_sets_does_not_matter(generator: torch.Generator) -> None:
    x, y, mask = draw(generator, 2, 8, 4), draw(generator, 2, 6, 4), torch.rand(2, 8, generator=generator) < 0.7
    order = torch.randperm(8, generator=generator)
    value = energy_distance(x, y, mask)
    torch.testing.assert_close(energy_distance(x[:, order], y, mask[:, order]), value)
    torch.testing.assert_close(energy_distance(y, x, None, mask), value)


def test_scales_with_the_units_and_ignores_rigid_motion(generator: torch.Generator) -> None:
    x, y = draw(generator, 2, 8, 4), draw(generator, 2, 6, 4)
    rotation = torch.linalg.qr(draw(generator, 4, 4))[0]
    value = energy_distance(x, y)
    torch.testing.assert_close(energy_distance(3 * x, 3 * y), 3 * value)
    torch.testing.assert_close(energy_distance(x @ rotation + 5, y @ rotation + 5), value)


def test_u_statistic_is_unbiased_and_v_statistic_is_not(generator: torch.Generator) -> None:
    draws = 4000
    x, y = draw(generator, draws, 5, 3), draw(generator, draws, 4, 3)
    u, v = energy_distance(x, y), energy_distance(x, y, unbiased=False)
    assert abs(u.mean()) < 4 * u.std() / draws**0.5
    assert v.mean() > 20 * v.std() / draws**0.5
    assert bool((v >= 0).all())
    # E||x - x'|| of a standard Gaussian in 3 dimensions is 4 / sqrt(pi): the V-statistic keeps 1/M + 1/N of it.
    assert abs(v.mean() - 4 / math.pi**0.5 * (1 / 5 + 1 / 4)) < 4 * v.std() / draws**0.5


@pytest.mark.parametrize("shift", [0.3, 1.0, 2.5])
def test_mean_shift_of_a_gaussian_has_its_closed_form(generator: torch.Generator, shift: float) -> None:
    # |X - Y| with X - Y ~ N(shift, 2) is a folded normal.
    between = 2 / math.pi**0.5 * math.exp(-(shift**2) / 4) + shift * (1 - 2 * scipy.stats.norm.cdf(-shift / 2**0.5))
    expected = 2 * between - 4 / math.pi**0.5
    found = energy_distance(draw(generator, 400, 50, 1), draw(generator, 400, 50, 1) + shift)
    assert abs(found.mean() - expected) < 4 * found.std() / 400**0.5


def test_gradient_is_right_with_masks(generator: torch.Generator) -> None:
    x, y = draw(generator, 2, 5, 3).requires_grad_(), draw(generator, 2, 4, 3).requires_grad_()
    x_mask = torch.tensor([[1, 1, 0, 1, 1], [0, 0, 1, 0, 0]], dtype=torch.bool)
    y_mask = torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1]], dtype=torch.bool)
    for unbiased in (True, False):
        assert torch.autograd.gradcheck(
            lambda a, b, unbiased=unbiased: energy_distance(a, b, x_mask, y_mask, unbiased=unbiased), (x, y)
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coincident_cells_add_no_gradient(generator: torch.Generator, dtype: torch.dtype) -> None:
    y = draw(generator, 1, 4, 50).to(dtype)
    x = torch.stack([y[0, 0], y[0, 0], y[0, 1] + 1]).expand(1, 3, 50).clone().requires_grad_()
    energy_distance(x, y).sum().backward()

    def unit(a: Tensor, b: Tensor) -> Tensor:
        return torch.zeros_like(a) if torch.equal(a, b) else (a - b) / (a - b).norm()

    cells, targets = x.detach()[0], y[0]
    to_targets = torch.stack([torch.stack([unit(a, b) for b in targets]).sum(0) for a in cells])
    to_cells = torch.stack([torch.stack([unit(a, b) for b in cells]).sum(0) for a in cells])
    expected = 2 * to_targets / 12 - 2 * to_cells / 6
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0], expected)


def test_a_set_has_no_distance_to_itself_in_float32(generator: torch.Generator) -> None:
    x = torch.randn(2, 8, 2000, generator=generator)
    np.testing.assert_allclose(energy_distance(x, x, unbiased=False), 0, atol=2e-5)


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_equal_sets_of_one_repeated_cell_have_zero_value_and_gradient(level: float) -> None:
    x = torch.full((1, 6, 40), level).requires_grad_()
    value = energy_distance(x, x.detach())
    value.sum().backward()
    assert value.item() == 0
    assert x.grad is not None
    assert bool((x.grad == 0).all())


def test_a_single_cell_gets_the_gradient_of_the_cross_term_only(generator: torch.Generator) -> None:
    x, y = draw(generator, 1, 1, 3).requires_grad_(), draw(generator, 1, 5, 3)
    energy_distance(x, y).sum().backward()
    difference = x.detach()[0] - y[0]
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0, 0], 2 * (difference / difference.norm(dim=1, keepdim=True)).mean(0))


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_float32_is_accurate_for_thousands_of_genes_far_from_the_origin(
    generator: torch.Generator, offset: float
) -> None:
    level = 2 * torch.rand(5000, generator=generator)
    x, y = (
        (level - shift + 0.5 * torch.randn(2, 32, 5000, generator=generator)).relu() + offset for shift in (1.2, 1.15)
    )
    expected = [brute_force(a, b, unbiased=True) for a, b in zip(x, y, strict=True)]
    assert max(expected) < 0.2  # a small difference of distances near 20
    np.testing.assert_allclose(energy_distance(x, y), expected, rtol=0, atol=3e-5)


def test_small_spread_far_from_the_target_is_resolved(generator: torch.Generator) -> None:
    x, y = 1e-3 * torch.randn(1, 16, 200, generator=generator), 50 + torch.randn(1, 16, 200, generator=generator)
    cells = x.requires_grad_()
    energy_distance(cells, y).sum().backward()
    exact = x.detach().double().requires_grad_()
    energy_distance(exact, y.double()).sum().backward()
    assert cells.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(cells.grad.double(), exact.grad, rtol=0, atol=1e-5)


def test_autocast_and_half_precision_compute_in_float32(generator: torch.Generator) -> None:
    x, y = torch.randn(2, 8, 30, generator=generator), torch.randn(2, 8, 30, generator=generator)
    expected = energy_distance(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(energy_distance(x, y), expected)
    half = energy_distance(x.bfloat16(), y.bfloat16())
    assert half.dtype == torch.float32
    assert torch.equal(half, energy_distance(x.bfloat16().float(), y.bfloat16().float()))


def test_bad_input_is_refused() -> None:
    x = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) and y \(2, 3, 5\)"):
        energy_distance(x, torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match="equal B and K"):
        energy_distance(x[0], x[0])
    with pytest.raises(ValueError, match="x_mask is torch.float32"):
        energy_distance(x, x, torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"y_mask is torch.bool of shape \(2, 4\)"):
        energy_distance(x, x, None, torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"x_mask marks no real cell in sets \[1\]"):
        energy_distance(x, x, torch.tensor([[True] * 3, [False] * 3]))
    with pytest.raises(ValueError, match="at least one cell"):
        energy_distance(x[:, :0], x)


def test_a_cell_that_is_not_a_number_shows(generator: torch.Generator) -> None:
    x, y = draw(generator, 2, 5, 3), draw(generator, 2, 6, 3)
    x[0, 2, 1] = math.nan
    found = energy_distance(x, y)
    assert found.isnan().tolist() == [True, False]
