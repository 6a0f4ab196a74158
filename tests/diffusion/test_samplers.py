from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from pertcast.diffusion import (
    CosineSchedule,
    LinearSchedule,
    NoiseSchedule,
    get_sampler,
    get_schedule,
    initial_noise,
    noise_from,
    sample_ancestral,
    sample_ddim,
    sample_dpmpp_2m,
    spaced_times,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ["cosine", "linear", "discrete_linear"]
SAMPLERS = ["ddim", "ancestral", "dpmpp_2m"]


@pytest.fixture(params=NAMES)
def schedule(request: pytest.FixtureRequest) -> NoiseSchedule:
    return get_schedule(request.param)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


class Gaussian:
    """Data N(mean, covariance), its best denoiser E[x0 | x_t] and its probability flow in closed form."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        self.schedule = schedule
        self.mean = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
        factor = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [-0.3, 0.2, 0.4]], dtype=torch.float64)
        self.covariance = factor @ factor.T

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return alpha * self.mean, alpha**2 * self.covariance + sigma**2 * torch.eye(3, dtype=torch.float64)

    def denoise(self, x_t: Tensor, t: Tensor, x0: Tensor | None) -> Tensor:
        mean, covariance = self.marginal(t[0])
        gain = self.schedule.alpha(t[0]) * self.covariance @ covariance.inverse()
        return self.mean + (x_t - mean) @ gain.T

    def flow(self, x: Tensor, t: float, s: float) -> Tensor:
        """Each principal component is rescaled by the ratio of its standard deviations at s and t."""
        _, axes = torch.linalg.eigh(self.covariance)
        (mean_t, cov_t), (mean_s, cov_s) = (self.marginal(torch.tensor(u, dtype=torch.float64)) for u in (t, s))
        scale = (torch.diag(axes.T @ cov_s @ axes) / torch.diag(axes.T @ cov_t @ axes)).sqrt()
        return mean_s + (x - mean_t) @ axes * scale @ axes.T


def slope(errors: list[float], n_steps: list[int]) -> float:
    """Least-squares slope of log error on log steps."""
    x = torch.tensor(n_steps, dtype=torch.float64).log()
    y = torch.tensor(errors, dtype=torch.float64).log()
    return (((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("times", [[1.0, 0.0], [0.4, 0.0], [1.0, 0.8, 0.3, 0.0]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_step_to_zero_returns_the_prediction_itself(
    schedule: NoiseSchedule, generator: torch.Generator, name: str, times: list[float], dtype: torch.dtype
) -> None:
    predictions: list[Tensor] = []

    def denoise(x_t: Tensor, t: Tensor, x0: Tensor | None) -> Tensor:
        assert (t.shape, t.dtype) == ((2,), dtype)
        predictions.append((x_t * (1 + t[:, None, None])).relu())
        return predictions[-1]

    x_T = torch.randn(2, 3, 4, generator=generator, dtype=dtype)
    x = get_sampler(name)(denoise, x_T, times, schedule, noise_fn=noise_from(generator))
    assert len(predictions) == len(times) - 1
    assert torch.equal(x, predictions[-1])
    assert x.dtype == dtype


@pytest.mark.parametrize("name", SAMPLERS)
def test_self_conditioning_and_callback_see_every_call(generator: torch.Generator, name: str) -> None:
    given: list[Tensor | None] = []
    traced: list[tuple[int, float, Tensor, Tensor]] = []
    schedule = CosineSchedule()

    def denoise(x_t: Tensor, t: Tensor, x0: Tensor | None) -> Tensor:
        given.append(x0)
        return x_t * 0.5

    x_T = torch.randn(2, 3, 4, generator=generator)
    times = spaced_times(4, schedule)
    get_sampler(name)(
        denoise, x_T, times, schedule, noise_fn=noise_from(generator), callback=lambda *args: traced.append(args)
    )
    assert [step for step, *_ in traced] == [0, 1, 2, 3]
    assert [t for _, t, *_ in traced] == [1.0, 0.75, 0.5, 0.25]
    assert torch.equal(traced[0][2], x_T)
    assert given[0] is None
    for previous, (_, _, x_t, x0) in zip(given[1:], traced, strict=False):
        assert previous is x0
        assert torch.equal(x0, x_t * 0.5)


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("dpmpp_2m", 2)])
def test_deterministic_samplers_converge_to_the_exact_flow(
    schedule: NoiseSchedule, generator: torch.Generator, name: str, order: int
) -> None:
    data, n_steps = Gaussian(schedule), [40, 80, 160]
    x_T = torch.randn(1, 50, 3, generator=generator, dtype=torch.float64)
    exact = data.flow(x_T, 0.9, 0.1)
    errors = []
    for n in n_steps:
        times = spaced_times(n, schedule, t_start=0.9, t_end=0.1)
        x = get_sampler(name)(data.denoise, x_T, times, schedule)
        errors.append((x - exact).square().mean().sqrt().item())
    assert slope(errors, n_steps) == pytest.approx(-order, abs=0.1)
    assert errors[-1] < (0.02 if order == 1 else 0.001)


@pytest.mark.parametrize(("name", "tolerance"), [("ddim", 0.03), ("dpmpp_2m", 0.002)])
def test_a_whole_run_maps_noise_to_the_data(
    schedule: NoiseSchedule, generator: torch.Generator, name: str, tolerance: float
) -> None:
    data = Gaussian(schedule)
    x_T = initial_noise((2, 100, 3), 1.0, schedule, generator, dtype=torch.float64)
    times = spaced_times(100, schedule, spacing="log_snr")
    x = get_sampler(name)(data.denoise, x_T, times, schedule)
    assert (x - data.flow(x_T, 1.0, 0.0)).square().mean().sqrt() < tolerance


@pytest.mark.parametrize("sampler", [sample_ancestral, partial(sample_ddim, eta=0.5)])
def test_stochastic_samplers_draw_from_the_data(generator: torch.Generator, sampler: Callable[..., Tensor]) -> None:
    schedule, n = LinearSchedule(), 20_000
    data = Gaussian(schedule)
    x_T = initial_noise((1, n, 3), 1.0, schedule, generator, dtype=torch.float64)
    times = spaced_times(300, schedule, spacing="log_snr")
    x = sampler(data.denoise, x_T, times, schedule, noise_fn=noise_from(generator))[0]
    sd = data.covariance.diagonal().sqrt()
    # Four standard errors, and 0.01 sd for the bias of 300 steps.
    assert bool(((x.mean(0) - data.mean).abs() < sd * (4 / n**0.5 + 0.01)).all())
    assert bool(((x.T.cov() - data.covariance).abs() < sd[:, None] * sd * (4 * (2 / n) ** 0.5 + 0.01)).all())


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m"])
def test_known_data_are_followed_exactly_in_any_number_of_steps(
    schedule: NoiseSchedule, generator: torch.Generator, name: str
) -> None:
    x0, noise = torch.randn(2, 1, 5, 3, generator=generator, dtype=torch.float64)
    t, s = torch.tensor([1.0, 0.2], dtype=torch.float64)
    x_T = schedule.alpha(t) * x0 + schedule.sigma(t) * noise
    expected = schedule.alpha(s) * x0 + schedule.sigma(s) * noise
    for n in (1, 2, 5):
        times = spaced_times(n, schedule, t_end=0.2)
        x = get_sampler(name)(lambda x_t, t, previous: x0, x_T, times, schedule)
        torch.testing.assert_close(x, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sampler", [sample_ancestral, partial(sample_ddim, eta=0.3), partial(sample_ddim, eta=1.0)])
def test_known_data_keep_their_marginal_at_every_step(
    schedule: NoiseSchedule, generator: torch.Generator, sampler: Callable[..., Tensor]
) -> None:
    # If the network knows x0, x_s given x0 is N(alpha_s x0, sigma_s^2) after every step, however long.
    n, x0 = 40_000, torch.tensor([2.0], dtype=torch.float64)
    alpha, sigma = schedule.alpha(torch.ones(1).double()), schedule.sigma(torch.ones(1).double())
    x_T = alpha * x0 + sigma * torch.randn(1, n, 1, generator=generator, dtype=torch.float64)
    seen = []

    def check(step: int, t: float, x_t: Tensor, prediction: Tensor) -> None:
        time = torch.tensor([t], dtype=torch.float64)
        alpha, sigma = schedule.alpha(time), schedule.sigma(time)
        assert abs(x_t.mean() - alpha * x0) < 4 * sigma / n**0.5
        assert abs(x_t.var() / sigma**2 - 1) < 4 * (2 / n) ** 0.5
        seen.append(step)

    sampler(
        lambda x_t, t, previous: x0.expand_as(x_t),
        x_T,
        [1.0, 0.7, 0.2, 0.05, 0.0],
        schedule,
        noise_fn=noise_from(generator),
        callback=check,
    )
    assert seen == [0, 1, 2, 3]


def test_ancestral_step_is_the_conditional_of_the_joint_gaussian(schedule: NoiseSchedule) -> None:
    # Given x0, (x_s, x_t) is Gaussian with covariance (alpha_t / alpha_s) sigma_s^2: condition x_s on x_t.
    grid, x0, x_t = torch.tensor([0.6, 0.35], dtype=torch.float64), 1.3, -0.7
    (alpha_t, alpha_s), (sigma_t, sigma_s) = schedule.alpha(grid).tolist(), schedule.sigma(grid).tolist()
    covariance = alpha_t / alpha_s * sigma_s**2
    mean = alpha_s * x0 + covariance / sigma_t**2 * (x_t - alpha_t * x0)
    sd = math.sqrt(sigma_s**2 - covariance**2 / sigma_t**2)

    def constant(z: float, step: int, like: Tensor) -> Tensor:
        return torch.full_like(like, z)

    for z in (0.0, 1.0):
        x = sample_ancestral(
            lambda x, t, previous: torch.full_like(x, x0),
            torch.full((1, 1, 1), x_t, dtype=torch.float64),
            grid,
            schedule,
            noise_fn=partial(constant, z),
        )
        assert x.item() == pytest.approx(mean + sd * z, rel=1e-12)


@pytest.mark.parametrize("eta", [0.25, 0.5, 1.0])
def test_ddim_step_is_that_of_the_paper(schedule: NoiseSchedule, eta: float) -> None:
    # Song et al. 2021, Eq. 12 with the standard deviation of Eq. 16; their alpha is the square of ours.
    grid, x0, x_t, z = torch.tensor([0.6, 0.35], dtype=torch.float64), 1.3, -0.7, 0.4
    now, then = schedule.alpha(grid).square().tolist()
    sd = eta * math.sqrt((1 - then) / (1 - now)) * math.sqrt(1 - now / then)
    epsilon = (x_t - math.sqrt(now) * x0) / math.sqrt(1 - now)
    expected = math.sqrt(then) * x0 + math.sqrt(1 - then - sd**2) * epsilon + sd * z
    x = sample_ddim(
        lambda x, t, previous: torch.full_like(x, x0),
        torch.full((1, 1, 1), x_t, dtype=torch.float64),
        grid,
        schedule,
        eta=eta,
        noise_fn=lambda step, like: torch.full_like(like, z),
    )
    assert x.item() == pytest.approx(expected, rel=1e-9)


def test_ddim_with_full_noise_is_ancestral_sampling(schedule: NoiseSchedule, generator: torch.Generator) -> None:
    data = Gaussian(schedule)
    x_T = torch.randn(1, 20, 3, generator=generator, dtype=torch.float64)
    times = spaced_times(7, schedule)
    draw = [noise_from(torch.Generator().manual_seed(5)) for _ in range(2)]
    ddim = sample_ddim(data.denoise, x_T, times, schedule, eta=1.0, noise_fn=draw[0])
    torch.testing.assert_close(ddim, sample_ancestral(data.denoise, x_T, times, schedule, noise_fn=draw[1]))


def test_first_step_of_dpmpp_is_ddim_and_the_second_is_not(schedule: NoiseSchedule, generator: torch.Generator) -> None:
    data = Gaussian(schedule)
    x_T = torch.randn(1, 20, 3, generator=generator, dtype=torch.float64)
    one, two = [0.9, 0.5], [0.9, 0.5, 0.2]
    first = sample_dpmpp_2m(data.denoise, x_T, one, schedule)
    torch.testing.assert_close(first, sample_ddim(data.denoise, x_T, one, schedule))
    second = sample_dpmpp_2m(data.denoise, x_T, two, schedule)
    assert (second - sample_ddim(data.denoise, x_T, two, schedule)).abs().max() > 1e-3


def test_second_step_of_dpmpp_has_a_local_error_of_third_order_on_uneven_steps() -> None:
    # x_s / sigma_s = x_t / sigma_t + integral of e^lambda x0(lambda), known for x0 = 1 + 2 lambda.
    schedule = LinearSchedule()

    def lam(t: Tensor) -> Tensor:
        return 0.5 * schedule.log_snr(t)

    def error(h: float) -> float:
        grid = schedule.time(2 * torch.tensor([-2 * h, 0.0, h], dtype=torch.float64))
        sigma = schedule.sigma(grid)
        x = torch.full((1, 1, 1), 0.3, dtype=torch.float64)
        second: list[Tensor] = []
        out = sample_dpmpp_2m(
            lambda x_t, t, previous: (1 + 2 * lam(t)).view(1, 1, 1),
            x,
            grid,
            schedule,
            callback=lambda step, t, x_t, x0: second.append(x_t),
        )
        # Integral of e^l (1 + 2 l) from 0 to h: [e^l (2 l - 1)].
        integral = math.exp(h) * (2 * h - 1) + 1
        exact = sigma[2] * (second[1] / sigma[1] + integral)
        return abs((out - exact).item())

    assert slope([error(h) for h in (0.1, 0.05, 0.025)], [1, 2, 4]) == pytest.approx(-3, abs=0.2)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_set_does_not_depend_on_its_batch(schedule: NoiseSchedule, name: str) -> None:
    def seeded(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    def run(*seeds: int) -> Tensor:
        generators = seeded(*seeds)
        x_T = initial_noise((len(seeds), 4, 5), 1.0, schedule, generators)
        return get_sampler(name)(
            lambda x_t, t, x0: x_t.tanh(), x_T, spaced_times(5, schedule), schedule, noise_fn=noise_from(generators)
        )

    together = run(3, 1, 2)
    assert torch.equal(together[1:2], run(1))
    assert not torch.equal(together[0], together[1])


def test_start_with_unit_variance_stays_too_noisy() -> None:
    # A start of variance 1 at t < 1 keeps its excess on the deterministic path; a matched start does not.
    schedule, n = get_schedule("discrete_linear"), 20_000
    times = spaced_times(50, schedule, t_start=0.1, t_end=0.01)
    x0 = torch.tensor(2.0, dtype=torch.float64)
    noise = torch.randn(1, n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matched = initial_noise(
        (1, n, 1), 0.1, schedule, torch.Generator().manual_seed(0), x0_guess=x0.expand(1, n, 1), dtype=torch.float64
    )
    spread = [
        sample_ddim(lambda x_t, t, previous: x0.expand_as(x_t), start, times, schedule).std().item()
        for start in (noise, matched)
    ]
    assert spread[1] == pytest.approx(schedule.sigma(times[-1]).item(), rel=0.02)
    assert spread[0] / spread[1] == pytest.approx(3.12, abs=0.02)  # 1 / sigma(0.1)


def test_bad_calls_are_refused() -> None:
    x, schedule = torch.zeros(1, 2, 3), LinearSchedule()

    def denoise(x_t: Tensor, t: Tensor, x0: Tensor | None) -> Tensor:
        raise AssertionError("the network must not be called")

    with pytest.raises(ValueError, match="'heun'.*'ddim', 'ancestral', 'dpmpp_2m'"):
        get_sampler("heun")
    for times in ([1.0], [0.5, 0.5, 0.0], [0.0, 0.5], [1.2, 0.0], [1.0, -0.1], [[1.0, 0.0]], [1.0, math.nan, 0.0]):
        with pytest.raises(ValueError, match="strictly descending"):
            sample_ddim(denoise, x, times, schedule)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"noise_from\(generator\)"):
        sample_ancestral(denoise, x, [1.0, 0.0], schedule)
    with pytest.raises(ValueError, match=r"noise_from\(generator\)"):
        sample_ddim(denoise, x, [1.0, 0.0], schedule, eta=0.1)
    with pytest.raises(ValueError, match="eta is 1.5"):
        sample_ddim(denoise, x, [1.0, 0.0], schedule, eta=1.5)
