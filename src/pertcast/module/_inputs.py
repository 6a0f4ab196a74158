"""How the network sees cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FixedInput", "LearnedInput"]


class FixedInput(nn.Module):
    r"""Scores on fixed axes, each brought to unit variance at every noise level.

    A cell x becomes :math:`V^\top (x - \mu) / s`, with s the largest standard deviation along an axis. A noisy cell
    :math:`\alpha x + \sigma c \epsilon`, c the scale of the data, becomes
    :math:`V^\top (x_t - \alpha \mu) / \sqrt{\alpha^2 \lambda_k + \sigma^2 c^2}` along axis k with variance
    :math:`\lambda_k` (preconditioning as in Karras et al. 2022, for each axis). The scores are not rounded by autocast.

    Parameters
    ----------
    n_cell_features
        Features K of a cell.
    n_features
        Number of axes F.

    Examples
    --------
    >>> import torch
    >>> inputs = FixedInput(3, 2)
    >>> inputs.fit(mean=torch.ones(3), axes=torch.eye(3)[:, :2], variance=torch.tensor([4.0, 1.0]))
    >>> inputs.clean(torch.tensor([[3.0, 5.0, 9.0]]), scale=torch.tensor(1.0))  # (3 - 1) / 2 and (5 - 1) / 2
    tensor([[1., 2.]])
    """

    mean: Tensor
    axes: Tensor
    variance: Tensor

    def __init__(self, n_cell_features: int, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_cell_features))
        self.register_buffer("axes", torch.zeros(n_cell_features, n_features))
        self.register_buffer("variance", torch.ones(n_features))

    @torch.no_grad()
    def fit(self, mean: Tensor, axes: Tensor, variance: Tensor) -> None:
        """Set the axes; where the data have fewer than F, the last features stay 0.

        Parameters
        ----------
        mean
            Centre, [K].
        axes
            Orthonormal axes, [K, n] with n of at least 1; those beyond F are left out.
        variance
            Variance along each axis, [n].
        """
        n = min(axes.shape[1], self.n_features)
        self.mean.copy_(mean)
        self.axes.zero_()[:, :n] = axes[:, :n]
        self.variance.fill_(float(variance[:n].max()))[:n] = variance[:n].clamp_min(1e-8)

    @property
    def n_features(self) -> int:
        """Number of input features F."""
        return self.axes.shape[1]

    def clean(self, cells: Tensor, scale: Tensor) -> Tensor:
        """Input features of cells without noise, [..., K] to [..., F]; the scale of the data is not needed."""
        return self._scores(cells, self.mean) / self.variance.max().sqrt()

    def noisy(self, cells: Tensor, alpha: Tensor, sigma: Tensor, scale: Tensor) -> Tensor:
        r"""Input features of noisy cells in the units of the representation, [B, M, K] to [B, M, F].

        Parameters
        ----------
        cells
            :math:`\alpha x + \sigma c \epsilon`, [B, M, K].
        alpha, sigma
            Scales of signal and noise, [B, 1, 1].
        scale
            Scale c of the data, scalar.
        """
        spread = (alpha.square() * self.variance + (sigma * scale).square()).sqrt()
        return self._scores(cells, alpha * self.mean) / spread

    def _scores(self, cells: Tensor, centre: Tensor) -> Tensor:
        with torch.autocast(self.axes.device.type, enabled=False):
            return (cells.to(self.axes.dtype) - centre) @ self.axes


class LearnedInput(nn.Module):
    """All features, for a network whose first layer learns what to look at (the published configuration).

    Parameters
    ----------
    n_features
        Number of features K.

    Examples
    --------
    >>> import torch
    >>> LearnedInput(2).clean(torch.tensor([[2.0, 4.0]]), scale=torch.tensor(4.0))
    tensor([[0.5000, 1.0000]])
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_features = n_features

    def clean(self, cells: Tensor, scale: Tensor) -> Tensor:
        """Return the cells in units of the data scale, [..., K]."""
        return cells / scale

    def noisy(self, cells: Tensor, alpha: Tensor, sigma: Tensor, scale: Tensor) -> Tensor:
        """Return the noisy cells in units of the data scale, [B, M, K]."""
        return cells / scale
