"""The genes themselves, in the units of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertcast.representation._base import Representation

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GeneSpace"]


class GeneSpace(Representation):
    """Genes in the units of the data: nothing is lost on the way back.

    Parameters
    ----------
    n_genes
        Number of genes G.
    nonnegative
        Whether expression cannot be negative; then features below 0 become 0, so silent genes are exactly 0.

    Examples
    --------
    >>> import torch
    >>> GeneSpace(2, nonnegative=True).decode(torch.tensor([[-1.0, 2.0]]), torch.zeros(1, 2))
    tensor([[0., 2.]])
    """

    def __init__(self, n_genes: int, *, nonnegative: bool) -> None:
        super().__init__(n_genes, n_genes, nonnegative=nonnegative)

    def encode(self, cells: Tensor) -> Tensor:
        """Return the cells, [..., G]."""
        return cells

    def bound(self, features: Tensor) -> Tensor:
        """Set negative values to 0 where data are non-negative, [..., G]."""
        return features.relu() if self.nonnegative else features

    def decode(self, features: Tensor, source: Tensor) -> Tensor:
        """Return the features; ``source`` is not needed, [..., G]."""
        return self.bound(features)

    def reconstruct(self, features: Tensor) -> Tensor:
        """Return the features, [..., G]."""
        return self.bound(features)
