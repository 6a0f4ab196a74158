from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from pertcast.diffusion import (
    LinearSchedule,
    NoiseSchedule,
    add_noise,
    get_schedule,
    guided,
    noise_from_velocity,
    noise_from_x0,
    velocity,
    velocity_from_noise,
    velocity_from_x0,
    x0_from_noise,
    x0_from_velocity,
)

NAMES = ["cosine", "linear", "discrete_linear"]


@dataclass(frozen=True)
class ZeroSignal(NoiseSchedule):
    """Reaches exactly zero signal at t = 1."""

    def log_snr(self, t: Tensor) -> Tensor:
        return ((1 - t) / t).log()

    def time(self, log_snr: Tensor) -> Tensor:
        return (-log_snr).sigmoid()


@pytest.fixture(params=NAMES)
def schedule(request: pytest.FixtureRequest) -> NoiseSchedule:
    return get_schedule(request.param)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_marginal_has_the_stated_mean_and_variance(schedule: NoiseSchedule, generator: torch.Generator) -> None:
    n, t = 40_000, torch.tensor([0.0, 0.05, 0.4, 1.0], dtype=torch.float64)
    x0 = torch.tensor([3.0, -2.0], dtype=torch.float64).expand(4, n, 2)
    x_t = add_noise(x0, draw(generator, 4, n, 2), t, schedule)
    alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    assert bool(((x_t.mean(1) - alpha * x0[:, 0]).abs() <= 4 * sigma / n**0.5).all())
    assert bool(((x_t.var(1) - sigma**2).abs() <= 4 * sigma**2 * (2 / n) ** 0.5).all())


def test_each_set_has_its_own_time(schedule: NoiseSchedule, generator: torch.Generator) -> None:
    x0, noise = draw(generator, 3, 4, 5), draw(generator, 3, 4, 5)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    together = add_noise(x0, noise, t, schedule)
    for b in range(3):
        torch.testing.assert_close(
            together[b : b + 1], add_noise(x0[b : b + 1], noise[b : b + 1], t[b : b + 1], schedule)
        )
    assert torch.equal(add_noise(x0, noise, torch.zeros(3), schedule), x0)


def test_noised_cells_keep_their_dtype(generator: torch.Generator) -> None:
    x0 = draw(generator, 1, 2, 3).bfloat16()
    assert add_noise(x0, x0, torch.tensor([0.5]), LinearSchedule()).dtype == torch.bfloat16


def test_two_steps_of_the_chain_are_one_marginal(schedule: NoiseSchedule) -> None:
    # x_t given x_s is Gaussian with scale a = alpha_t / alpha_s and variance 1 - a^2 for every s < t.
    s, t = torch.tensor([0.2, 0.6], dtype=torch.float64)
    a = schedule.alpha(t) / schedule.alpha(s)
    torch.testing.assert_close(a**2 * schedule.sigma(s) ** 2 + 1 - a**2, schedule.sigma(t) ** 2)


def test_conversions_agree_in_all_directions(schedule: NoiseSchedule, generator: torch.Generator) -> None:
    t = torch.tensor([0.01, 0.3, 0.6, 0.99], dtype=torch.float64)
    x0, noise = draw(generator, 4, 3, 5), draw(generator, 4, 3, 5)
    x_t, v = add_noise(x0, noise, t, schedule), velocity(x0, noise, t, schedule)
    for found, expected in [
        (noise_from_x0(x_t, x0, t, schedule), noise),
        (noise_from_velocity(x_t, v, t, schedule), noise),
        (x0_from_noise(x_t, noise, t, schedule), x0),
        (x0_from_velocity(x_t, v, t, schedule), x0),
        (velocity_from_x0(x_t, x0, t, schedule), v),
        (velocity_from_noise(x_t, noise, t, schedule), v),
    ]:
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_velocity_is_the_derivative_of_the_state_in_the_angle() -> None:
    # Salimans and Ho 2022: with alpha = cos(phi) and sigma = sin(phi), v = d x_t / d phi.
    schedule, dt = LinearSchedule(), 1e-6
    x0, noise = torch.full((1, 1, 1), 1.7, dtype=torch.float64), torch.full((1, 1, 1), -0.4, dtype=torch.float64)
    t = torch.tensor([0.4], dtype=torch.float64)
    phi = [torch.atan2(schedule.sigma(u), schedule.alpha(u)).item() for u in (t - dt, t + dt)]
    state = [add_noise(x0, noise, u, schedule).item() for u in (t - dt, t + dt)]
    slope = (state[1] - state[0]) / (phi[1] - phi[0])
    assert velocity(x0, noise, t, schedule).item() == pytest.approx(slope, rel=1e-7)


def test_division_by_zero_is_refused_and_names_the_time() -> None:
    x, t = torch.ones(2, 3, 4), torch.tensor([0.5, 0.0])
    for needs_noise in (noise_from_x0, velocity_from_x0):
        with pytest.raises(ValueError, match="sigma is 0 at t=0.0"):
            needs_noise(x, x, t, LinearSchedule())
    for needs_signal in (x0_from_noise, velocity_from_noise):
        with pytest.raises(ValueError, match="alpha is 0 at t=1.0"):
            needs_signal(x, x, 1 - t, ZeroSignal())


def test_published_schedules_can_be_inverted_from_pure_noise(
    schedule: NoiseSchedule, generator: torch.Generator
) -> None:
    x0, noise, t = draw(generator, 1, 3, 4), draw(generator, 1, 3, 4), torch.ones(1, dtype=torch.float64)
    x_t = add_noise(x0, noise, t, schedule)
    torch.testing.assert_close(x0_from_noise(x_t, noise, t, schedule), x0, rtol=1e-9, atol=1e-9)


def test_stable_conversions_work_at_both_ends(schedule: NoiseSchedule, generator: torch.Generator) -> None:
    x0, noise, t = draw(generator, 2, 3, 4), draw(generator, 2, 3, 4), torch.tensor([0.0, 1.0], dtype=torch.float64)
    x_t, v = add_noise(x0, noise, t, schedule), velocity(x0, noise, t, schedule)
    torch.testing.assert_close(x0_from_velocity(x_t, v, t, schedule), x0)
    torch.testing.assert_close(noise_from_velocity(x_t, v, t, schedule), noise)


def test_wrong_shapes_are_refused() -> None:
    x = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"x0 \(2, 3, 4\), noise \(3, 4\)"):
        add_noise(x, x[0], torch.zeros(2), LinearSchedule())
    with pytest.raises(ValueError, match="one time per set"):
        add_noise(x, x, torch.zeros(2, 3), LinearSchedule())
    with pytest.raises(ValueError, match="conditional"):
        guided(x, x[:1], 1.0)


def test_guidance_of_zero_is_the_conditional_prediction(generator: torch.Generator) -> None:
    conditional, unconditional = draw(generator, 2, 3, 4), draw(generator, 2, 3, 4)
    assert torch.equal(guided(conditional, unconditional, 0.0), conditional)
    torch.testing.assert_close(guided(conditional, unconditional, -1.0), unconditional)
    torch.testing.assert_close(guided(conditional, unconditional, 1.0), 2 * conditional - unconditional)


def test_guidance_is_the_same_for_data_and_noise(schedule: NoiseSchedule, generator: torch.Generator) -> None:
    x_t, c, u = (draw(generator, 2, 3, 4) for _ in range(3))
    t, w = torch.tensor([0.3, 0.8], dtype=torch.float64), torch.tensor([0.5, 2.0], dtype=torch.float64)[:, None, None]
    in_noise = guided(noise_from_x0(x_t, c, t, schedule), noise_from_x0(x_t, u, t, schedule), w)
    torch.testing.assert_close(x0_from_noise(x_t, in_noise, t, schedule), guided(c, u, w))
