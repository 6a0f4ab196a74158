"""An average of the weights over training, kept inside the module so that it is saved with it."""

from __future__ import annotations

import copy

import torch
from torch import nn

__all__ = ["ExponentialMovingAverage"]


class ExponentialMovingAverage(nn.Module):
    """Averaged copy of a network.

    After n updates the decay is ``min(decay, (1 + n) / (10 + n))``, so the first steps are soon forgotten.

    Parameters
    ----------
    network
        The network to follow.
    decay
        Share of the average that an update keeps, in [0, 1); 0 follows the network exactly.

    Raises
    ------
    ValueError
        If ``decay`` is not in [0, 1).

    Examples
    --------
    >>> import torch
    >>> network = torch.nn.Linear(1, 1)
    >>> _ = torch.nn.init.constant_(network.weight, 0.0)
    >>> average = ExponentialMovingAverage(network, 0.99)
    >>> _ = torch.nn.init.constant_(network.weight, 10.0)
    >>> average.update(network)
    >>> round(average.network.weight.item(), 4)  # the first update keeps a tenth
    9.0
    """

    n_updates: torch.Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"The decay of the averaged weights is {decay}; it must be at least 0 and below 1.")
        self.decay = decay
        self.network = copy.deepcopy(network).requires_grad_(requires_grad=False)
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the weights of ``network``."""
        n = int(self.n_updates)
        decay = min(self.decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - decay)
        self.n_updates += 1
