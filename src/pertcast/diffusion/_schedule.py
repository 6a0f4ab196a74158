"""Variance-preserving noise schedules in continuous time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["CosineSchedule", "DiscreteLinearSchedule", "LinearSchedule", "NoiseSchedule"]


@dataclass(frozen=True)
class NoiseSchedule(ABC):
    r"""How much signal and noise is left at time ``t``: :math:`x_t = \alpha(t)\, x_0 + \sigma(t)\, \epsilon`.

    Time runs over [0, 1]: ``t = 0`` is data (:math:`\alpha = 1`, :math:`\sigma = 0`, both exact) and ``t = 1`` is
    noise. The process keeps the variance of standardised data: :math:`\alpha^2 + \sigma^2 = 1`. A subclass gives the
    log signal-to-noise ratio and its inverse; :math:`\alpha` and :math:`\sigma` follow from it. That one number is
    accurate at both ends, where :math:`1 - \alpha^2` computed in float32 would lose every digit of :math:`\sigma`.

    All methods take tensors of any shape, compute in their dtype (float32 or float64) and on their device, and are
    elementwise. Times outside [0, 1] are not checked here.

    Examples
    --------
    A schedule whose log signal-to-noise ratio falls by 20 over its time:

    >>> class Straight(NoiseSchedule):
    ...     def log_snr(self, t):
    ...         return (10 - 20 * t).where(t > 0, torch.inf)
    ...
    ...     def time(self, log_snr):
    ...         return ((10 - log_snr) / 20).clamp(0, 1)
    >>> t = torch.tensor([0.0, 0.5, 1.0])
    >>> Straight().alpha(t)
    tensor([1.0000, 0.7071, 0.0067])
    >>> Straight().time(Straight().log_snr(t))
    tensor([0.0000, 0.5000, 1.0000])
    """

    @abstractmethod
    def log_snr(self, t: Tensor) -> Tensor:
        r"""Log signal-to-noise ratio :math:`\log(\alpha^2 / \sigma^2)`; decreasing in ``t``, ``+inf`` at ``t = 0``."""

    @abstractmethod
    def time(self, log_snr: Tensor) -> Tensor:
        """Time at which the log signal-to-noise ratio is ``log_snr``; 1 for ratios that the schedule never reaches."""

    def alpha(self, t: Tensor) -> Tensor:
        """Scale of the signal, from 1 at ``t = 0`` down to nearly 0 at ``t = 1``."""
        return self.log_snr(t).sigmoid().sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """Scale (standard deviation) of the noise, from 0 at ``t = 0`` up to nearly 1 at ``t = 1``."""
        return (-self.log_snr(t)).sigmoid().sqrt()


@dataclass(frozen=True)
class CosineSchedule(NoiseSchedule):
    r"""Cosine schedule of Nichol and Dhariwal (2021, Eq. 17), :math:`\alpha(t) = \cos\theta(t) / \cos\theta(0)`.

    The angle is :math:`\theta(t) = \frac{\pi}{2} \frac{t + s}{1 + s}`. The paper clips its betas at 0.999 so that
    the signal never vanishes; in continuous time the log signal-to-noise ratio is clamped from below instead. With
    the default the clamp acts only on ``t > 0.99997``, gives ``alpha(1) = 4.5e-5`` in place of 0, and is the only
    place where :meth:`time` does not undo :meth:`log_snr`.

    Parameters
    ----------
    offset
        The paper's ``s``, positive.
    min_log_snr
        Lower clamp of the log signal-to-noise ratio.

    Raises
    ------
    ValueError
        If ``offset`` is not above 0.

    Examples
    --------
    >>> schedule = CosineSchedule()
    >>> schedule.alpha(torch.tensor([0.0, 0.5, 1.0]))
    tensor([1.0000e+00, 7.0274e-01, 4.5400e-05])
    """

    offset: float = 0.008
    min_log_snr: float = -20.0

    def __post_init__(self) -> None:
        if not self.offset > 0:
            raise ValueError(f"offset is {self.offset}; the cosine schedule needs a positive offset such as 0.008.")

    @property
    def _rate(self) -> float:
        """Angle travelled per unit time."""
        return 0.5 * math.pi / (1 + self.offset)

    def log_snr(self, t: Tensor) -> Tensor:
        # cos(theta) is written as a sine of 1 - t, and 1 - alpha^2 = sin(theta - theta_0) sin(theta + theta_0) /
        # cos(theta_0)^2, so that neither end subtracts nearly equal numbers.
        signal = 2 * (self._rate * (1 - t)).sin().log()
        noise = (self._rate * t).sin().log() + (self._rate * (t + 2 * self.offset)).sin().log()
        return (signal - noise).clamp_min(self.min_log_snr)

    def time(self, log_snr: Tensor) -> Tensor:
        alpha, variance = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid()
        cos_0, sin_0 = math.cos(self._rate * self.offset), math.sin(self._rate * self.offset)
        sin_theta = (variance + (alpha * sin_0) ** 2).sqrt()
        # Sine and cosine of theta - theta_0, both sums of positive terms.
        sine = cos_0 * variance / (sin_theta + alpha * sin_0)
        cosine = alpha * cos_0**2 + sin_theta * sin_0
        return torch.atan2(sine, cosine) / self._rate


@dataclass(frozen=True)
class LinearSchedule(NoiseSchedule):
    r"""VP-SDE of Song et al. (2021, Eq. 33), :math:`\beta(t) = \beta_{\min} + t\,(\beta_{\max} - \beta_{\min})`.

    :math:`\alpha^2 = e^{-B(t)}` with :math:`B(t) = \int_0^t \beta = \beta_{\min} t + \frac{1}{2}(\beta_{\max} -
    \beta_{\min})\, t^2`, hence :math:`\log(\alpha^2 / \sigma^2) = -\log(e^{B} - 1)`. ``alpha(1)`` is 0.0066 with
    the defaults. Nothing is clamped.

    Parameters
    ----------
    beta_min
        Noise rate at ``t = 0``, positive.
    beta_max
        Noise rate at ``t = 1``, at least ``beta_min``.

    Raises
    ------
    ValueError
        If ``beta_min`` is not above 0, or ``beta_max`` is below it.

    Examples
    --------
    >>> schedule = LinearSchedule()
    >>> schedule.log_snr(torch.tensor([0.5, 1.0]))
    tensor([ -2.4551, -10.0500])
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(
                f"beta_min is {self.beta_min} and beta_max is {self.beta_max}; 0 < beta_min <= beta_max is needed."
            )

    @property
    def _slope(self) -> float:
        return self.beta_max - self.beta_min

    def log_snr(self, t: Tensor) -> Tensor:
        return -(t * (self.beta_min + 0.5 * self._slope * t)).expm1().log()

    def time(self, log_snr: Tensor) -> Tensor:
        integral = torch.nn.functional.softplus(-log_snr).clamp_max(self.beta_min + 0.5 * self._slope)
        # The root of the quadratic in the form that does not subtract.
        return 2 * integral / (self.beta_min + (self.beta_min**2 + 2 * self._slope * integral).sqrt())


@dataclass(frozen=True)
class DiscreteLinearSchedule(NoiseSchedule):
    r"""Table of Ho et al. (2020), :math:`\bar\alpha_n = \prod_{i \le n} (1 - \beta_i)`, made continuous.

    The betas are evenly spaced from ``beta_start`` to ``beta_end``. Between the knots ``t = n / n_timesteps`` the log
    of :math:`\bar\alpha = \alpha^2` is interpolated linearly, as DPM-Solver (Lu et al. 2022a) does for models of
    discrete time. ``t = 0`` is data, the first table entry lies at ``t = 1 / n_timesteps`` and the last at
    ``t = 1``, where ``alpha`` is 0.0064 with the defaults. Nothing is clamped.

    Parameters
    ----------
    n_timesteps
        Number of steps T of the table.
    beta_start
        First beta, in (0, 1).
    beta_end
        Last beta, in (0, 1).

    Raises
    ------
    ValueError
        If ``n_timesteps`` is below 1, or a beta is not in (0, 1).

    Examples
    --------
    >>> schedule = DiscreteLinearSchedule()
    >>> schedule.alpha(torch.tensor([0.1, 1.0])) ** 2  # the table's entries 100 and 1000
    tensor([8.9702e-01, 4.0358e-05])
    """

    n_timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 2e-2

    def __post_init__(self) -> None:
        if self.n_timesteps < 1:
            raise ValueError(f"n_timesteps is {self.n_timesteps}; at least 1 is needed.")
        if not (0 < self.beta_start < 1 and 0 < self.beta_end < 1):
            raise ValueError(f"beta_start={self.beta_start} and beta_end={self.beta_end} must both be in (0, 1).")

    @cached_property
    def _integral(self) -> Tensor:
        """``-log(alpha^2)`` at the knots 0, 1/T, ..., 1, float64, [T + 1]."""
        betas = torch.linspace(self.beta_start, self.beta_end, self.n_timesteps, dtype=torch.float64)
        return torch.cat([betas.new_zeros(1), -torch.log1p(-betas).cumsum(0)])

    def log_snr(self, t: Tensor) -> Tensor:
        table = self._integral.to(dtype=t.dtype, device=t.device)
        position = t * self.n_timesteps
        knot = position.floor().long().clamp(0, self.n_timesteps - 1)
        return -torch.lerp(table[knot], table[knot + 1], position - knot).expm1().log()

    def time(self, log_snr: Tensor) -> Tensor:
        table = self._integral.to(dtype=log_snr.dtype, device=log_snr.device)
        integral = torch.nn.functional.softplus(-log_snr).clamp_max(table[-1])
        knot = (torch.searchsorted(table, integral, right=True) - 1).clamp(0, self.n_timesteps - 1)
        return (knot + (integral - table[knot]) / (table[knot + 1] - table[knot])) / self.n_timesteps
