"""Graph attention over genes, without a graph library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GeneGraph", "GraphAttention", "message_edges"]


def message_edges(edges: Tensor, n_genes: int) -> Tensor:
    """Edges along which messages pass: both ways along each edge, and from each gene to itself, each once.

    Parameters
    ----------
    edges
        Places of source and target, int64 [2, E].
    n_genes
        Number of genes G.

    Returns
    -------
    int64 [2, E'], sorted.

    Examples
    --------
    >>> message_edges(torch.tensor([[0, 1], [1, 0]]), 2).tolist()
    [[0, 0, 1, 1], [0, 1, 0, 1]]
    """
    own = torch.arange(n_genes, device=edges.device).expand(2, -1)
    return torch.cat([edges, edges.flip(0), own], dim=1).unique(dim=1)


class GraphAttention(nn.Module):
    r"""Layer of graph attention (Veličković et al. 2018, Eq. 1 to 5), with heads side by side.

    For a gene i and the genes j that send it messages, each head has the weights
    :math:`\alpha_{ij} = \mathrm{softmax}_j \, \mathrm{LeakyReLU}(a^\top W h_i + b^\top W h_j)` and the output
    :math:`\sum_j \alpha_{ij} W h_j`.

    Parameters
    ----------
    n_in
        Features of a gene.
    n_out
        Output features of a gene, all heads together.
    n_heads
        Number of heads; it divides ``n_out``.

    Raises
    ------
    ValueError
        If ``n_heads`` does not divide ``n_out``.

    Examples
    --------
    >>> import torch
    >>> from pertcast.nn import message_edges
    >>> layer, nodes = GraphAttention(3, 4, n_heads=2), torch.randn(2, 3)
    >>> alone = message_edges(torch.zeros(2, 0, dtype=torch.long), n_genes=2)
    >>> torch.allclose(layer(nodes, alone), layer.project(nodes), atol=1e-5)  # each gene hears itself only
    True
    """

    def __init__(self, n_in: int, n_out: int, n_heads: int) -> None:
        super().__init__()
        if n_out % n_heads:
            raise ValueError(f"{n_out} features cannot be shared by {n_heads} heads. Change one of the two.")
        self.n_heads = n_heads
        self.project = nn.Linear(n_in, n_out, bias=False)
        self.receive = nn.Parameter(torch.empty(n_heads, n_out // n_heads))
        self.send = nn.Parameter(torch.empty(n_heads, n_out // n_heads))
        for weight in (self.receive, self.send):
            nn.init.xavier_uniform_(weight)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """Pass messages.

        Parameters
        ----------
        nodes
            Features of genes, [G, n_in].
        edges
            From :func:`message_edges`, int64 [2, E]; every gene receives a message.

        Returns
        -------
        [G, n_out].
        """
        sender, receiver = edges
        projected = self.project(nodes)
        projected = projected.to(torch.promote_types(projected.dtype, torch.float32))  # sums over edges need it
        projected = projected.unflatten(-1, (self.n_heads, -1))
        scores = (projected * self.send).sum(-1)[sender] + (projected * self.receive).sum(-1)[receiver]
        scores = F.leaky_relu(scores, 0.2)
        index = receiver[:, None].expand_as(scores)
        highest = scores.new_full((len(nodes), self.n_heads), -torch.inf).scatter_reduce(0, index, scores, "amax")
        weight = (scores - highest.detach()[receiver]).exp()
        total = torch.zeros_like(highest).index_add(0, receiver, weight)
        messages = projected[sender] * weight[..., None]
        received = torch.zeros_like(projected).index_add(0, receiver, messages)
        return (received / total[..., None]).flatten(1)


class GeneGraph(nn.Module):
    """States of genes in a regulatory network: two layers of graph attention over embeddings of the genes.

    The state of a gene depends on the network and the embeddings alone, so it is computed once for all cells.

    Parameters
    ----------
    n_genes
        Number of genes G.
    n_embedding
        Features of the embedding of a gene.
    n_hidden
        Width D of the states.
    n_heads
        Number of heads.
    learned
        Whether embeddings are learned; otherwise :meth:`fit` gives them, and they stay.

    Examples
    --------
    >>> import torch
    >>> graph = GeneGraph(4, n_embedding=3, n_hidden=8, n_heads=2)
    >>> graph.fit(torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.ones(4, 3))  # a chain of four genes
    >>> changed = (graph(zeroed=0) - graph()).abs().amax(1) > 1e-6
    >>> changed.tolist()  # genes up to two edges away
    [True, True, True, False]
    """

    edges: Tensor
    embedding: Tensor

    def __init__(self, n_genes: int, n_embedding: int, n_hidden: int, n_heads: int, *, learned: bool = False) -> None:
        super().__init__()
        embedding = torch.randn(n_genes, n_embedding) if learned else torch.zeros(n_genes, n_embedding)
        if learned:
            self.embedding = nn.Parameter(embedding)
        else:
            self.register_buffer("embedding", embedding)
        self.register_buffer("edges", message_edges(torch.zeros(2, 0, dtype=torch.long), n_genes))
        self.learned = learned
        self.first = GraphAttention(n_embedding, n_hidden, n_heads)
        self.second = GraphAttention(n_hidden, n_hidden, n_heads)

    @torch.no_grad()
    def fit(self, edges: Tensor, embedding: Tensor) -> None:
        """Set the network, and the embeddings of the genes if they are not learned.

        Parameters
        ----------
        edges
            Places of source and target, int64 [2, E]; E may be 0.
        embedding
            Features of genes, [G, n] with n of at most those of the module, the rest stay 0.
        """
        self.edges = message_edges(edges.to(self.edges.device), len(self.embedding))
        if not self.learned:
            self.embedding.zero_()[:, : embedding.shape[1]] = embedding

    def forward(self, zeroed: int | None = None) -> Tensor:
        """States of all genes.

        Parameters
        ----------
        zeroed
            Gene whose embedding is taken for 0, as if it were not there.

        Returns
        -------
        [G, D].
        """
        embedding = self.embedding
        if zeroed is not None:
            embedding = embedding.index_fill(0, torch.tensor(zeroed, device=embedding.device), 0.0)
        states = F.elu(self.first(embedding, self.edges))
        return states + self.second(states, self.edges)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        """Make room for the edges that were saved: their number is known only from the data."""
        saved = state_dict.get(prefix + "edges")
        if saved is not None:
            self.edges = torch.empty_like(saved, device=self.edges.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
