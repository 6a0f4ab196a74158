"""The network as published (arXiv 2602.19685, released configuration), for timing only. Used by `speed.py`.

A token is a pair of a noisy cell and a control cell. The two streams have a width D each and are joined for attention
of width 2 D; time and condition modulate every token on its own; attention and MLP of a block work side by side. The
arithmetic is that of the published network; it is put in the place of the network of `preset="reference"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from pertcast.nn import ControlEncoding, TimeEmbedding, attend

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PublishedNetwork"]


def mlp(n_hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_hidden, 4 * n_hidden), nn.GELU(approximate="tanh"), nn.Linear(4 * n_hidden, n_hidden)
    )


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


class PublishedBlock(nn.Module):
    """Attention over cell pairs, with an MLP and a modulation for each stream."""

    def __init__(self, n_hidden: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.modulations = nn.ModuleList(nn.Linear(n_hidden, 6 * n_hidden) for _ in range(2))
        self.query_key_value = nn.Linear(2 * n_hidden, 6 * n_hidden)
        self.norms = nn.ModuleList(nn.RMSNorm(2 * n_hidden // n_heads) for _ in range(2))
        self.out = nn.Linear(2 * n_hidden, 2 * n_hidden)
        self.mlps = nn.ModuleList(mlp(n_hidden) for _ in range(2))

    def _normed(self, x: Tensor, which: int) -> Tensor:
        return self.norms[which](x.unflatten(-1, (self.n_heads, -1))).flatten(-2)

    def forward(self, streams: list[Tensor], mask: Tensor, condition: Tensor) -> list[Tensor]:
        parts = [layer(F.silu(condition)).chunk(6, -1) for layer in self.modulations]
        joined = torch.cat([modulated(x, p[0], p[1]) for x, p in zip(streams, parts, strict=True)], -1)
        query, key, value = self.query_key_value(joined).chunk(3, -1)
        attended = self.out(attend(self._normed(query, 0), self._normed(key, 1), value, self.n_heads, mask)).chunk(
            2, -1
        )
        return [
            x + p[2] * a + p[5] * net(modulated(x, p[3], p[4]))
            for x, p, a, net in zip(streams, parts, attended, self.mlps, strict=True)
        ]


class PublishedNetwork(nn.Module):
    """Takes the place of ``pertcast.nn.PopulationTransformer``: the same calls, the published arithmetic."""

    def __init__(self, n_genes: int, *, n_hidden: int, n_layers: int, n_heads: int) -> None:
        super().__init__()
        self.embed_noisy, self.embed_control = (nn.Linear(2 * n_genes, n_hidden) for _ in range(2))
        self.time = TimeEmbedding(n_hidden, 256)
        self.blocks = nn.ModuleList(PublishedBlock(n_hidden, n_heads) for _ in range(n_layers))
        self.modulation = nn.Linear(n_hidden, 2 * n_hidden)
        self.out = nn.Linear(n_hidden, n_genes)

    def encode_controls(self, control: Tensor, mask: Tensor) -> ControlEncoding:
        """Nothing: controls are paired with cells one by one."""
        empty = control.new_zeros(len(control), 1, self.modulation.in_features)
        return ControlEncoding(empty, empty[:, 0])

    def forward(
        self,
        noisy: Tensor,
        source: Tensor,
        mask: Tensor,
        t: Tensor,
        condition: Tensor,
        controls: ControlEncoding,
        previous: Tensor | None = None,
    ) -> Tensor:
        before = torch.zeros_like(noisy) if previous is None else previous
        streams = [
            self.embed_noisy(torch.cat([noisy, before], -1)),
            self.embed_control(torch.cat([source, torch.zeros_like(source)], -1)),
        ]
        each = (condition + self.time(t))[:, None].expand(-1, noisy.shape[1], -1).contiguous()
        for block in self.blocks:
            streams = block(streams, mask, each)
        shift, scale = self.modulation(F.silu(each)).chunk(2, -1)
        return self.out(modulated(streams[0], shift, scale))
