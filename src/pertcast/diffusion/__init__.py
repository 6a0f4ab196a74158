"""The diffusion process of PerturbDiff, as functions of tensors.

A set of M cells with K features is one sample. Its cells are noised independently and share one time ``t``, and the
network predicts the whole noise-free set. With B sets in a batch, ``x0`` and ``x_t`` are [B, M, K] and ``t`` is [B].

Writing a and s for the scales of signal and noise at time t, primes for the next, earlier time of a sampler, and eps
and z for standard normal noise::

    schedule     a^2 + s^2 = 1,  log-SNR = log(a^2 / s^2),  t = 0 data, t = 1 noise   get_schedule, spaced_times
    noising      x_t = a x0 + s eps                                                   add_noise
    prediction   x0_hat = network(x_t, t, controls, condition)
    loss         (2 E|p_i - x_j| - E|p_i - p_j| - E|x_i - x_j|) / sqrt(K)  +  w MSE   population_loss
                 over cells i and j of the prediction p and the data x
    guidance     x0_hat = c + w (c - u)                                               guided
    DDIM         x_t' = a' x0_hat + s' (x_t - a x0_hat) / s                           sample_ddim
    ancestral    x_t' = (a s'^2 / a' s^2) x_t + a' r x0_hat + s' sqrt(r) z            sample_ancestral
                 r = 1 - SNR / SNR'
    DPM++(2M)    DDIM with x0_hat extrapolated from the last two predictions          sample_dpmpp_2m
    bridge       the path of DDIM to noise and back, for each cell by itself          GaussianPath

One training step and sampling, with a ``network(x_t, t, x0_previous) -> x0``::

    x_t = add_noise(x0, torch.randn_like(x0), t, schedule)
    loss = population_loss(network(x_t, t, None), x0, mask).total.mean()

    times = spaced_times(n_steps, schedule)
    start = initial_noise(x0.shape, 1.0, schedule, generator)
    cells = sample_ddim(network, start, times, schedule)

Everything is a pure function or a frozen object. Random numbers come from generators that the caller passes in.
"""

from __future__ import annotations

from pertcast.diffusion._bridge import GaussianPath
from pertcast.diffusion._conversions import (
    noise_from_velocity,
    noise_from_x0,
    velocity_from_noise,
    velocity_from_x0,
    x0_from_noise,
    x0_from_velocity,
)
from pertcast.diffusion._energy import energy_distance
from pertcast.diffusion._grid import spaced_times
from pertcast.diffusion._losses import PopulationLoss, masked_mse, population_loss
from pertcast.diffusion._noise import NoiseFn, initial_noise, noise_from
from pertcast.diffusion._process import add_noise, guided, velocity
from pertcast.diffusion._registry import get_sampler, get_schedule
from pertcast.diffusion._samplers import sample_ancestral, sample_ddim, sample_dpmpp_2m
from pertcast.diffusion._schedule import (
    CosineSchedule,
    DiscreteLinearSchedule,
    LinearSchedule,
    NoiseSchedule,
)
from pertcast.diffusion._steps import Callback, Denoiser, Sampler

__all__ = [
    "Callback",
    "CosineSchedule",
    "Denoiser",
    "DiscreteLinearSchedule",
    "GaussianPath",
    "LinearSchedule",
    "NoiseFn",
    "NoiseSchedule",
    "PopulationLoss",
    "Sampler",
    "add_noise",
    "energy_distance",
    "get_sampler",
    "get_schedule",
    "guided",
    "initial_noise",
    "masked_mse",
    "noise_from",
    "noise_from_velocity",
    "noise_from_x0",
    "population_loss",
    "sample_ancestral",
    "sample_ddim",
    "sample_dpmpp_2m",
    "spaced_times",
    "velocity",
    "velocity_from_noise",
    "velocity_from_x0",
    "x0_from_noise",
    "x0_from_velocity",
]
