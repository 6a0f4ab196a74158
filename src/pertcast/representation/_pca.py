"""Principal components, with the residual of the control cell and the directions of the shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pertcast.representation._base import Representation

if TYPE_CHECKING:
    from torch import Tensor

    from pertcast.representation._components import PrincipalComponents

__all__ = ["PCASpace"]


class PCASpace(Representation):
    r"""Scores on orthonormal axes V: principal components, then directions of mean shifts.

    Encoding is :math:`z = V^\top (x - \mu)`. Decoding carries the residual of the cell s it starts from:
    :math:`x = s + V (z - V^\top (s - \mu))`, so what the axes miss is that of a real cell and not of an average one.
    Neither is rounded by autocast.

    Parameters
    ----------
    n_genes
        Number of genes G.
    n_features
        Number of axes K, at most G.
    nonnegative
        Whether expression cannot be negative; then decoded values below 0 become 0.

    Examples
    --------
    A cell keeps what the axes do not see: here the second gene.

    >>> from pertcast.representation import PrincipalComponents
    >>> axes = PrincipalComponents(torch.zeros(2), torch.tensor([[1.0], [0.0]]), torch.ones(1), 1.0)
    >>> space = PCASpace(2, 1, nonnegative=False)
    >>> space.fit(axes, torch.zeros(1, 2), n_directions=0)
    >>> source = torch.tensor([[3.0, 7.0]])
    >>> space.encode(source), space.decode(torch.tensor([[5.0]]), source)
    (tensor([[3.]]), tensor([[5., 7.]]))
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, n_genes: int, n_features: int, *, nonnegative: bool) -> None:
        super().__init__(n_genes, min(n_features, n_genes), nonnegative=nonnegative)
        self.register_buffer("mean", torch.zeros(n_genes))
        self.register_buffer("axes", torch.zeros(n_genes, self.n_features))

    @torch.no_grad()
    def fit(self, components: PrincipalComponents, shifts: Tensor, *, n_directions: int) -> None:
        """Set the axes: principal components, then the leading directions of mean shifts that these miss.

        Parameters
        ----------
        components
            Mean and axes; if they are fewer than K, the last features stay 0.
        shifts
            Mean shifts, [P, G].
        n_directions
            Number of axes to set aside for directions of shifts, at most K.
        """
        axes = torch.as_tensor(components.axes)[:, : self.n_features - n_directions]
        shifts = shifts.to(axes)
        _, strength, directions = torch.linalg.svd(shifts - shifts @ axes @ axes.T, full_matrices=False)
        found = directions[strength > 1e-4 * shifts.norm().clamp_min(1e-12)][:n_directions]
        axes = torch.linalg.qr(torch.cat([axes, found.T], 1)).Q
        self.mean.copy_(torch.as_tensor(components.mean))
        self.axes.zero_()[:, : axes.shape[1]] = axes

    def encode(self, cells: Tensor) -> Tensor:
        """Scores, [..., G] to [..., K]."""
        with torch.autocast(self.axes.device.type, enabled=False):
            return (cells - self.mean) @ self.axes

    def bound(self, features: Tensor) -> Tensor:
        """Return the features: scores have no bounds, [..., K]."""
        return features

    def decode(self, features: Tensor, source: Tensor) -> Tensor:
        """Cells with given scores and the residual of their sources, [..., K] and [..., G] to [..., G]."""
        with torch.autocast(self.axes.device.type, enabled=False):
            cells = source + (features - self.encode(source)) @ self.axes.T
        return cells.relu() if self.nonnegative else cells

    def reconstruct(self, features: Tensor) -> Tensor:
        """Cells with given scores and no residual: smoother than measured ones, [..., K] to [..., G]."""
        return self.decode(features, self.mean)
