r"""Deterministic paths from data to noise and back, in coordinates in which a Gaussian stands still.

With :math:`\rho = \alpha / (\sigma c)`, c the scale of the noise, deterministic DDIM (Song et al. 2021, Eq. 14) is the
Euler method for :math:`d(x / \sigma) = \hat x_0 \, c \, d\rho`; here the same path is followed in other coordinates.
Let :math:`N(\mu, v)` be a guess of the data, feature by feature. Its best prediction
:math:`\mu + \frac{\alpha v}{\alpha^2 v + \sigma^2 c^2} (x_t - \alpha \mu)` needs no network; a network F adds the rest
in units of what is left uncertain:

.. math:: \hat x_0 = \mu + \frac{\alpha v}{\alpha^2 v + \sigma^2 c^2} (x_t - \alpha \mu)
    + \sqrt{\frac{v \sigma^2 c^2}{\alpha^2 v + \sigma^2 c^2}} \, F .

In the coordinates :math:`y = (x_t - \alpha \mu) / \sqrt{\alpha^2 v + \sigma^2 c^2}` the same equation reads
:math:`dy = F \, d\varphi` with the angle :math:`\varphi = \arctan(\rho \sqrt v)`, from :math:`\pi / 2` for data to
nearly 0 for noise. The guess alone (F = 0) is followed without error whatever the step. The coordinates of cells
without noise are in units of :math:`\sqrt v`, so v is above 0; what hardly varies needs a small one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from pertcast.diffusion._schedule import NoiseSchedule

__all__ = ["GaussianPath"]


@dataclass(frozen=True, eq=False)
class GaussianPath:
    """Coordinates of noisy cells in which a Gaussian guess stands still; the path of DDIM in both directions.

    Parameters
    ----------
    mean
        Mean of the guess, [B, 1, K].
    variance
        Its variance for each feature, above 0, [K].
    scale
        Scale c of the noise, scalar.
    schedule
        Noise schedule.
    mask
        Where a feature is present, 0 or 1 [B, M, K]; None where all are. An absent one is 0 in the data, whatever the
        guess, and keeps its coordinate.

    Raises
    ------
    ValueError
        If a variance is not above 0.

    Examples
    --------
    >>> from pertcast.diffusion import CosineSchedule
    >>> path = GaussianPath(torch.ones(1, 1, 2), torch.tensor([1.0, 4.0]), torch.tensor(1.0), CosineSchedule())
    >>> start = path.coordinates(torch.tensor([[[2.0, 5.0]]]), torch.zeros(1, 1, 2))
    >>> start, path.cells(start, 0.0)
    (tensor([[[1., 2.]]]), tensor([[[2., 5.]]]))
    """

    mean: Tensor
    variance: Tensor
    scale: Tensor
    schedule: NoiseSchedule
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the variance; coordinates divide by its root."""
        least = self.variance.min().item()
        if not least > 0:
            raise ValueError(
                f"`variance` must be above 0 for every feature, but found {least:g}. Give a small variance to features "
                "that do not vary: `variance.clamp_min(...)`."
            )

    def coordinates(self, x0: Tensor, noise: Tensor) -> Tensor:
        """Coordinates of cells without noise, [B, M, K]; absent features take theirs from ``noise``."""
        y = (x0 - self.mean) / self.variance.sqrt()
        return y if self.mask is None else torch.where(self.mask > 0, y, noise)

    def cells(self, y: Tensor, t: float) -> Tensor:
        """Cells at time t with given coordinates, [B, M, K]."""
        alpha, noise = self._scales(t)
        spread = (alpha.square() * self.variance + noise.square()).sqrt()
        if self.mask is None:
            return torch.addcmul(alpha * self.mean, spread, y)
        return torch.addcmul(alpha * self.mean, spread - noise, y).mul_(self.mask).addcmul_(noise, y)

    def angle(self, t: float) -> Tensor:
        """Angle of each feature at time t, [K]."""
        alpha, noise = self._scales(t)
        return torch.atan2(alpha * self.variance.sqrt(), noise)

    def to_noise(
        self,
        network: Callable[[Tensor, float], Tensor],
        y: Tensor,
        times: Sequence[float],
        *,
        n_refinements: int = 1,
    ) -> Tensor:
        """Follow the network towards noise: the inverse of :meth:`to_data` on the same times.

        A step to the later time t needs the network at its end. It is first taken with the last prediction, and then
        refined with the prediction at the end just found; each refinement calls the network once, and leaves a smaller
        error of the inverse.

        Parameters
        ----------
        network
            ``(x_t [B, M, K], t) -> F [B, M, K]``.
        y
            Coordinates at the first time, [B, M, K].
        times
            Ascending times in [0, 1].
        n_refinements
            Refinements of a step, at least 1.

        Returns
        -------
        Coordinates at the last time, [B, M, K].
        """
        slope = network(self.cells(y, times[0]), times[0])
        for earlier, later in pairwise(times):
            turn = self.angle(later) - self.angle(earlier)
            end = self._moved(y, turn, slope)
            for _ in range(n_refinements):
                slope = network(self.cells(end, later), later)
                end = self._moved(y, turn, slope)
            y = end
        return y

    def to_data(self, network: Callable[[Tensor, float], Tensor], y: Tensor, times: Sequence[float]) -> Tensor:
        """Follow the network towards data by steps of Euler in the angle, one call for each step.

        Parameters
        ----------
        network
            ``(x_t [B, M, K], t) -> F [B, M, K]``.
        y
            Coordinates at the first time, [B, M, K].
        times
            Descending times in [0, 1].

        Returns
        -------
        Coordinates at the last time, [B, M, K].
        """
        for later, earlier in pairwise(times):
            slope = network(self.cells(y, later), later)
            y = self._moved(y, self.angle(earlier) - self.angle(later), slope)
        return y

    def aim(self, x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        r"""What the network should say of noisy cells, and what an error of it weighs: the training loss.

        For :math:`x_t = \alpha x_0 + \sigma c \epsilon` the prediction is right if :math:`F = (\sigma c \, (x_0 -
        \mu) / \sqrt v - \alpha \sqrt v \, \epsilon) / \sqrt{\alpha^2 v + \sigma^2 c^2}`, and an error of F is an
        error of :math:`\hat x_0` after multiplication with the weight.

        Parameters
        ----------
        x0
            Cells, [B, M, K].
        noise
            Standard normal noise, [B, M, K].
        alpha, sigma
            Scales of signal and noise of each cell, [B, M, 1].

        Returns
        -------
        Wanted output of the network, and weight, both [B, M, K]; absent features count like others.
        """
        spread, scaled = self.variance.sqrt(), sigma * self.scale
        total = (alpha.square() * self.variance + scaled.square()).sqrt()
        wanted = (scaled / spread * (x0 - self.mean) - alpha * spread * noise) / total
        return wanted, scaled * spread / total

    def _scales(self, t: float) -> tuple[Tensor, Tensor]:
        """Scale of the signal and of the noise in units of the data, scalars."""
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = self.schedule.alpha(time).item(), self.schedule.sigma(time).item()
        return self.scale.new_tensor(alpha), sigma * self.scale

    def _moved(self, y: Tensor, turn: Tensor, slope: Tensor) -> Tensor:
        return torch.addcmul(y, turn, slope if self.mask is None else slope * self.mask)
