"""The networks of the conditional Monge map: encoder of conditions, and residual map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ContextEncoder", "ResidualMap"]


class ContextEncoder(nn.Module):
    """Encodes perturbation, dosage and covariates, each by a layer of its own with GELU, and puts them side by side.

    The vector of a combination is the mean over its encoded parts, so their order and number do not matter. Parts are
    described by their given vectors alone, so that unseen ones are described like any other; without given vectors
    each trained part has a learned one.

    Parameters
    ----------
    n_trained
        Number of single perturbations seen in training.
    n_embedding
        Features of an encoded perturbation.
    n_dosage
        Features of the encoded dosage.
    vectors
        Given vectors of all single perturbations, [V, E].
    n_covariates
        Number of continuous covariates, which are encoded in as many features.

    Examples
    --------
    >>> import torch
    >>> encoder = ContextEncoder(3, n_embedding=4, n_dosage=1)
    >>> part_ids = torch.tensor([[0, 2], [0, 2], [2, 0]])
    >>> part_mask = torch.tensor([[True, True], [True, False], [True, False]])
    >>> dosage, covariates, code = torch.ones(3), torch.zeros(3, 0), torch.zeros(3, dtype=torch.long)
    >>> both, first, second = encoder(part_ids, part_mask, dosage, covariates, code, code)
    >>> torch.allclose(both, (first + second) / 2, atol=1e-5)
    True
    """

    vectors: Tensor
    seen: Tensor
    null: Tensor

    identity_dropout = 0.0
    """There are no learned vectors beside given ones that could be dropped in training."""

    def __init__(
        self,
        n_trained: int,
        *,
        n_embedding: int,
        n_dosage: int,
        vectors: Tensor | None = None,
        n_covariates: int = 0,
    ) -> None:
        super().__init__()
        self.part: nn.Module
        if vectors is None:
            self.part = nn.Embedding(max(n_trained, 1), n_embedding)
            self.register_buffer("seen", torch.ones(max(n_trained, 1), dtype=torch.bool))
        else:
            spread = vectors.std(0, correction=0)
            self.register_buffer("vectors", (vectors - vectors.mean(0)) / torch.where(spread > 1e-6, spread, 1.0))
            self.part = nn.Linear(vectors.shape[1], n_embedding)
        self.given = vectors is not None
        self.dosage = nn.Linear(1, n_dosage)
        self.covariates = nn.Linear(n_covariates, n_covariates) if n_covariates else None
        self.n_features = n_embedding + n_dosage + n_covariates
        self.register_buffer("null", torch.zeros(self.n_features), persistent=False)

    def forward(
        self,
        part_ids: Tensor,
        part_mask: Tensor,
        dosage: Tensor,
        covariates: Tensor,
        context: Tensor,
        batch: Tensor,
        *,
        keep_identity: Tensor | None = None,
        parts: Tensor | None = None,
    ) -> Tensor:
        """Encode conditions, [B, D]; the arguments are those of :class:`~pertcast.nn.ConditionEncoder`.

        Parameters
        ----------
        part_ids
            Ids of the parts, int64 [B, K].
        part_mask
            Where ``part_ids`` holds a part, bool [B, K].
        dosage
            Standardised logarithm of the dosage, [B].
        covariates
            Standardised continuous covariates, [B, V].
        context, batch
            Not used: cells describe their context.
        keep_identity
            Not used.
        parts
            Encoded parts to use in place of those of ``part_ids``, [B, K, n_embedding].
        """
        if parts is None:
            parts = self.part_vectors(part_ids)
        share = part_mask / part_mask.sum(1, keepdim=True).clamp_min(1)
        features = [(parts * share[..., None]).sum(1), F.gelu(self.dosage(dosage[:, None]))]
        if self.covariates is not None:
            features.append(F.gelu(self.covariates(covariates)))
        return torch.cat(features, 1)

    @torch.no_grad()
    def set_seen(self, part_ids: Tensor) -> None:
        """Give learned vectors to some parts only: those of others are never trained."""
        if not self.given:
            self.seen.zero_()
            self.seen[part_ids] = True

    def part_vectors(self, part_ids: Tensor) -> Tensor:
        """Encoded single perturbations, [B, K] to [B, K, n_embedding]."""
        if self.given:
            return F.gelu(self.part(self.vectors[part_ids]))
        known = (part_ids < len(self.seen)) & self.seen[part_ids.clamp_max(len(self.seen) - 1)]
        return F.gelu(self.part(part_ids.clamp_max(len(self.seen) - 1))) * known[..., None]


class ResidualMap(nn.Module):
    r"""Displacement of a map of single cells :math:`T(x, c) = x + W h(x, c)`, h a perceptron with GELU.

    It is called for :math:`W h`, which starts at 0: before training the map is the identity.

    Nothing constrains the map to be the gradient of a convex function; the Monge gap takes the place of that.

    Parameters
    ----------
    n_features
        Features K of a cell.
    n_condition
        Features D of a condition.
    n_hidden
        Width of each layer.
    n_layers
        Number of layers.
    layer_norm
        Whether each layer is normalised.

    Examples
    --------
    >>> import torch
    >>> residual = ResidualMap(3, 2, n_hidden=8, n_layers=1, layer_norm=False)
    >>> displacement = residual(torch.randn(1, 4, 3), torch.randn(1, 2))
    >>> displacement.shape, displacement.abs().max().item()
    (torch.Size([1, 4, 3]), 0.0)
    """

    def __init__(self, n_features: int, n_condition: int, *, n_hidden: int, n_layers: int, layer_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = n_features + n_condition
        for _ in range(n_layers):
            layers += [nn.Linear(width, n_hidden), *([nn.LayerNorm(n_hidden)] if layer_norm else []), nn.GELU()]
            width = n_hidden
        self.hidden = nn.Sequential(*layers)
        self.out = nn.Linear(width, n_features, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, cells: Tensor, condition: Tensor) -> Tensor:
        """Displacement of cells [B, M, K] under conditions [B, D], [B, M, K]."""
        context = condition[:, None].expand(-1, cells.shape[1], -1)
        return self.out(self.hidden(torch.cat([cells, context], -1)))
