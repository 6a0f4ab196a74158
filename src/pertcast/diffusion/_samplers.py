r"""Samplers: from noise to cells in a few calls of a network that predicts the data.

One step goes from time ``t`` down to ``s < t``. With :math:`\lambda = \log(\alpha / \sigma)`, half the log
signal-to-noise ratio, all samplers use :math:`\hat x_0 = \text{denoise}(x_t, t, \text{previous } \hat x_0)`; the
previous prediction is for networks with self-conditioning. At ``s = 0``, where :math:`\alpha_s = 1` and
:math:`\sigma_s = 0`, every sampler returns :math:`\hat x_0` itself: a grid of ``[1, 0]`` is one call of the network.

Coefficients are computed in float64. Gradients flow through the steps: sample under ``torch.no_grad()`` unless they
are wanted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pertcast.diffusion._steps import combined, predict_x0, steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pertcast.diffusion._noise import NoiseFn
    from pertcast.diffusion._schedule import NoiseSchedule
    from pertcast.diffusion._steps import Callback, Denoiser

__all__ = ["sample_ancestral", "sample_ddim", "sample_dpmpp_2m"]


def sample_ddim(
    denoise: Denoiser,
    x_T: Tensor,
    times: Tensor | Sequence[float],
    schedule: NoiseSchedule,
    *,
    eta: float = 0.0,
    noise_fn: NoiseFn | None = None,
    callback: Callback | None = None,
) -> Tensor:
    r"""DDIM (Song et al. 2021, Eq. 12 and 16), first order.

    .. math:: x_s = \alpha_s \hat x_0 + \sqrt{\sigma_s^2 - c^2} \, \hat\epsilon + c \, z, \qquad
        \hat\epsilon = (x_t - \alpha_t \hat x_0) / \sigma_t, \qquad
        c = \eta \, \sigma_s \sqrt{1 - e^{2 (\lambda_t - \lambda_s)}}

    Parameters
    ----------
    denoise
        Network, ``(x_t [B, M, K], t [B], previous x0 or None) -> x0 [B, M, K]``.
    x_T
        Start, from :func:`initial_noise` at ``times[0]``, [B, M, K].
    times
        Descending times, from :func:`spaced_times`, [n_steps + 1].
    schedule
        Noise schedule.
    eta
        Share of fresh noise in [0, 1]: 0 is a deterministic map, 1 has the variance of :func:`sample_ancestral`.
    noise_fn
        Noise ``z`` by step, from :func:`noise_from`; needed if ``eta`` is above 0.
    callback
        Called as ``callback(step, t, x_t, x0)`` after every network call.

    Returns
    -------
    Cells at the last time, [B, M, K].

    Raises
    ------
    ValueError
        If ``eta`` or the times are out of range, or noise is needed and ``noise_fn`` is None.

    Examples
    --------
    >>> import torch
    >>> from pertcast.diffusion import LinearSchedule, spaced_times
    >>> schedule = LinearSchedule()
    >>> x = sample_ddim(lambda x_t, t, x0: torch.ones_like(x_t), torch.randn(1, 2, 3), [1.0, 0.5, 0.0], schedule)
    >>> x.unique()
    tensor([1.])
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}; 0 <= eta <= 1 is needed.")
    draw = _required(noise_fn) if eta > 0 else None
    x, x0 = x_T, None
    for step in steps(times, schedule):
        x0 = predict_x0(denoise, x, step, x0, callback)
        fresh = eta * step.sigma_s * math.sqrt(-math.expm1(step.log_snr_t - step.log_snr_s))
        kept = math.sqrt(step.sigma_s**2 - fresh**2)
        x = combined(x0, step.alpha_s - kept * step.alpha_t / step.sigma_t, x, kept / step.sigma_t)
        if draw is not None and fresh > 0:
            x = x + fresh * draw(step.number, x)
    return x


def sample_ancestral(
    denoise: Denoiser,
    x_T: Tensor,
    times: Tensor | Sequence[float],
    schedule: NoiseSchedule,
    *,
    noise_fn: NoiseFn | None = None,
    callback: Callback | None = None,
) -> Tensor:
    r"""Ancestral sampling from the DDPM posterior (Ho et al. 2020, Eq. 7), for steps of any length.

    The posterior :math:`q(x_s \mid x_t, x_0)`, with the share :math:`r = 1 - e^{2 (\lambda_t - \lambda_s)}` of the
    noise at ``t`` that was added after ``s`` (Kingma et al. 2021):

    .. math:: x_s = \frac{\alpha_t \sigma_s^2}{\alpha_s \sigma_t^2} x_t + \alpha_s r \, \hat x_0
        + \sigma_s \sqrt{r} \, z

    Parameters
    ----------
    denoise
        Network, ``(x_t [B, M, K], t [B], previous x0 or None) -> x0 [B, M, K]``.
    x_T
        Start, from :func:`initial_noise` at ``times[0]``, [B, M, K].
    times
        Descending times, from :func:`spaced_times`, [n_steps + 1].
    schedule
        Noise schedule.
    noise_fn
        Noise ``z`` by step, from :func:`noise_from`; needed.
    callback
        Called as ``callback(step, t, x_t, x0)`` after every network call.

    Returns
    -------
    Cells at the last time, [B, M, K].

    Raises
    ------
    ValueError
        If the times are out of range or ``noise_fn`` is None.

    Examples
    --------
    >>> import torch
    >>> from pertcast.diffusion import LinearSchedule, noise_from
    >>> start, noise_fn = torch.randn(1, 2, 3), noise_from(torch.Generator().manual_seed(0))
    >>> ones = lambda x_t, t, previous: torch.ones_like(x_t)
    >>> sample_ancestral(ones, start, [1.0, 0.5, 0.0], LinearSchedule(), noise_fn=noise_fn).unique()
    tensor([1.])
    """
    draw = _required(noise_fn)
    x, x0 = x_T, None
    for step in steps(times, schedule):
        x0 = predict_x0(denoise, x, step, x0, callback)
        share = -math.expm1(step.log_snr_t - step.log_snr_s)
        kept = (step.alpha_t / step.alpha_s) * (step.sigma_s / step.sigma_t) ** 2
        x = combined(x0, step.alpha_s * share, x, kept)
        if step.sigma_s > 0:
            x = x + step.sigma_s * math.sqrt(share) * draw(step.number, x)
    return x


def sample_dpmpp_2m(
    denoise: Denoiser,
    x_T: Tensor,
    times: Tensor | Sequence[float],
    schedule: NoiseSchedule,
    *,
    noise_fn: NoiseFn | None = None,
    callback: Callback | None = None,
) -> Tensor:
    r"""DPM-Solver++(2M) (Lu et al. 2022b, Algorithm 2): second order with one network call a step.

    With :math:`h = \lambda_s - \lambda_t` and the previous step's :math:`h'` and :math:`\hat x_0'`:

    .. math:: x_s = \frac{\sigma_s}{\sigma_t} x_t + \alpha_s (1 - e^{-h}) \, D, \qquad
        D = \hat x_0 + \frac{h}{2 h'} (\hat x_0 - \hat x_0')

    The first step, and a last step to ``s = 0`` (where h is infinite), take :math:`D = \hat x_0`: a DDIM step.

    Parameters
    ----------
    denoise
        Network, ``(x_t [B, M, K], t [B], previous x0 or None) -> x0 [B, M, K]``.
    x_T
        Start, from :func:`initial_noise` at ``times[0]``, [B, M, K].
    times
        Descending times, from :func:`spaced_times`, [n_steps + 1].
    schedule
        Noise schedule.
    noise_fn
        Never called: the sampler is deterministic. Accepted so that all samplers can be called alike.
    callback
        Called as ``callback(step, t, x_t, x0)`` after every network call.

    Returns
    -------
    Cells at the last time, [B, M, K].

    Raises
    ------
    ValueError
        If the times are out of range.

    Examples
    --------
    A grid of two times is one call of the network, as with the other samplers.

    >>> import torch
    >>> from pertcast.diffusion import LinearSchedule
    >>> sample_dpmpp_2m(
    ...     lambda x_t, t, previous: torch.ones_like(x_t), torch.randn(1, 2, 3), [1.0, 0.0], LinearSchedule()
    ... )
    tensor([[[1., 1., 1.],
             [1., 1., 1.]]])
    """
    x, x0, h = x_T, None, math.inf
    for step in steps(times, schedule):
        previous_x0, previous_h = x0, h
        x0 = predict_x0(denoise, x, step, previous_x0, callback)
        h = 0.5 * (step.log_snr_s - step.log_snr_t)
        extrapolated = x0
        if previous_x0 is not None and step.sigma_s > 0:
            extrapolated = x0 + h / (2 * previous_h) * (x0 - previous_x0)
        x = combined(extrapolated, -step.alpha_s * math.expm1(-h), x, step.sigma_s / step.sigma_t)
    return x


def _required(noise_fn: NoiseFn | None) -> NoiseFn:
    if noise_fn is None:
        raise ValueError("This sampler draws noise but noise_fn is None. Pass noise_fn=noise_from(generator).")
    return noise_fn
