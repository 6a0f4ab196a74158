"""How much of the network is added to the anchor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ResidualGate"]


class ResidualGate(nn.Module):
    """Scales what the network adds to the anchor.

    The gate is 1 in training. Afterwards held-out conditions set it, and without them it is 0.5. At 0 the prediction is
    the anchor.

    Examples
    --------
    >>> import torch
    >>> gate, residual = ResidualGate(), torch.tensor([2.0, -4.0])
    >>> gate.set(0.5)
    >>> gate(residual), gate.add(torch.ones(2), residual, scale=torch.tensor(3.0))
    (tensor([ 1., -2.]), tensor([ 4., -5.]))
    """

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.ones(()))

    def set(self, value: float) -> None:
        """Set the gate, in [0, 1]."""
        self.value.fill_(value)

    def add(self, anchor: Tensor, residual: Tensor, scale: Tensor) -> Tensor:
        """Return ``anchor + value * scale * residual``, in one pass over the cells, [..., K]."""
        return torch.addcmul(anchor, residual, self.value * scale)

    def forward(self, residual: Tensor) -> Tensor:
        """Scale what the network adds, [..., K]."""
        return self.value * residual
