"""Embeddings of the time and of plain numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TimeEmbedding", "sinusoid"]


def sinusoid(values: Tensor, n_features: int, *, max_period: float = 10_000.0) -> Tensor:
    """Cosines and sines of values at geometrically spaced frequencies (Ho et al. 2020).

    Parameters
    ----------
    values
        Numbers, [B].
    n_features
        Even number F of features.
    max_period
        Longest period.

    Returns
    -------
    [B, F].

    Examples
    --------
    >>> sinusoid(torch.zeros(1), 4)
    tensor([[1., 1., 0., 0.]])
    """
    half = n_features // 2
    frequency = torch.exp(-math.log(max_period) * torch.arange(half, device=values.device) / half)
    angle = values[:, None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """Embeds diffusion times in [0, 1].

    Parameters
    ----------
    n_hidden
        Width D.
    n_features
        Number of sinusoidal features.

    Examples
    --------
    >>> import torch
    >>> from pertcast.nn import sinusoid
    >>> embedding, t = TimeEmbedding(8, n_features=4), torch.tensor([0.0, 0.5])
    >>> embedding(t).shape
    torch.Size([2, 8])
    >>> torch.equal(embedding(t), embedding.layers(sinusoid(torch.tensor([0.0, 500.0]), 4)))  # a thousand steps
    True
    """

    def __init__(self, n_hidden: int, n_features: int = 64) -> None:
        super().__init__()
        self.n_features = n_features
        self.layers = nn.Sequential(nn.Linear(n_features, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_hidden))

    def forward(self, t: Tensor) -> Tensor:
        """Embed times [B] as [B, D]."""
        features = sinusoid(1000.0 * t, self.n_features)
        return self.layers(features.to(next(self.parameters()).dtype))
