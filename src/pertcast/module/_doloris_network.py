"""The networks of the dual bridge: denoisers of control and of perturbed cells, and the model of silent genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.functional import silu

from pertcast.nn import TimeEmbedding

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BridgeBlock", "BridgeNetwork"]


class BridgeBlock(nn.Module):
    """Residual layer whose input is shifted and scaled by the condition.

    Parameters
    ----------
    n_hidden
        Width D.

    Examples
    --------
    >>> import torch
    >>> block = BridgeBlock(8)
    >>> hidden, condition = torch.randn(5, 8), torch.randn(5, 8)
    >>> moved = block(hidden + 3, condition)  # the layers do not see the 3
    >>> torch.allclose(moved, block(hidden, condition) + 3, atol=1e-4)
    True
    """

    def __init__(self, n_hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_hidden, elementwise_affine=False)
        self.modulation = nn.Linear(n_hidden, 2 * n_hidden)
        self.layers = nn.Sequential(nn.Linear(n_hidden, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_hidden))

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        """Transform cells [n, D] under conditions [n, D]."""
        shift, scale = self.modulation(condition).chunk(2, -1)
        return hidden + self.layers(self.norm(hidden) * (1 + scale) + shift)


class BridgeNetwork(nn.Module):
    r"""Denoises each cell by itself: one trunk :math:`h`, and one head for control and one for perturbed cells.

    Control cells get :math:`W g_s(h(x, \text{context}))` and perturbed cells :math:`W [g_s(h(x, \text{context})) +
    g_t(h(x, \text{context} + \text{perturbation}))]`: what is wrong about both in an unseen context cancels between the
    way to noise and the way back. W and :math:`g_t` start at 0. A third head predicts, once for each condition, by how
    much the log odds that a gene is expressed differ from a first guess.

    Parameters
    ----------
    n_features
        Input features F of a cell.
    n_genes
        Number of genes G.
    n_hidden
        Width D.
    n_layers
        Number of blocks.

    Examples
    --------
    >>> import torch
    >>> network = BridgeNetwork(4, 6, n_hidden=8, n_layers=1)
    >>> context = network.describe(torch.randn(1, 5, 4), torch.ones(1, 5, dtype=torch.bool))
    >>> slope = network(torch.randn(3, 4), torch.rand(3), context.expand(3, -1))
    >>> slope.shape, slope.abs().max().item()
    (torch.Size([3, 6]), 0.0)
    >>> network.log_odds(context).abs().max().item()
    0.0
    """

    def __init__(self, n_features: int, n_genes: int, *, n_hidden: int, n_layers: int) -> None:
        super().__init__()
        self.embed = nn.Linear(n_features, n_hidden)
        self.time = TimeEmbedding(n_hidden)
        self.controls = nn.Sequential(nn.Linear(n_features, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_hidden))
        self.blocks = nn.ModuleList(BridgeBlock(n_hidden) for _ in range(n_layers))
        self.source, self.target = _layers(n_hidden, n_hidden), _layers(n_hidden, n_hidden)
        self.mask, self.out = _layers(n_hidden, n_genes), nn.Linear(n_hidden, n_genes)
        for layer in (self.target[-1], self.mask[-1], self.out):
            for weight in layer.parameters():
                nn.init.zeros_(weight)

    def describe(self, controls: Tensor, mask: Tensor) -> Tensor:
        """Describe contexts by the mean of their controls.

        Parameters
        ----------
        controls
            Features, [C, N, F].
        mask
            Where there is a cell, bool [C, N]; at least one in each context.

        Returns
        -------
        [C, D].
        """
        mean = (controls * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.controls(mean)

    def forward(self, features: Tensor, t: Tensor, source: Tensor, target: Tensor | None = None) -> Tensor:
        """Output of the network in :class:`pertcast.diffusion.GaussianPath`, for n noisy cells.

        Parameters
        ----------
        features
            Features of the noisy cells, [n, F].
        t
            Times in [0, 1], [n].
        source
            Context of each cell, [n, D].
        target
            Perturbation and context of perturbed cells, [n, D]; None for control cells.

        Returns
        -------
        [n, G].
        """
        embedded, time = self.embed(features), self.time(t)
        hidden = self.source(self._trunk(embedded, source + time))
        if target is not None:
            hidden = hidden + self.target(self._trunk(embedded, target + time))
        return self.out(hidden)

    def log_odds(self, condition: Tensor) -> Tensor:
        """Change of the log odds that each gene is expressed, [C, D] to [C, G]."""
        return self.mask(condition)

    def _trunk(self, hidden: Tensor, condition: Tensor) -> Tensor:
        modulation = silu(condition)
        for block in self.blocks:
            hidden = block(hidden, modulation)
        return hidden


def _layers(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(n_in), nn.Linear(n_in, n_in), nn.SiLU(), nn.Linear(n_in, n_out))
