from __future__ import annotations

import pytest
import torch

from pertcast.diffusion import LinearSchedule, NoiseSchedule, get_schedule, initial_noise, noise_from


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("name", ["cosine", "linear", "discrete_linear"])
@pytest.mark.parametrize("t_start", [1.0, 0.3, 0.1])
def test_start_has_the_mean_and_variance_of_the_marginal(name: str, t_start: float) -> None:
    schedule: NoiseSchedule = get_schedule(name)
    n = 40_000
    guess = torch.tensor([4.0, -1.0], dtype=torch.float64).expand(1, n, 2)
    x = initial_noise((1, n, 2), t_start, schedule, *seeded(0), x0_guess=guess, dtype=torch.float64)
    t = torch.tensor(t_start, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    assert bool(((x.mean((0, 1)) - alpha * guess[0, 0]).abs() < 4 * sigma / n**0.5).all())
    assert bool(((x.var(1) / sigma**2 - 1).abs() < 4 * (2 / n) ** 0.5).all())
    alone = initial_noise((1, n, 2), t_start, schedule, *seeded(0), dtype=torch.float64)
    torch.testing.assert_close(alone, x - alpha * guess)


def test_a_set_keeps_its_noise_in_any_batch() -> None:
    like = torch.zeros(3, 4, 5)
    together = [noise_from(generators)(step, like) for generators in [seeded(1, 2, 3)] for step in range(2)]
    for b, seed in enumerate((1, 2, 3)):
        alone = noise_from(seeded(seed))
        for step in range(2):
            assert torch.equal(together[step][b], alone(step, like[:1])[0])
    start = initial_noise((3, 4, 5), 1.0, LinearSchedule(), seeded(1, 2, 3))
    assert torch.equal(start[1:2], initial_noise((1, 4, 5), 1.0, LinearSchedule(), seeded(2)))


def test_noise_is_fresh_at_every_step_and_repeats_with_the_seed() -> None:
    like = torch.zeros(2, 3, 4, dtype=torch.float64)
    first, second = (noise_from(*seeded(7)) for _ in range(2))
    a, b = first(0, like), first(1, like)
    assert not torch.equal(a, b)
    assert torch.equal(second(0, like), a)
    assert a.dtype == torch.float64


def test_global_random_state_is_untouched() -> None:
    before = torch.get_rng_state()
    initial_noise((2, 3, 4), 1.0, LinearSchedule(), *seeded(0))
    noise_from(seeded(0, 1))(0, torch.zeros(2, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_bad_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="2 generators were given for 3 sets"):
        noise_from(seeded(0, 1))(0, torch.zeros(3, 4, 5))
    with pytest.raises(ValueError, match="t_start is 0"):
        initial_noise((1, 2, 3), 0.0, LinearSchedule(), *seeded(0))
    with pytest.raises(ValueError, match=r"x0_guess has shape \(2, 3\)"):
        initial_noise((1, 2, 3), 1.0, LinearSchedule(), *seeded(0), x0_guess=torch.zeros(2, 3))
