"""What a network of genes says of one perturbed gene: its own node, or what becomes of all others without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from pertcast.nn._graph import GeneGraph

__all__ = ["KnockoutReadout", "NodeReadout"]


class NodeReadout(nn.Module):
    """State of the node of the perturbed gene (Doloris, arXiv 2506.21107v3).

    Examples
    --------
    >>> import torch
    >>> from pertcast.nn import GeneGraph
    >>> graph = GeneGraph(3, n_embedding=2, n_hidden=4, n_heads=1, learned=True)
    >>> NodeReadout()(graph, torch.tensor([0, 2])).shape
    torch.Size([2, 4])
    """

    def forward(self, graph: GeneGraph, genes: Tensor) -> Tensor:
        """Read genes, int64 [...] with values in [0, G), from a graph; [..., D]."""
        return graph()[genes]


class KnockoutReadout(nn.Module):
    r"""All nodes without the perturbed gene (Unlasting, arXiv 2506.21107v1).

    With the states :math:`h` of the genes in the graph and :math:`h^{-p}` of those with the embedding of gene p
    at 0, gene g contributes the product :math:`q_g^\top (h^{-p}_g - h_g)` with a learned vector, and a linear layer
    maps these G numbers to D. The intact states only shift the result by the same vector for all perturbations.

    Parameters
    ----------
    n_genes
        Number of genes G.
    n_hidden
        Width D.

    Examples
    --------
    >>> import torch
    >>> from pertcast.nn import GeneGraph
    >>> graph = GeneGraph(3, n_embedding=2, n_hidden=4, n_heads=1, learned=True)
    >>> KnockoutReadout(3, 4)(graph, torch.tensor([0, 2])).shape
    torch.Size([2, 4])
    """

    def __init__(self, n_genes: int, n_hidden: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(n_genes, n_hidden) / n_hidden**0.5)
        self.out = nn.Linear(n_genes, n_hidden)

    def forward(self, graph: GeneGraph, genes: Tensor) -> Tensor:
        """Read genes, int64 [...] with values in [0, G), from a graph; [..., D].

        The graph is passed through once for each distinct gene.
        """
        distinct, place = genes.unique(return_inverse=True)
        intact = graph()
        response = [((graph(gene) - intact) * self.query).sum(-1) for gene in distinct.tolist()]
        return self.out(torch.stack(response))[place]
