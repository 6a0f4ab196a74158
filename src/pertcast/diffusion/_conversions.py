"""Conversions between the three things a network can predict: data, noise and velocity.

They solve ``x_t = alpha x0 + sigma noise`` and ``v = alpha noise - sigma x0`` (Salimans and Ho 2022) for the wanted
quantity, given ``x_t``.

Where a formula divides by ``sigma`` (at ``t = 0``) or ``alpha`` (at the noise end of a schedule that reaches zero
signal) and that number is zero, ``x_t`` does not determine the answer and a ValueError is raised; the check reads one
number back from the device. Where it is small, errors of the known quantity are divided by it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertcast.diffusion._process import coefficients, same_shape

if TYPE_CHECKING:
    from torch import Tensor

    from pertcast.diffusion._schedule import NoiseSchedule

__all__ = [
    "noise_from_velocity",
    "noise_from_x0",
    "velocity_from_noise",
    "velocity_from_x0",
    "x0_from_noise",
    "x0_from_velocity",
]


def noise_from_x0(x_t: Tensor, x0: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    r"""Recover the noise from the data, :math:`\epsilon = (x_t - \alpha x_0) / \sigma`; ``t`` must be above 0.

    Parameters
    ----------
    x_t
        Noised cells, [B, M, K].
    x0
        Cells without noise, [B, M, K].
    t
        One time per set in [0, 1], [B].
    schedule
        Noise schedule.

    Returns
    -------
    Standard normal noise, [B, M, K].

    Raises
    ------
    ValueError
        If the shapes do not agree, or ``sigma`` is 0 at a time in ``t``.

    Examples
    --------
    >>> import torch
    >>> from pertcast.diffusion import CosineSchedule, add_noise
    >>> schedule, t = CosineSchedule(), torch.tensor([0.5])
    >>> x0, noise = torch.full((1, 1, 2), 3.0), torch.full((1, 1, 2), -1.0)
    >>> x_t = add_noise(x0, noise, t, schedule)
    >>> noise_from_x0(x_t, x0, t, schedule)
    tensor([[[-1.0000, -1.0000]]])
    """
    same_shape(x_t=x_t, x0=x0)
    alpha, sigma = coefficients(x_t, t, schedule)
    return (x_t - alpha * x0) / _positive(sigma, "sigma", t)


def x0_from_noise(x_t: Tensor, noise: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    r"""Recover the data from the noise, :math:`x_0 = (x_t - \sigma \epsilon) / \alpha`; needs some signal.

    Parameters
    ----------
    x_t
        Noised cells, [B, M, K].
    noise
        Standard normal noise, [B, M, K].
    t
        One time per set in [0, 1], [B].
    schedule
        Noise schedule.

    Returns
    -------
    Cells without noise, [B, M, K].

    Raises
    ------
    ValueError
        If the shapes do not agree, or ``alpha`` is 0 at a time in ``t``.

    Examples
    --------
    >>> import torch
    >>> from pertcast.diffusion import CosineSchedule, add_noise
    >>> schedule, t = CosineSchedule(), torch.tensor([0.5])
    >>> x0, noise = torch.full((1, 1, 2), 3.0), torch.full((1, 1, 2), -1.0)
    >>> x_t = add_noise(x0, noise, t, schedule)
    >>> x0_from_noise(x_t, noise, t, schedule)
    tensor([[[3.0000, 3.0000]]])
    """
    same_shape(x_t=x_t, noise=noise)
    alpha, sigma = coefficients(x_t, t, schedule)
    return (x_t - sigma * noise) / _positive(alpha, "alpha", t)


def velocity_from_x0(x_t: Tensor, x0: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    r"""Recover the velocity from the data, :math:`v = (\alpha x_t - x_0) / \sigma`; ``t`` must be above 0.

    Parameters
    ----------
    x_t
        Noised cells, [B, M, K].
    x0
        Cells without noise, [B, M, K].
    t
        One time per set in [0, 1], [B].
    schedule
        Noise schedule.

    Returns
    -------
    Velocity, [B, M, K].

    Raises
    ------
    ValueError
        If the shapes do not agree, or ``sigma`` is 0 at a time in ``t``.

    Examples
    --------
    >>> import torch
    >>> from pertcast.diffusion import CosineSchedule, add_noise, velocity
    >>> schedule, t = CosineSchedule(), torch.tensor([0.5])
    >>> x0, noise = torch.full((1, 1, 2), 3.0), torch.full((1, 1, 2), -1.0)
    >>> x_t = add_noise(x0, noise, t, schedule)
    >>> bool(torch.allclose(velocity_from_x0(x_t, x0, t, schedule), velocity(x0, noise, t, schedule)))
    True
    """
    same_shape(x_t=x_t, x0=x0)
    alpha, sigma = coefficients(x_t, t, schedule)
    return (alpha * x_t - x0) / _positive(sigma, "sigma", t)


def x0_from_velocity(x_t: Tensor, velocity: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    r"""Recover the data from the velocity, :math:`x_0 = \alpha x_t - \sigma v`; stable at every time.

    Parameters
    ----------
    x_t
        Noised cells, [B, M, K].
    velocity
        Velocity, [B, M, K].
    t
        One time per set in [0, 1], [B].
    schedule
        Noise schedule.

    Returns
    -------
    Cells without noise, [B, M, K].

    Raises
    ------
    ValueError
        If the shapes do not agree.

    Examples
    --------
    >>> import torch
    >>> from pertcast.diffusion import CosineSchedule, add_noise, velocity
    >>> schedule, t = CosineSchedule(), torch.tensor([0.5])
    >>> x0, noise = torch.full((1, 1, 2), 3.0), torch.full((1, 1, 2), -1.0)
    >>> x_t = add_noise(x0, noise, t, schedule)
    >>> v = velocity(x0, noise, t, schedule)
    >>> x0_from_velocity(x_t, v, t, schedule)
    tensor([[[3.0000, 3.0000]]])
    """
    same_shape(x_t=x_t, velocity=velocity)
    alpha, sigma = coefficients(x_t, t, schedule)
    return alpha * x_t - sigma * velocity


def velocity_from_noise(x_t: Tensor, noise: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    r"""Recover the velocity from the noise, :math:`v = (\epsilon - \sigma x_t) / \alpha`; needs some signal.

    Parameters
    ----------
    x_t
        Noised cells, [B, M, K].
    noise
        Standard normal noise, [B, M, K].
    t
        One time per set in [0, 1], [B].
    schedule
        Noise schedule.

    Returns
    -------
    Velocity, [B, M, K].

    Raises
    ------
    ValueError
        If the shapes do not agree, or ``alpha`` is 0 at a time in ``t``.

    Examples
    --------
    >>> import torch
    >>> from pertcast.diffusion import CosineSchedule, add_noise, velocity
    >>> schedule, t = CosineSchedule(), torch.tensor([0.5])
    >>> x0, noise = torch.full((1, 1, 2), 3.0), torch.full((1, 1, 2), -1.0)
    >>> x_t = add_noise(x0, noise, t, schedule)
    >>> bool(torch.allclose(velocity_from_noise(x_t, noise, t, schedule), velocity(x0, noise, t, schedule)))
    True
    """
    same_shape(x_t=x_t, noise=noise)
    alpha, sigma = coefficients(x_t, t, schedule)
    return (noise - sigma * x_t) / _positive(alpha, "alpha", t)


def noise_from_velocity(x_t: Tensor, velocity: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    r"""Recover the noise from the velocity, :math:`\epsilon = \sigma x_t + \alpha v`; stable at every time.

    Parameters
    ----------
    x_t
        Noised cells, [B, M, K].
    velocity
        Velocity, [B, M, K].
    t
        One time per set in [0, 1], [B].
    schedule
        Noise schedule.

    Returns
    -------
    Standard normal noise, [B, M, K].

    Raises
    ------
    ValueError
        If the shapes do not agree.

    Examples
    --------
    >>> import torch
    >>> from pertcast.diffusion import CosineSchedule, add_noise, velocity
    >>> schedule, t = CosineSchedule(), torch.tensor([0.5])
    >>> x0, noise = torch.full((1, 1, 2), 3.0), torch.full((1, 1, 2), -1.0)
    >>> x_t = add_noise(x0, noise, t, schedule)
    >>> v = velocity(x0, noise, t, schedule)
    >>> noise_from_velocity(x_t, v, t, schedule)
    tensor([[[-1., -1.]]])
    """
    same_shape(x_t=x_t, velocity=velocity)
    alpha, sigma = coefficients(x_t, t, schedule)
    return sigma * x_t + alpha * velocity


def _positive(divisor: Tensor, name: str, t: Tensor) -> Tensor:
    if bool((divisor == 0).any()):
        at = t[divisor.flatten() == 0][0].item()
        raise ValueError(f"{name} is 0 at t={at}, so x_t does not determine the answer there. Keep t inside (0, 1).")
    return divisor
