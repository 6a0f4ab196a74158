"""Dosages as networks read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["LogDosage"]

_LEAST_SPREAD = 1e-6


class LogDosage(nn.Module):
    r"""Standardised logarithm :math:`(\log(d + o) - \mu) / \sigma` of dosages; the offset o keeps 0 finite.

    Until :meth:`fit` is called, o is 1, :math:`\mu` is 0 and :math:`\sigma` is 1.

    Examples
    --------
    >>> import torch
    >>> scale = LogDosage()
    >>> scale.fit([2.0, 8.0])
    >>> scale(torch.tensor([2.0, 8.0])).tolist()
    [-1.0, 1.0]
    """

    offset: torch.Tensor
    moments: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.ones(()))
        self.register_buffer("moments", torch.tensor([0.0, 1.0]))

    @torch.no_grad()
    def fit(self, dosages: ArrayLike) -> None:
        """Take o, half the smallest positive dosage, and mean and standard deviation of logs from dosages ``[P]``.

        Parameters
        ----------
        dosages
            Dosages, 0 or more. Where their logs do not vary, they are divided by 1.
        """
        values = np.asarray(dosages, dtype=np.float64)
        positive = values[values > 0]
        offset = positive.min() / 2 if len(positive) else 1.0
        logs = np.log(values + offset)
        spread = logs.std()
        self.offset.fill_(float(offset))
        self.moments.copy_(torch.tensor([logs.mean(), spread if spread > _LEAST_SPREAD else 1.0]))

    def forward(self, dosages: torch.Tensor) -> torch.Tensor:
        """Standardise dosages of any shape."""
        mean, spread = self.moments
        return (torch.log(dosages + self.offset) - mean) / spread
