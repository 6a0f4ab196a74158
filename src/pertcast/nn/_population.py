"""The population transformer: the network of PerturbDiff."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import nn

from pertcast.nn._attention import PopulationBlock
from pertcast.nn._controls import ControlEncoder, ControlEncoding
from pertcast.nn._embedding import TimeEmbedding

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PopulationTransformer"]


class PopulationTransformer(nn.Module):
    """Predicts all cells of a set together (PerturbDiff, arXiv 2602.19685, section 4).

    A token is one cell: its noisy state plus the control cell that it starts from. Blocks let cells attend to each
    other and to the encoding of the controls. Outputs follow the order of the cells, and do not depend on the order
    of the controls or on padding.

    Parameters
    ----------
    n_features
        Input features F of a cell.
    n_out
        Output features K of a cell.
    n_hidden
        Width D.
    n_layers
        Number of blocks.
    n_heads
        Number of heads; it divides ``n_hidden``.
    n_tokens
        Tokens S that stand for the controls.
    self_conditioning
        Whether the previous prediction is an input (Chen et al. 2023).
    zero_output
        Whether the output starts at 0, as it must where it is added to an anchor.

    Raises
    ------
    ValueError
        If ``n_heads`` does not divide ``n_hidden``.

    Examples
    --------
    >>> import torch
    >>> network = PopulationTransformer(5, 7, n_hidden=8, n_layers=1, n_heads=2, n_tokens=3)
    >>> controls = network.encode_controls(torch.randn(1, 6, 5), torch.ones(1, 6, dtype=torch.bool))
    >>> noisy, source, condition = torch.randn(1, 4, 5), torch.randn(1, 4, 5), torch.randn(1, 8)
    >>> cells = network(noisy, source, None, torch.ones(1), condition, controls)
    >>> cells.shape, cells.abs().max().item()
    (torch.Size([1, 4, 7]), 0.0)
    """

    def __init__(
        self,
        n_features: int,
        n_out: int,
        *,
        n_hidden: int = 128,
        n_layers: int = 3,
        n_heads: int = 4,
        n_tokens: int = 8,
        self_conditioning: bool = False,
        zero_output: bool = True,
    ) -> None:
        super().__init__()
        if n_hidden % n_heads:
            raise ValueError(f"n_hidden={n_hidden} is not a multiple of n_heads={n_heads}. Change one of the two.")
        self.embed_noisy = nn.Linear(n_features, n_hidden)
        self.embed_source = nn.Linear(n_features, n_hidden, bias=False)
        self.embed_previous = nn.Linear(n_features, n_hidden, bias=False) if self_conditioning else None
        self.time = TimeEmbedding(n_hidden)
        self.controls = ControlEncoder(n_features, n_hidden, n_heads, n_tokens)
        self.blocks = nn.ModuleList(PopulationBlock(n_hidden, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(n_hidden, elementwise_affine=False)
        self.modulation = nn.Linear(n_hidden, 2 * n_hidden)
        self.out = nn.Linear(n_hidden, n_out)
        for layer in (self.modulation, self.out) if zero_output else (self.modulation,):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def encode_controls(self, control: Tensor, mask: Tensor) -> ControlEncoding:
        """Encode the controls of each set, once for all steps: [B, N, F] and bool [B, N]."""
        return self.controls(control, mask)

    def forward(
        self,
        noisy: Tensor,
        source: Tensor,
        mask: Tensor | None,
        t: Tensor,
        condition: Tensor,
        controls: ControlEncoding,
        previous: Tensor | None = None,
    ) -> Tensor:
        """Predict the cells of B sets.

        Parameters
        ----------
        noisy
            Features of the noisy cells, [B, M, F].
        source
            Features of the control cell that each cell starts from, [B, M, F].
        mask
            True for real cells, bool [B, M]; None where all are, which attends faster.
        t
            Times in [0, 1], [B].
        condition
            From :class:`ConditionEncoder`, [B, D].
        controls
            From :meth:`encode_controls`.
        previous
            Features of the previous prediction, [B, M, F]; only with ``self_conditioning``.

        Returns
        -------
        [B, M, K]; what padded cells hold has no meaning.
        """
        before = previous if self.embed_previous is not None else None
        if mask is not None:
            padding = ~mask[..., None]
            noisy, source = noisy.masked_fill(padding, 0), source.masked_fill(padding, 0)
            before = None if before is None else before.masked_fill(padding, 0)
        cells = self.embed_noisy(noisy) + self.embed_source(source)
        if self.embed_previous is not None and before is not None:
            cells = cells + self.embed_previous(before)
        condition = condition + self.time(t) + controls.summary
        for block in self.blocks:
            cells = block(cells, mask, controls.tokens, condition)
        shift, scale = self.modulation(F.silu(condition))[:, None].chunk(2, -1)
        return self.out(self.norm(cells) * (1 + scale) + shift)
