"""Attention with masks, and the block of the population transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PopulationBlock", "attend"]


def attend(query: Tensor, key: Tensor, value: Tensor, n_heads: int, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention with several heads.

    Parameters
    ----------
    query
        [B, M, D].
    key, value
        [B, N, D].
    n_heads
        Number of heads; it divides D.
    mask
        Keys that may be attended to, bool [B, N]; at least one of each set.

    Returns
    -------
    [B, M, D].

    Examples
    --------
    >>> import torch
    >>> cells = torch.tensor([[[1.0, 10.0], [3.0, 30.0], [9.0, 90.0]]])
    >>> allowed = torch.tensor([[True, True, False]])
    >>> attend(torch.zeros(1, 1, 2), cells, cells, 1, allowed)  # a query of zeros takes the mean
    tensor([[[ 2., 20.]]])
    """
    q, k, v = (x.unflatten(-1, (n_heads, -1)).transpose(1, 2) for x in (query, key, value))
    allowed = None if mask is None else mask[:, None, None, :]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).flatten(2)


class PopulationBlock(nn.Module):
    """Transformer block over the cells of a set with adaLN-Zero (Peebles & Xie 2023).

    Each cell attends to the cells of its set and to the tokens of the controls. The condition sets shift, scale and
    gate of both halves, once for each set; the gates start at 0, so the block starts as the identity.

    Parameters
    ----------
    n_hidden
        Width D.
    n_heads
        Number of heads.

    Examples
    --------
    >>> import torch
    >>> block = PopulationBlock(8, n_heads=2)
    >>> cells, tokens, condition = torch.randn(1, 5, 8), torch.randn(1, 3, 8), torch.randn(1, 8)
    >>> torch.equal(block(cells, None, tokens, condition), cells)  # before training
    True
    """

    def __init__(self, n_hidden: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_attention = nn.LayerNorm(n_hidden, elementwise_affine=False)
        self.norm_mlp = nn.LayerNorm(n_hidden, elementwise_affine=False)
        self.query_key_value = nn.Linear(n_hidden, 3 * n_hidden)
        self.control_key_value = nn.Linear(n_hidden, 2 * n_hidden)
        self.out = nn.Linear(n_hidden, n_hidden)
        self.mlp = nn.Sequential(
            nn.Linear(n_hidden, 4 * n_hidden), nn.GELU(approximate="tanh"), nn.Linear(4 * n_hidden, n_hidden)
        )
        self.modulation = nn.Linear(n_hidden, 6 * n_hidden)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, cells: Tensor, mask: Tensor | None, tokens: Tensor, condition: Tensor) -> Tensor:
        """Transform the cells of B sets.

        Parameters
        ----------
        cells
            [B, M, D].
        mask
            True for real cells, bool [B, M]; None where all are.
        tokens
            Tokens of the controls, [B, S, D].
        condition
            [B, D].
        """
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(F.silu(condition))[:, None].chunk(6, -1)
        query, key, value = self.query_key_value(self.norm_attention(cells) * (1 + scale_a) + shift_a).chunk(3, -1)
        control_key, control_value = self.control_key_value(tokens).chunk(2, -1)
        keys, values = torch.cat([key, control_key], 1), torch.cat([value, control_value], 1)
        allowed = None if mask is None else torch.cat([mask, mask.new_ones(tokens.shape[:2])], 1)
        cells = cells + gate_a * self.out(attend(query, keys, values, self.n_heads, allowed))
        return cells + gate_m * self.mlp(self.norm_mlp(cells) * (1 + scale_m) + shift_m)
