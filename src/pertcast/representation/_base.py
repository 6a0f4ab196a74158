"""What a representation must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Representation"]


class Representation(nn.Module, ABC):
    """A space of K features for cells with G genes, with the way there and back.

    Parameters
    ----------
    n_genes
        Number of genes G.
    n_features
        Number of features K.
    nonnegative
        Whether expression cannot be negative.

    Examples
    --------
    >>> import torch
    >>> from pertcast.representation import GeneSpace
    >>> space = GeneSpace(3, nonnegative=True)
    >>> cells = torch.tensor([[0.0, 1.0, 2.0]])
    >>> space.decode(space.bound(space.encode(cells) - 1), source=cells)
    tensor([[0., 0., 1.]])
    """

    def __init__(self, n_genes: int, n_features: int, *, nonnegative: bool) -> None:
        super().__init__()
        self.n_genes, self.n_features, self.nonnegative = n_genes, n_features, nonnegative

    @abstractmethod
    def encode(self, cells: Tensor) -> Tensor:
        """Features of cells, [..., G] to [..., K]."""

    @abstractmethod
    def bound(self, features: Tensor) -> Tensor:
        """Features moved to the nearest ones that a cell can have, [..., K]."""

    @abstractmethod
    def decode(self, features: Tensor, source: Tensor) -> Tensor:
        """Cells with given features; what the space does not describe comes from ``source``.

        Parameters
        ----------
        features
            [..., K].
        source
            The cell that each predicted cell starts from, [..., G].

        Returns
        -------
        [..., G], in the units of the data.
        """

    @abstractmethod
    def reconstruct(self, features: Tensor) -> Tensor:
        """Cells with given features where there is no cell to start from, [..., K] to [..., G]."""
