"""Random numbers of the samplers: always from generators that the caller owns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pertcast.diffusion._schedule import NoiseSchedule

__all__ = ["NoiseFn", "initial_noise", "noise_from"]

type NoiseFn = Callable[[int, Tensor], Tensor]
"""``(step index, tensor to imitate) -> standard normal noise`` of that shape, dtype and device."""


def noise_from(generator: torch.Generator | Sequence[torch.Generator]) -> NoiseFn:
    """Source of standard normal noise for a sampler.

    Parameters
    ----------
    generator
        One generator for the whole batch, or one per set (B of them). With one per set, a set gets the same noise
        whatever other sets it is batched with. Noise is drawn on the generator's device and moved, so a CPU generator
        gives the same numbers whichever device computes.

    Returns
    -------
    Function ``(step, like) -> noise`` for the samplers' ``noise_fn``. It raises a ValueError if the number of
    generators is not the number of sets.

    Examples
    --------
    >>> noise_fn = noise_from([torch.Generator().manual_seed(seed) for seed in (0, 1)])
    >>> noise_fn(0, torch.zeros(2, 3, 5)).shape
    torch.Size([2, 3, 5])
    """

    def noise_fn(step: int, like: Tensor) -> Tensor:
        return _normal(like.shape, generator, dtype=like.dtype).to(like.device)

    return noise_fn


def initial_noise(
    shape: Sequence[int],
    t_start: float,
    schedule: NoiseSchedule,
    generator: torch.Generator | Sequence[torch.Generator],
    *,
    x0_guess: Tensor | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    r"""Where sampling starts, :math:`\alpha(t) \hat x_0 + \sigma(t) \epsilon` at ``t = t_start``.

    At ``t_start = 1`` hardly any signal is left, and noise alone has the variance that a network trained on this
    schedule expects. Below 1 the marginal of the process also holds :math:`\alpha x_0`: started from noise alone
    (scale :math:`\sigma`, mean zero), the sampler would treat missing signal as data equal to zero. Give
    ``x0_guess``, for instance control cells or a prediction made at ``t = 1``.

    Parameters
    ----------
    shape
        Shape of the result, [B, M, K].
    t_start
        First time of the sampler's grid, in (0, 1].
    schedule
        Noise schedule.
    generator
        One generator, or one per set, as in :func:`noise_from`.
    x0_guess
        Guess of the data, [B, M, K]. None is zero.
    device
        Device of the result; None keeps that of ``x0_guess``, or else of the generator.
    dtype
        Floating point type of the result.

    Returns
    -------
    First state ``x_T`` of a sampler, [B, M, K].

    Raises
    ------
    ValueError
        If ``t_start`` is out of range, ``x0_guess`` has another shape, or the number of generators is not B.

    Examples
    --------
    >>> from pertcast.diffusion import get_schedule
    >>> initial_noise((2, 3, 5), 1.0, get_schedule("cosine"), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 5])
    """
    if not 0 < t_start <= 1:
        raise ValueError(f"t_start is {t_start}; 0 < t_start <= 1 is needed.")
    t = torch.tensor(t_start, dtype=torch.float64)
    noise = _normal(shape, generator, dtype=dtype).mul_(schedule.sigma(t).item())
    if x0_guess is None:
        return noise if device is None else noise.to(device)
    if x0_guess.shape != noise.shape:
        raise ValueError(f"x0_guess has shape {tuple(x0_guess.shape)} but shape is {tuple(shape)}.")
    device = x0_guess.device if device is None else device
    return schedule.alpha(t).item() * x0_guess.to(device, dtype) + noise.to(device)


def _normal(
    shape: Sequence[int], generator: torch.Generator | Sequence[torch.Generator], *, dtype: torch.dtype
) -> Tensor:
    if isinstance(generator, torch.Generator):
        return torch.randn(*shape, generator=generator, device=generator.device, dtype=dtype)
    if len(generator) != shape[0]:
        raise ValueError(f"{len(generator)} generators were given for {shape[0]} sets; give one, or one per set.")
    noise = torch.empty(*shape, device=generator[0].device, dtype=dtype)
    for of_set, own in zip(noise, generator, strict=True):
        torch.randn(*shape[1:], generator=own, out=of_set)
    return noise
