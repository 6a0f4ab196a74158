from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from pertcast.diffusion import CosineSchedule, GaussianPath, LinearSchedule, sample_ddim

if TYPE_CHECKING:
    from torch import Tensor

SCHEDULE, SCALE = CosineSchedule(), torch.tensor(1.5, dtype=torch.float64)


def path(mean: float = 0.3, variance: tuple[float, ...] = (0.5, 2.0), mask: Tensor | None = None) -> GaussianPath:
    v = torch.tensor(variance, dtype=torch.float64)
    return GaussianPath(torch.full((1, 1, len(variance)), mean, dtype=torch.float64), v, SCALE, SCHEDULE, mask)


def times(n: int) -> list[float]:
    return torch.linspace(0, 1, n + 1, dtype=torch.float64).tolist()


def cells(seed: int = 0, shape: tuple[int, ...] = (2, 40, 2)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Gaussian:
    """Exact denoiser of N(m, w) for features, in the form that a path asks for."""

    def __init__(self, frame: GaussianPath, m: float, w: float) -> None:
        self.frame, self.m, self.w = frame, m, w

    def predict(self, x: Tensor, alpha: float, noise: float) -> Tensor:
        return self.m + alpha * self.w / (alpha**2 * self.w + noise**2) * (x - alpha * self.m)

    def __call__(self, x: Tensor, t: float) -> Tensor:
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = SCHEDULE.alpha(time).item(), SCHEDULE.sigma(time).item()
        if sigma == 0:  # the limit of what follows
            alpha, sigma = 1.0, 1e-6
        noise = sigma * float(SCALE)
        v, total = self.frame.variance, alpha**2 * self.frame.variance + noise**2
        skipped = self.frame.mean + alpha * v / total * (x - alpha * self.frame.mean)
        return (self.predict(x, alpha, noise) - skipped) / (v * noise**2 / total).sqrt()


def test_coordinates_and_cells_undo_each_other() -> None:
    x = cells()
    torch.testing.assert_close(path().cells(path().coordinates(x, x), 0.0), x)
    noisy = path().cells(x, 1.0)
    torch.testing.assert_close(noisy, float(SCALE) * x, atol=1e-3, rtol=0)


def test_angle_runs_from_a_right_angle_to_nothing() -> None:
    torch.testing.assert_close(path().angle(0.0), torch.full((2,), math.pi / 2, dtype=torch.float64))
    assert float(path().angle(1.0).max()) < 1e-3


def test_the_guess_is_followed_without_error_in_one_step() -> None:
    y = cells()
    still = path().to_noise(lambda x, t: torch.zeros_like(x), y, times(1))
    torch.testing.assert_close(still, y, atol=0, rtol=0)


@pytest.mark.parametrize(("m", "w"), [(0.3, 0.5), (2.0, 1.0), (-1.0, 3.0)])
def test_gaussians_are_mapped_by_their_known_transport(m: float, w: float) -> None:
    """The flow of N(m, w) is linear: the latent of x is (x - m) / sqrt(w), up to what is left of the signal."""
    frame, x = path(), cells() * w**0.5 + m
    start = frame.coordinates(x, x)
    error = []
    for n in (50, 100):
        found = frame.to_noise(Gaussian(frame, m, w), start, times(n), n_refinements=2)
        error.append(float((found - (x - m) / w**0.5).abs().max()))
    assert error[1] < 0.06
    assert error[1] < 0.65 * error[0] or error[1] < 1e-3  # first order
    bridge = frame.to_data(Gaussian(frame, 1.0, 0.25), found, times(100)[::-1])
    expected = 1.0 + 0.5 * (x - m) / w**0.5
    torch.testing.assert_close(frame.cells(bridge, 0.0), expected, atol=0.08, rtol=0)


def test_the_way_back_is_the_inverse() -> None:
    """The round trip misses the start by less with every refinement, and by 1e-4 of a standard deviation with four."""
    frame, x = path(), cells() * 3 + 2
    start, network = frame.coordinates(x, x), Gaussian(frame, 2.0, 9.0)
    errors = []
    for n_refinements in (1, 2, 4):
        y = frame.to_noise(network, start, times(20), n_refinements=n_refinements)
        back = frame.to_data(network, y, times(20)[::-1])
        errors.append(float((frame.cells(back, 0.0) - x).abs().max() / 3))
    assert errors[0] > errors[1] > errors[2]
    assert errors[0] < 0.05
    assert errors[2] < 1e-4


def test_agrees_with_ddim_in_small_steps() -> None:
    """Other coordinates, the same differential equation: a nonlinear denoiser of two far modes."""
    one = torch.tensor(1.0, dtype=torch.float64)
    frame = GaussianPath(torch.zeros(1, 1, 1, dtype=torch.float64), one[None], one, SCHEDULE)

    def denoise(x: Tensor, t: Tensor, previous: Tensor | None = None) -> Tensor:
        alpha, sigma = SCHEDULE.alpha(t)[:, None, None], SCHEDULE.sigma(t)[:, None, None]
        total = 0.1 * alpha**2 + sigma**2
        weight = torch.tanh(alpha * x / total)
        return weight + 0.1 * alpha / total * (x - alpha * weight)

    def network(x: Tensor, t: float) -> Tensor:
        time = torch.full((len(x),), t, dtype=torch.float64)
        alpha, sigma = SCHEDULE.alpha(time)[:, None, None], SCHEDULE.sigma(time)[:, None, None]
        return (denoise(x, time) - alpha * x) / sigma

    y = cells(shape=(1, 200, 1))
    grid = times(400)[::-1]
    ddim = sample_ddim(denoise, y, grid, SCHEDULE)
    torch.testing.assert_close(frame.cells(frame.to_data(network, y, grid), 0.0), ddim, atol=0.02, rtol=0)


def test_absent_features_stay_0_and_keep_their_noise() -> None:
    mask = (cells(3) > 0).to(torch.float64)
    frame = path(mask=mask)
    x, noise = (cells() + 3) * mask, cells(1)
    y = frame.to_noise(lambda x, t: torch.ones_like(x), frame.coordinates(x, noise), times(5))
    absent = mask == 0
    torch.testing.assert_close(y[absent], noise[absent], atol=0, rtol=0)
    back = frame.cells(frame.to_data(lambda x, t: torch.ones_like(x), y, times(5)[::-1]), 0.0)
    torch.testing.assert_close(back, x)  # a constant slope has no error of discretisation


@pytest.mark.parametrize("t", [0.2, 0.5, 0.9])
def test_absent_features_are_pure_noise_on_the_way(t: float) -> None:
    y = torch.tensor([[[1.0, -2.0], [0.5, 3.0]]], dtype=torch.float64)
    mask = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    time = torch.tensor(t, dtype=torch.float64)
    alpha, noise = SCHEDULE.alpha(time).item(), 1.5 * SCHEDULE.sigma(time).item()
    first, second = math.sqrt(0.5 * alpha**2 + noise**2), math.sqrt(2 * alpha**2 + noise**2)
    expected = [[[0.3 * alpha + first, -2 * noise], [0.5 * noise, 0.3 * alpha + 3 * second]]]
    torch.testing.assert_close(path(mask=mask).cells(y, t), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("schedule", [CosineSchedule(), LinearSchedule()])
def test_aim_is_the_prediction_of_the_data(schedule: CosineSchedule | LinearSchedule) -> None:
    """Put into the formula of the prediction, the wanted output gives the cells back."""
    frame = GaussianPath(torch.full((2, 1, 2), 0.4), torch.tensor([0.5, 2.0]), torch.tensor(1.5), schedule)
    x0, noise = (cells(seed).float() for seed in (0, 1))
    t = torch.linspace(0.05, 1, 80).view(2, 40)
    alpha, sigma = schedule.alpha(t)[..., None], schedule.sigma(t)[..., None]
    wanted, weight = frame.aim(x0, noise, alpha, sigma)
    x_t = alpha * x0 + sigma * 1.5 * noise
    total = alpha**2 * frame.variance + (1.5 * sigma) ** 2
    skipped = frame.mean + alpha * frame.variance / total * (x_t - alpha * frame.mean)
    torch.testing.assert_close(skipped + weight * wanted, x0, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variance", [(1.0, 0.0), (1.0, -0.5), (1.0, math.nan)])
def test_a_guess_without_variance_is_refused(variance: tuple[float, ...]) -> None:
    """Coordinates are in units of its standard deviation."""
    with pytest.raises(ValueError, match=f"`variance` must be above 0 for every feature, but found {variance[1]:g}"):
        path(variance=variance)
