from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from scipy.integrate import quad

from pertcast.diffusion import (
    CosineSchedule,
    DiscreteLinearSchedule,
    LinearSchedule,
    NoiseSchedule,
    get_schedule,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ["cosine", "linear", "discrete_linear"]
INTERIOR = torch.tensor([1e-6, 1e-4, 0.01, 0.1, 0.3, 0.5, 0.77, 0.9, 0.99, 0.9999], dtype=torch.float64)


@pytest.fixture(params=NAMES)
def schedule(request: pytest.FixtureRequest) -> NoiseSchedule:
    return get_schedule(request.param)


def test_variance_is_preserved_and_ends_are_exact(schedule: NoiseSchedule) -> None:
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t), rtol=0, atol=4e-16)
    assert alpha[0] == 1
    assert sigma[0] == 0
    assert 0 < alpha[-1] < 0.01
    assert bool((alpha.diff() < 0).all())
    assert bool((sigma.diff() > 0).all())


def test_log_snr_is_the_ratio_of_the_scales(schedule: NoiseSchedule) -> None:
    expected = 2 * (schedule.alpha(INTERIOR) / schedule.sigma(INTERIOR)).log()
    torch.testing.assert_close(schedule.log_snr(INTERIOR), expected, rtol=1e-12, atol=1e-12)
    assert schedule.log_snr(torch.zeros(())) == math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_time_inverts_log_snr(schedule: NoiseSchedule, dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    t = INTERIOR.to(dtype)
    torch.testing.assert_close(schedule.time(schedule.log_snr(t)), t, rtol=30 * eps, atol=2 * eps)
    log_snr = torch.linspace(-9.5, 15, 50, dtype=dtype)
    torch.testing.assert_close(schedule.log_snr(schedule.time(log_snr)), log_snr, rtol=0, atol=1e3 * eps)


def test_time_of_unreachable_ratios_is_an_end(schedule: NoiseSchedule) -> None:
    ends = schedule.time(torch.tensor([math.inf, -60.0, -math.inf], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64), rtol=0, atol=1e-12)


def test_float32_is_accurate_at_both_ends(schedule: NoiseSchedule) -> None:
    t = torch.cat([10.0 ** torch.linspace(-7, -1, 61), 1 - 10.0 ** torch.linspace(-4, -1, 31)])
    for scale in (schedule.alpha, schedule.sigma):
        torch.testing.assert_close(scale(t).double(), scale(t.double()), rtol=5e-6, atol=0)


@pytest.mark.parametrize("t", [0.001, 0.2, 0.5, 0.9, 0.99])
def test_cosine_matches_its_definition_and_the_integral_of_its_rate(t: float) -> None:
    s = 0.008

    def alpha_bar(t: float) -> float:
        return math.cos((t + s) / (1 + s) * math.pi / 2) ** 2 / math.cos(s / (1 + s) * math.pi / 2) ** 2

    def beta(t: float) -> float:
        return math.pi / (1 + s) * math.tan((t + s) / (1 + s) * math.pi / 2)

    alpha = CosineSchedule().alpha(torch.tensor(t, dtype=torch.float64)).item()
    assert alpha**2 == pytest.approx(alpha_bar(t), rel=1e-12)
    assert alpha**2 == pytest.approx(math.exp(-quad(beta, 0, t, epsabs=1e-13)[0]), rel=1e-9)


def test_cosine_clamp_acts_only_at_the_noise_end() -> None:
    schedule = CosineSchedule()
    end = torch.ones((), dtype=torch.float64)
    assert schedule.log_snr(end) == -20
    assert schedule.alpha(end).item() == pytest.approx(math.exp(-10), rel=1e-8)
    assert schedule.log_snr(torch.tensor(0.99997, dtype=torch.float64)) > -20


@pytest.mark.parametrize("t", [0.001, 0.2, 0.5, 1.0])
def test_linear_matches_the_integral_of_its_rate(t: float) -> None:
    integral = quad(lambda u: 0.1 + u * (20 - 0.1), 0, t, epsabs=1e-13)[0]
    schedule = LinearSchedule(beta_min=0.1, beta_max=20)
    assert schedule.alpha(torch.tensor(t, dtype=torch.float64)).item() ** 2 == pytest.approx(math.exp(-integral))
    assert schedule.sigma(torch.tensor(t, dtype=torch.float64)).item() ** 2 == pytest.approx(1 - math.exp(-integral))


def test_discrete_linear_is_the_forward_chain_at_its_knots() -> None:
    # x_n = sqrt(1 - beta_n) x_{n-1} + sqrt(beta_n) noise: follow the factor of x_0 and the variance of the noise.
    signal, variance = [1.0], [0.0]
    for n in range(1000):
        beta = 1e-4 + (2e-2 - 1e-4) * n / 999
        signal.append(math.sqrt(1 - beta) * signal[-1])
        variance.append((1 - beta) * variance[-1] + beta)
    schedule = DiscreteLinearSchedule()
    t = torch.arange(1001, dtype=torch.float64) / 1000
    torch.testing.assert_close(schedule.alpha(t), torch.tensor(signal, dtype=torch.float64), rtol=1e-10, atol=0)
    torch.testing.assert_close(schedule.sigma(t) ** 2, torch.tensor(variance, dtype=torch.float64), rtol=1e-10, atol=0)


def test_discrete_linear_interpolates_log_alpha() -> None:
    schedule = DiscreteLinearSchedule(n_timesteps=4, beta_start=0.1, beta_end=0.4)
    t = torch.tensor([0.25, 0.3, 0.5], dtype=torch.float64)
    left, middle, right = schedule.alpha(t).log().tolist()
    assert left == pytest.approx(0.5 * math.log(0.9))
    assert right == pytest.approx(0.5 * math.log(0.9 * 0.8))
    assert middle == pytest.approx(0.8 * left + 0.2 * right)


def test_schedules_compare_by_value_and_cannot_change() -> None:
    assert get_schedule("linear") == LinearSchedule(0.1, 20.0)
    assert LinearSchedule() != LinearSchedule(beta_max=10.0)
    with pytest.raises(AttributeError):
        LinearSchedule().beta_min = 1.0  # type: ignore[misc]


def test_get_schedule_lists_the_names() -> None:
    with pytest.raises(ValueError, match="'sigmoid'.*'cosine', 'linear', 'discrete_linear'"):
        get_schedule("sigmoid")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CosineSchedule(offset=0.0), "offset is 0.0"),
        (lambda: LinearSchedule(beta_min=0.0), "beta_min is 0.0"),
        (lambda: LinearSchedule(beta_min=2.0, beta_max=1.0), "beta_max is 1.0"),
        (lambda: DiscreteLinearSchedule(n_timesteps=0), "n_timesteps is 0"),
        (lambda: DiscreteLinearSchedule(beta_end=1.0), "beta_end=1.0"),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], NoiseSchedule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
