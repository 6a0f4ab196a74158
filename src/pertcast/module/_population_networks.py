"""The networks of the population encoder: from a set of cells to a vector, and from a vector and noise to cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GeneratedSet", "SetEncoder", "SetGenerator"]

#: Variances below this are taken for it: the square root has no gradient at 0.
_LEAST_VARIANCE = 1e-6


class SetEncoder(nn.Module):
    r"""Embeds a set of cells: :math:`z = \rho\big(\frac{1}{N} \sum_i \phi(x_i)\big)`.

    The vector depends on the cells only through means over them. So neither their order nor a copy of the whole set
    changes it, and it converges to that of the population as the set grows (distributional invariance,
    arXiv 2505.18150). The features :math:`\phi` are those of a perceptron, the cell itself, and the squares of its
    values and of D random projections of them; :math:`\rho` turns the squares into standard deviations.

    Parameters
    ----------
    n_features
        Features F of a cell.
    n_embedding
        Length E of the vector.
    n_hidden
        Width D of each layer, and number of projections.
    n_layers
        Layers of :math:`\phi`.

    Examples
    --------
    >>> import torch
    >>> encoder = SetEncoder(3, 4, n_hidden=8, n_layers=1)
    >>> cells, mask = torch.randn(1, 5, 3), torch.ones(1, 5, dtype=torch.bool)
    >>> twice, both = torch.cat([cells, cells.flip(1)], 1), torch.cat([mask, mask], 1)
    >>> torch.allclose(encoder(twice, both), encoder(cells, mask), atol=1e-4)
    True
    """

    def __init__(self, n_features: int, n_embedding: int, *, n_hidden: int, n_layers: int) -> None:
        super().__init__()
        self.n_features = n_features
        self.cell = _perceptron(n_features, n_hidden, n_layers)
        self.directions = _directions(n_features, n_hidden)
        n_pooled = n_features + (n_features + n_hidden) + n_hidden
        self.linear = nn.Linear(n_pooled, n_embedding)
        self.correction = nn.Sequential(
            nn.Linear(n_pooled, n_hidden), nn.GELU(), _zero(nn.Linear(n_hidden, n_embedding))
        )

    @torch.no_grad()
    def set_moments(self, gain: Tensor) -> None:
        """Let the first half of the vector be means of features, the second half their deviations, times a gain."""
        first, second, _ = _halves(len(self.linear.weight), self.n_features)
        self.linear.bias.zero_()
        self.linear.weight[:, : 2 * self.n_features] = 0
        self.linear.weight[torch.cat([first, second])] = 0
        self.linear.weight[first, torch.arange(len(first))] = gain
        self.linear.weight[second, self.n_features + torch.arange(len(second))] = gain

    def cell_features(self, cells: Tensor) -> Tensor:
        r"""Features :math:`\phi` of single cells, which are then averaged, [..., F] to [..., 2 F + 2 D]."""
        return torch.cat([cells, cells.square(), self.directions(cells).square(), self.cell(cells)], -1)

    def embed(self, mean: Tensor) -> Tensor:
        """Vectors of populations from the means of their cell features, [..., 2 F + 2 D] to [..., E]."""
        n, n_hidden = self.n_features, self.directions.out_features
        centre, square, other = mean.split([n, n + n_hidden, n_hidden], -1)
        along = torch.cat([centre, self.directions(centre)], -1)
        deviation = (square - along.square()).clamp_min(_LEAST_VARIANCE).sqrt()
        pooled = torch.cat([centre, deviation, other], -1)
        return self.linear(pooled) + self.correction(pooled)

    def forward(self, cells: Tensor, mask: Tensor) -> Tensor:
        """Vectors of B sets, [B, E].

        Parameters
        ----------
        cells
            [B, N, F]; what padded cells hold does not matter.
        mask
            True for real cells, bool [B, N].
        """
        real = mask[..., None]
        features = self.cell_features(cells.where(real, 0)).where(real, 0)
        return self.embed(features.sum(1) / real.sum(1))


class GeneratedSet(NamedTuple):
    """What the generator makes of noise."""

    scores: Tensor
    """In units of the standard deviation along each axis, [B, M, F]."""
    features: Tensor
    """In units of the data scale, to be added to all features, [B, M, K]."""
    spread: Tensor
    """Factor of the noise of single features, [B, 1, 1]."""


class SetGenerator(nn.Module):
    """Turns noise into cells of the population with a given vector.

    Noise is scaled along its axes and along random directions, and moved, by linear functions of the vector; without
    the directions that makes any Gaussian with a diagonal covariance. A perceptron of noise and vector is added.

    Parameters
    ----------
    n_noise
        Numbers F that a cell is drawn from.
    n_embedding
        Length E of the vector of a population.
    n_features
        Features K of a cell.
    n_hidden
        Width of each layer.
    n_layers
        Number of layers.

    Examples
    --------
    >>> import torch
    >>> generator = SetGenerator(2, 4, 3, n_hidden=8, n_layers=1)
    >>> noise, vectors = torch.randn(1, 5, 2), torch.randn(1, 4)
    >>> made = generator(noise, vectors)
    >>> torch.equal(made.scores, noise), made.features.abs().max().item()  # before training
    (True, 0.0)
    """

    def __init__(self, n_noise: int, n_embedding: int, n_features: int, *, n_hidden: int, n_layers: int) -> None:
        super().__init__()
        self.gain = math.sqrt(n_embedding)
        self.hidden = _perceptron(n_noise + n_embedding, n_hidden, n_layers)
        self.move = _zero(nn.Linear(n_embedding, n_noise))
        self.stretch = _zero(nn.Linear(n_embedding, n_noise))
        self.directions = _directions(n_noise, n_hidden)
        self.shear = _zero(nn.Linear(n_embedding, n_hidden))
        self.spread = _zero(nn.Linear(n_embedding, 1))
        self.scores = _zero(nn.Linear(n_hidden, n_noise))
        self.features = _zero(nn.Linear(n_hidden, n_features))
        nn.init.ones_(self.stretch.bias)
        nn.init.ones_(self.spread.bias)

    @torch.no_grad()
    def set_moments(self, gain: Tensor) -> None:
        """Let the first half of the vector move scores, the second half scale them, times gains [F]."""
        first, second, n = _halves(self.move.in_features, self.move.out_features)
        axes = torch.arange(n)
        self.move.weight[axes, first] = gain[:n] / self.gain
        self.stretch.weight[axes, second] = gain[:n] / self.gain
        self.stretch.bias[:n] = 0

    def forward(self, noise: Tensor, vectors: Tensor) -> GeneratedSet:
        """Cells of B populations with vectors [B, E] from noise [B, M, F]."""
        vectors = vectors[:, None] * self.gain
        hidden = self.hidden(torch.cat([noise, vectors.expand(-1, noise.shape[1], -1)], -1))
        scores = noise * self.stretch(vectors) + self.move(vectors) + self.scores(hidden)
        scores = scores + (self.directions(noise) * self.shear(vectors)) @ self.directions.weight
        return GeneratedSet(scores, self.features(hidden), self.spread(vectors))


def _halves(n_embedding: int, n_features: int) -> tuple[Tensor, Tensor, int]:
    """Places of means and of deviations in a vector, and how many features they describe."""
    n = min(n_embedding // 2, n_features)
    return torch.arange(n), n_embedding // 2 + torch.arange(n), n


def _directions(n_features: int, n_directions: int) -> nn.Linear:
    """Projection on directions in which all features count the same: a frame, were they infinitely many."""
    layer = nn.Linear(n_features, n_directions, bias=False)
    nn.init.normal_(layer.weight)
    with torch.no_grad():
        layer.weight *= (n_features / n_directions) ** 0.5 / layer.weight.norm(dim=1, keepdim=True)
    return layer


def _perceptron(n_inputs: int, n_hidden: int, n_layers: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(n_layers):
        layers += [nn.Linear(n_hidden if i else n_inputs, n_hidden), nn.GELU()]
    return nn.Sequential(*layers)


def _zero(layer: nn.Linear) -> nn.Linear:
    """Let a layer start at 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
