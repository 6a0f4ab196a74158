"""Encoding what is done to the cells, and what is known of their context beside the controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ConditionEncoder"]


class ConditionEncoder(nn.Module):
    """Encodes perturbation, dosage, covariates and, on request, identities of contexts and batches.

    A perturbation is a set of parts. Each part has a learned vector (if it was seen in training) plus a linear map of
    its given vector (if there are any); the parts, each with the dosage, pass one network and are summed, so their
    order does not matter.

    Parameters
    ----------
    n_trained
        Number of single perturbations seen in training; higher ids have no learned vector.
    n_hidden
        Width D.
    vectors
        Given vectors of all single perturbations, [V, E].
    n_covariates
        Number of continuous covariates.
    n_contexts
        Number of contexts to embed by identity; 0 leaves contexts to the controls.
    n_batches
        Number of batches to embed by identity; 0 leaves batches to the controls.
    identity_dropout
        Share of sets whose learned vectors are dropped in training, so that given vectors stand alone for
        perturbations that were never seen. Used only with given vectors.

    Examples
    --------
    >>> import torch
    >>> encoder = ConditionEncoder(n_trained=3, n_hidden=8)
    >>> part_ids = torch.tensor([[0, 2], [0, 2], [2, 0]])
    >>> part_mask = torch.tensor([[True, True], [True, False], [True, False]])
    >>> dosage, covariates, code = torch.ones(3), torch.zeros(3, 0), torch.zeros(3, dtype=torch.long)
    >>> both, first, second = encoder(part_ids, part_mask, dosage, covariates, code, code)
    >>> torch.allclose(both, first + second, atol=1e-5)
    True
    """

    vectors: Tensor
    seen: Tensor

    def __init__(
        self,
        n_trained: int,
        n_hidden: int,
        *,
        vectors: Tensor | None = None,
        n_covariates: int = 0,
        n_contexts: int = 0,
        n_batches: int = 0,
        identity_dropout: float = 0.25,
    ) -> None:
        super().__init__()
        self.n_trained = n_trained
        self.identity_dropout = identity_dropout if vectors is not None else 0.0
        self.identity = nn.Embedding(max(n_trained, 1), n_hidden)
        nn.init.normal_(self.identity.weight, std=1.0)
        self.register_buffer("seen", torch.ones(max(n_trained, 1), dtype=torch.bool))
        self.project = None
        if vectors is not None:
            centred = vectors - vectors.mean(0)
            self.register_buffer("vectors", centred / centred.std(correction=0).clamp_min(1e-6))
            self.project = nn.Linear(vectors.shape[1], n_hidden)
        self.part: nn.Module = nn.Sequential(
            nn.Linear(n_hidden + 1, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_hidden)
        )
        self.covariates = nn.Linear(n_covariates, n_hidden) if n_covariates else None
        self.context = nn.Embedding(n_contexts, n_hidden) if n_contexts else None
        self.batch = nn.Embedding(n_batches, n_hidden) if n_batches else None
        self.null = nn.Parameter(torch.zeros(n_hidden))

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
        """Encode conditions.

        Parameters
        ----------
        part_ids
            Ids of the parts, int64 [B, K]; padding may hold any valid id.
        part_mask
            Where ``part_ids`` holds a part, bool [B, K].
        dosage
            Dosage on the scale of the model (see the module), [B].
        covariates
            Standardised continuous covariates, [B, V].
        context
            Context codes, int64 [B]; used only with embedded contexts.
        batch
            Batch codes, int64 [B]; used only with embedded batches.
        keep_identity
            Sets whose learned vectors are kept, bool [B]; all by default.
        parts
            Vectors to use in place of those of ``part_ids``, [B, K, D].

        Returns
        -------
        [B, D].
        """
        if parts is None:
            parts = self.part_vectors(part_ids, keep_identity=keep_identity)
        dose = dosage[:, None, None].expand(*part_ids.shape, 1).to(parts.dtype)
        encoded = (self.part(torch.cat([parts, dose], dim=-1)) * part_mask[..., None]).sum(1)
        if self.covariates is not None:
            encoded = encoded + self.covariates(covariates)
        if self.context is not None:
            encoded = encoded + self.context(context)
        if self.batch is not None:
            encoded = encoded + self.batch(batch)
        return encoded

    @torch.no_grad()
    def set_seen(self, part_ids: Tensor) -> None:
        """Use learned vectors for some parts only: those of others are never trained.

        Parameters
        ----------
        part_ids
            Ids with training cells, int64 [S].
        """
        self.seen.zero_()
        self.seen[part_ids] = True

    def part_vectors(self, part_ids: Tensor, *, keep_identity: Tensor | None = None) -> Tensor:
        """Vectors of single perturbations before the dosage.

        Parameters
        ----------
        part_ids
            Ids, int64 [B, K].
        keep_identity
            Rows whose learned vectors are kept, bool [B]; all by default.

        Returns
        -------
        [B, K, D].
        """
        learned = (part_ids < self.n_trained) & self.seen[part_ids.clamp_max(len(self.seen) - 1)]
        if keep_identity is not None:
            learned = learned & keep_identity[:, None]
        parts = self.identity(part_ids.clamp_max(self.identity.num_embeddings - 1)) * learned[..., None]
        return parts if self.project is None else parts + self.project(self.vectors[part_ids])
