"""An order-free encoding of a set of control cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from pertcast.nn._attention import attend

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ControlEncoder", "ControlEncoding"]


class ControlEncoding(NamedTuple):
    """What the network knows of the controls; the same at every diffusion step.

    Examples
    --------
    >>> import torch
    >>> shared = ControlEncoding(tokens=torch.zeros(1, 4, 8), summary=torch.zeros(1, 8)).expand(100)
    >>> shared.tokens.shape, shared.summary.shape
    (torch.Size([100, 4, 8]), torch.Size([100, 8]))
    >>> shared.tokens.untyped_storage().nbytes()  # 4 tokens of 8 float32 numbers, as before
    128
    """

    tokens: Tensor
    """Tokens that cells attend to, [B, S + 1, D]."""
    summary: Tensor
    """Vector of the whole set, [B, D]."""

    def expand(self, n_sets: int) -> ControlEncoding:
        """Share the encoding of one set of controls among B sets of cells; nothing is copied."""
        return ControlEncoding(self.tokens.expand(n_sets, -1, -1), self.summary.expand(n_sets, -1))


class ControlEncoder(nn.Module):
    """Pools any number of control cells into S tokens and one vector.

    Learned queries attend to the cells (pooling by multi-head attention, Lee et al. 2019); the mean of the cells is
    one more token. Neither depends on the order of the cells or on padding.

    Parameters
    ----------
    n_features
        Input features F of a cell.
    n_hidden
        Width D.
    n_heads
        Number of heads.
    n_tokens
        Number S of tokens.

    Examples
    --------
    >>> import torch
    >>> encoder = ControlEncoder(5, n_hidden=8, n_heads=2, n_tokens=3)
    >>> control, mask = torch.randn(1, 6, 5), torch.tensor([[True, True, True, True, False, False]])
    >>> encoding = encoder(control, mask)
    >>> encoding.tokens.shape, encoding.summary.shape
    (torch.Size([1, 4, 8]), torch.Size([1, 8]))
    >>> other = encoder(control[:, :4].flip(1), mask[:, :4])  # in another order, without padding
    >>> torch.allclose(other.tokens, encoding.tokens, atol=1e-5)
    True
    """

    def __init__(self, n_features: int, n_hidden: int, n_heads: int, n_tokens: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.embed = nn.Linear(n_features, n_hidden)
        self.queries = nn.Parameter(torch.randn(n_tokens, n_hidden) / math.sqrt(n_hidden))
        self.key_value = nn.Linear(n_hidden, 2 * n_hidden)
        self.out = nn.Linear(n_hidden, n_hidden)
        self.summary = nn.Sequential(
            nn.LayerNorm(n_hidden), nn.Linear(n_hidden, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_hidden)
        )

    def forward(self, control: Tensor, mask: Tensor) -> ControlEncoding:
        """Encode control cells.

        Parameters
        ----------
        control
            Features, [B, N, F].
        mask
            True for real cells, bool [B, N]; at least one in each set.
        """
        cells = self.embed(control.masked_fill(~mask[..., None], 0))
        key, value = self.key_value(cells).chunk(2, -1)
        queries = self.queries.expand(len(cells), -1, -1)
        pooled = self.out(attend(queries, key, value, self.n_heads, mask))
        mean = (cells * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return ControlEncoding(torch.cat([pooled, mean[:, None]], 1), self.summary(mean))
