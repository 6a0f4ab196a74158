"""Schedules and samplers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertcast.diffusion._samplers import sample_ancestral, sample_ddim, sample_dpmpp_2m
from pertcast.diffusion._schedule import CosineSchedule, DiscreteLinearSchedule, LinearSchedule

if TYPE_CHECKING:
    from pertcast.diffusion._schedule import NoiseSchedule
    from pertcast.diffusion._steps import Sampler

__all__ = ["get_sampler", "get_schedule"]

_SCHEDULES: dict[str, type[NoiseSchedule]] = {
    "cosine": CosineSchedule,
    "linear": LinearSchedule,
    "discrete_linear": DiscreteLinearSchedule,
}

_SAMPLERS: dict[str, Sampler] = {
    "ddim": sample_ddim,
    "ancestral": sample_ancestral,
    "dpmpp_2m": sample_dpmpp_2m,
}


def get_schedule(name: str) -> NoiseSchedule:
    """Noise schedule by name, with the settings of its paper.

    Parameters
    ----------
    name
        ``"cosine"`` (:class:`CosineSchedule`), ``"linear"`` (:class:`LinearSchedule`) or ``"discrete_linear"``
        (:class:`DiscreteLinearSchedule`).

    Returns
    -------
    The schedule with its default parameters.

    Raises
    ------
    ValueError
        If no schedule has this name.

    Examples
    --------
    >>> get_schedule("linear")
    LinearSchedule(beta_min=0.1, beta_max=20.0)
    """
    if name not in _SCHEDULES:
        raise ValueError(f"Unknown noise schedule {name!r}. Choose one of {', '.join(map(repr, _SCHEDULES))}.")
    return _SCHEDULES[name]()


def get_sampler(name: str) -> Sampler:
    """Sampler by name; all can be called as ``sampler(denoise, x_T, times, schedule, noise_fn=..., callback=...)``.

    Parameters
    ----------
    name
        ``"ddim"`` (:func:`sample_ddim`), ``"ancestral"`` (:func:`sample_ancestral`) or ``"dpmpp_2m"``
        (:func:`sample_dpmpp_2m`).

    Returns
    -------
    The sampler.

    Raises
    ------
    ValueError
        If no sampler has this name.

    Examples
    --------
    >>> get_sampler("ddim").__name__
    'sample_ddim'
    """
    if name not in _SAMPLERS:
        raise ValueError(f"Unknown sampler {name!r}. Choose one of {', '.join(map(repr, _SAMPLERS))}.")
    return _SAMPLERS[name]
