"""What all samplers share: their signature, the steps of a time grid, and the call of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pertcast.diffusion._noise import NoiseFn
    from pertcast.diffusion._schedule import NoiseSchedule

__all__ = ["Callback", "Denoiser", "Sampler", "Step", "combined", "predict_x0", "steps"]

type Denoiser = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""``(x_t [B, M, K], t [B], previous prediction or None) -> prediction of x0 [B, M, K]``."""

type Callback = Callable[[int, float, Tensor, Tensor], None]
"""``(step index, t, x_t, prediction of x0)``, called after every network call."""


class Sampler(Protocol):
    """Call that all samplers share.

    Examples
    --------
    >>> import torch
    >>> from pertcast.diffusion import LinearSchedule, sample_ddim, sample_dpmpp_2m
    >>> def draw(sampler: Sampler) -> float:
    ...     cells = sampler(
    ...         lambda x_t, t, previous: x_t * 0 + 2, torch.randn(1, 4, 3), [1.0, 0.5, 0.0], LinearSchedule()
    ...     )
    ...     return float(cells.mean())
    >>> draw(sample_ddim), draw(sample_dpmpp_2m)
    (2.0, 2.0)
    """

    def __call__(
        self,
        denoise: Denoiser,
        x_T: Tensor,
        times: Tensor | Sequence[float],
        schedule: NoiseSchedule,
        *,
        noise_fn: NoiseFn | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Cells at the last time of the grid, [B, M, K]."""


class Step(NamedTuple):
    """One step from time ``t`` down to time ``s``, in float64."""

    number: int
    t: float
    alpha_t: float
    sigma_t: float
    alpha_s: float
    sigma_s: float
    log_snr_t: float
    log_snr_s: float
    """Infinite at ``s = 0``."""


def steps(times: Tensor | Sequence[float], schedule: NoiseSchedule) -> Iterator[Step]:
    """Split a grid into its steps; the whole grid is checked before the first one.

    Raises
    ------
    ValueError
        If the grid has fewer than 2 times, does not strictly descend, or leaves [0, 1].
    """
    grid = torch.as_tensor(times, dtype=torch.float64, device="cpu")
    if grid.ndim != 1 or len(grid) < 2 or not bool((grid.diff() < 0).all()) or not 0 <= grid[-1] < grid[0] <= 1:
        raise ValueError(f"times are {grid.tolist()}; at least 2 strictly descending times in [0, 1] are needed.")
    knots = zip(
        grid.tolist(),
        schedule.alpha(grid).tolist(),
        schedule.sigma(grid).tolist(),
        schedule.log_snr(grid).tolist(),
        strict=True,
    )
    return (
        Step(number, t, alpha_t, sigma_t, alpha_s, sigma_s, log_snr_t, log_snr_s)
        for number, ((t, alpha_t, sigma_t, log_snr_t), (_, alpha_s, sigma_s, log_snr_s)) in enumerate(pairwise(knots))
    )


def combined(x: Tensor, a: float, y: Tensor, b: float) -> Tensor:
    """Return ``a x + b y``; without reading ``y`` where it no longer counts, as in the last step, [B, M, K]."""
    scaled = x if a == 1 else a * x
    return scaled if b == 0 else scaled.add(y, alpha=b)


def predict_x0(denoise: Denoiser, x: Tensor, step: Step, previous: Tensor | None, callback: Callback | None) -> Tensor:
    """Call the network at one time for all sets and report to the callback, [B, M, K]."""
    t = torch.full(x.shape[:1], step.t, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    x0 = denoise(x, t, previous)
    if callback is not None:
        callback(step.number, step.t, x, x0)
    return x0
