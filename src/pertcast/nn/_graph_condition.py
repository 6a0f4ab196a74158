"""Encoding perturbations of genes by their places in a network of genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pertcast.nn._condition import ConditionEncoder
from pertcast.nn._graph import GeneGraph
from pertcast.nn._graph_readout import KnockoutReadout, NodeReadout

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DosageGate", "GraphConditionEncoder"]


class DosageGate(nn.Module):
    r"""Scales the features of a perturbation by its dosage: :math:`\mathrm{sigmoid}(f([e, u])) \, e`, then a network.

    Parameters
    ----------
    n_hidden
        Width D.

    Examples
    --------
    >>> import torch
    >>> gate, dosage = DosageGate(4), torch.tensor([[0.0], [3.0]])
    >>> features = torch.zeros(2, 4)  # nothing that the dosage could scale
    >>> encoded = gate(torch.cat([features, dosage], 1))
    >>> encoded.shape, torch.allclose(encoded[0], encoded[1])
    (torch.Size([2, 4]), True)
    """

    def __init__(self, n_hidden: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(n_hidden + 1, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_hidden))
        self.layers = nn.Sequential(nn.Linear(n_hidden, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_hidden))

    def forward(self, part: Tensor) -> Tensor:
        """Encode features with the dosage behind them, [..., D + 1] to [..., D]."""
        return self.layers(self.gate(part).sigmoid() * part[..., :-1])


class GraphConditionEncoder(ConditionEncoder):
    """Condition encoder that reads perturbed genes from a network of genes (Doloris, arXiv 2506.21107).

    The features of a part are the sum of what is known: what a :class:`GeneGraph` says of the gene of its name, a
    linear map of its given vector, and a learned vector if it was seen in training. In training the learned vector is
    dropped at times where something else describes the part. Parts pass a :class:`DosageGate` and are summed.

    Ids beyond those of the vocabulary stand for genes: ``V + g`` for gene g, with V the size of the vocabulary.

    Parameters
    ----------
    n_trained
        Number of single perturbations seen in training.
    n_hidden
        Width D.
    n_genes
        Number of genes G.
    n_embedding, n_heads, learned
        Arguments of :class:`GeneGraph`.
    knockout
        Whether to read what becomes of all genes without the perturbed one (:class:`KnockoutReadout`), in place of its
        node.
    vectors
        Given vectors of all single perturbations, [V, E].
    n_covariates
        Number of continuous covariates.
    identity_dropout
        Share of sets whose learned vectors are dropped in training.

    Examples
    --------
    >>> import torch
    >>> encoder = GraphConditionEncoder(2, 8, n_genes=5, n_embedding=3, n_heads=2, learned=True)
    >>> part = encoder.part_vectors(torch.tensor([[2 + 4]]))  # gene 4; the vocabulary has 2 perturbations
    >>> torch.allclose(part[0, 0], encoder.genes()[4])
    True
    """

    gene_of_part: Tensor

    def __init__(
        self,
        n_trained: int,
        n_hidden: int,
        *,
        n_genes: int,
        n_embedding: int,
        n_heads: int,
        learned: bool = False,
        knockout: bool = False,
        vectors: Tensor | None = None,
        n_covariates: int = 0,
        identity_dropout: float = 0.25,
    ) -> None:
        super().__init__(n_trained, n_hidden, vectors=vectors, n_covariates=n_covariates)
        self.identity_dropout = identity_dropout
        self.part = DosageGate(n_hidden)
        self.genes = GeneGraph(n_genes, n_embedding, n_hidden, n_heads, learned=learned)
        self.read = KnockoutReadout(n_genes, n_hidden) if knockout else NodeReadout()
        self.n_named = n_trained if vectors is None else len(vectors)
        nameless = torch.full((self.n_named,), -1)
        self.register_buffer("gene_of_part", torch.cat([nameless, torch.arange(n_genes)]))

    @torch.no_grad()
    def set_genes(self, gene_of_part: Tensor) -> None:
        """Say which gene each perturbation of the vocabulary is, int64 [V]; -1 for none."""
        self.gene_of_part[: self.n_named] = gene_of_part

    def part_vectors(self, part_ids: Tensor, *, keep_identity: Tensor | None = None) -> Tensor:
        """Features of single perturbations before the dosage.

        Parameters
        ----------
        part_ids
            Ids, int64 [B, K].
        keep_identity
            Rows whose learned vectors are kept, bool [B]; all by default. A part without a vector and without a gene
            keeps its own.

        Returns
        -------
        [B, K, D].
        """
        gene = self.gene_of_part[part_ids]
        is_gene, is_named = gene >= 0, part_ids < self.n_named
        learned = (part_ids < self.n_trained) & self.seen[part_ids.clamp_max(len(self.seen) - 1)]
        if keep_identity is not None and self.project is None:
            learned = learned & (keep_identity[:, None] | ~is_gene)
        elif keep_identity is not None:
            learned = learned & keep_identity[:, None]
        parts = self.identity(part_ids.clamp_max(self.identity.num_embeddings - 1)) * learned[..., None]
        if self.project is not None:
            parts = parts + self.project(self.vectors[part_ids.clamp_max(self.n_named - 1)]) * is_named[..., None]
        if is_gene.any():
            of_genes = parts.new_zeros(parts.shape)
            of_genes[is_gene] = self.read(self.genes, gene[is_gene]).to(of_genes)
            parts = parts + of_genes
        return parts
