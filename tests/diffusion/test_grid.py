from __future__ import annotations

from typing import Any

import pytest
import torch

from pertcast.diffusion import NoiseSchedule, get_schedule, spaced_times


@pytest.fixture(params=["cosine", "linear", "discrete_linear"])
def schedule(request: pytest.FixtureRequest) -> NoiseSchedule:
    return get_schedule(request.param)


@pytest.mark.parametrize("spacing", ["time", "log_snr"])
@pytest.mark.parametrize("n_steps", [1, 2, 7, 100])
@pytest.mark.parametrize("ends", [(1.0, 0.0), (0.7, 0.0), (1.0, 0.01)])
def test_grid_descends_between_its_ends(
    schedule: NoiseSchedule, spacing: Any, n_steps: int, ends: tuple[float, float]
) -> None:
    times = spaced_times(n_steps, schedule, t_start=ends[0], t_end=ends[1], spacing=spacing)
    assert times.shape == (n_steps + 1,)
    assert (times[0].item(), times[-1].item()) == ends
    assert bool((times.diff() < 0).all())


def test_time_spacing_is_even(schedule: NoiseSchedule) -> None:
    steps = spaced_times(10, schedule, t_start=0.9, t_end=0.1).diff()
    torch.testing.assert_close(steps, torch.full_like(steps, -0.08))


def test_log_snr_spacing_is_even_within_reach(schedule: NoiseSchedule) -> None:
    times = spaced_times(10, schedule, t_start=0.9, t_end=0.1, spacing="log_snr")
    steps = schedule.log_snr(times).diff()
    torch.testing.assert_close(steps, steps.mean().expand(10))


def test_log_snr_spacing_divides_up_to_ten(schedule: NoiseSchedule) -> None:
    log_snr = schedule.log_snr(spaced_times(5, schedule, spacing="log_snr"))
    step = log_snr[2] - log_snr[1]
    torch.testing.assert_close(log_snr[1:5].diff(), step.expand(3))
    # The range divided ends at 10 on the side of the data, and starts at -10 at the latest.
    assert (log_snr[4] + step).item() == pytest.approx(10)
    assert (log_snr[1] - step).item() == pytest.approx(-10, abs=0.2)


@pytest.mark.parametrize(
    ("n_steps", "kwargs", "message"),
    [
        (0, {}, "n_steps is 0"),
        (4, {"t_start": 1.5}, "t_start is 1.5"),
        (4, {"t_start": 0.2, "t_end": 0.2}, "t_end is 0.2"),
        (4, {"t_end": -0.1}, "t_end is -0.1"),
        (4, {"spacing": "karras"}, "'karras'.*'time' or 'log_snr'"),
        (4, {"t_start": 1e-5, "spacing": "log_snr"}, "spacing='time'"),
    ],
)
def test_impossible_grids_are_refused(n_steps: int, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spaced_times(n_steps, get_schedule("linear"), **kwargs)
