"""The forward process of PerturbDiff, its velocity and classifier-free guidance."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from pertcast.diffusion._schedule import NoiseSchedule

__all__ = ["add_noise", "guided", "velocity"]


def coefficients(x: Tensor, t: Tensor, schedule: NoiseSchedule) -> tuple[Tensor, Tensor]:
    """Signal and noise scale of each set, shaped [B, 1, ..., 1] to multiply ``x`` and in its dtype.

    Raises
    ------
    ValueError
        If ``t`` does not hold one time per set.
    """
    if t.shape != x.shape[:1]:
        raise ValueError(
            f"t has shape {tuple(t.shape)} and the cells {tuple(x.shape)}; one time per set is needed, t of shape [B]."
        )
    shape = (-1,) + (1,) * (x.ndim - 1)
    return schedule.alpha(t).to(x.dtype).view(shape), schedule.sigma(t).to(x.dtype).view(shape)


def same_shape(**tensors: Tensor) -> None:
    """Raise a ValueError that names the tensors unless all have one shape; broadcasting would hide the mistake."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"Shapes must be equal, found {', '.join(f'{n} {s}' for n, s in shapes.items())}.")


def add_noise(x0: Tensor, noise: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    r"""Noised cells, :math:`x_t = \alpha_t x_0 + \sigma_t \epsilon`.

    The marginal of the forward chain (Ho et al. 2020, Eq. 4). PerturbDiff (arXiv 2602.19685) uses it as the
    forward process of a whole population: every cell of a set gets independent noise, and all share one time.

    Parameters
    ----------
    x0
        Cells, [B, M, K].
    noise
        Standard normal noise, [B, M, K].
    t
        One time per set in [0, 1], float32 or float64, [B].
    schedule
        Noise schedule.

    Returns
    -------
    Noised cells, [B, M, K].

    Raises
    ------
    ValueError
        If the shapes do not agree.

    Examples
    --------
    >>> import torch
    >>> from pertcast.diffusion import LinearSchedule
    >>> x0, noise = torch.ones(2, 1, 3), torch.zeros(2, 1, 3)
    >>> add_noise(x0, noise, torch.tensor([0.0, 1.0]), LinearSchedule())[:, 0, 0]
    tensor([1.0000, 0.0066])
    """
    same_shape(x0=x0, noise=noise)
    alpha, sigma = coefficients(x0, t, schedule)
    return alpha * x0 + sigma * noise


def velocity(x0: Tensor, noise: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    r"""Velocity :math:`v = \alpha_t \epsilon - \sigma_t x_0` (Salimans and Ho 2022).

    Parameters
    ----------
    x0
        Cells, [B, M, K].
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
        If the shapes do not agree.

    Examples
    --------
    At the data end the velocity is the noise.

    >>> import torch
    >>> from pertcast.diffusion import LinearSchedule
    >>> velocity(torch.ones(1, 1, 2), torch.full((1, 1, 2), 5.0), torch.tensor([0.0]), LinearSchedule())
    tensor([[[5., 5.]]])
    """
    same_shape(x0=x0, noise=noise)
    alpha, sigma = coefficients(x0, t, schedule)
    return alpha * noise - sigma * x0


def guided(conditional: Tensor, unconditional: Tensor, scale: float | Tensor) -> Tensor:
    r"""Classifier-free guidance of a prediction, :math:`c + w\,(c - u)` (Ho and Salimans 2022, Eq. 6).

    The rule is linear and its weights sum to one, so it is the same for predictions of the data, the noise and the
    velocity.

    Parameters
    ----------
    conditional
        Prediction with the perturbation, [B, M, K].
    unconditional
        Prediction with the perturbation dropped, [B, M, K].
    scale
        The weight ``w``: 0 is no guidance, 1 extrapolates by the full difference. A tensor must broadcast.

    Returns
    -------
    Guided prediction, [B, M, K].

    Raises
    ------
    ValueError
        If the shapes do not agree.

    Examples
    --------
    >>> import torch
    >>> guided(torch.tensor([3.0]), torch.tensor([1.0]), 0.5)
    tensor([4.])
    """
    same_shape(conditional=conditional, unconditional=unconditional)
    return conditional + scale * (conditional - unconditional)
