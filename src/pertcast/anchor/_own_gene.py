"""What a perturbation of a gene does to the expression of that gene."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OwnGene"]

logger = logging.getLogger(__name__)

_MIN_GENES = 3


class OwnGene:
    r"""Shift of the gene that is perturbed, beyond what the same perturbation is forecast to do to it.

    Knock-outs and knock-downs lower the expression of their target by a share, activation raises it, and the
    perturbations of training show by how much: the residual of the target is :math:`a + b c` with c its mean in the
    controls. The line, or a share alone (a = 0), is used if it lowers the squared error of targets left out.

    Parameters
    ----------
    control
        Mean of each perturbed gene in the controls, ``[n]``.
    residual
        What its shift lacks where it is forecast without the perturbation, ``[n]``.

    Examples
    --------
    >>> own = OwnGene([1.0, 2.0, 3.0, 4.0], [-0.5, -1.0, -1.5, -2.0])
    >>> round(own.shift(10.0), 6)
    -5.0
    >>> OwnGene([], []).shift(10.0)
    0.0
    """

    def __init__(self, control: Sequence[float], residual: Sequence[float]) -> None:
        c, y = np.asarray(control, dtype=float), np.asarray(residual, dtype=float)
        self.line = np.zeros(2)
        if len(y) < _MIN_GENES:
            return
        error = float(np.square(y).sum())
        for columns in ((1,), (0, 1)):
            design = np.c_[np.ones_like(c), c][:, columns]
            if len(y) <= len(columns) + 1 or np.linalg.matrix_rank(design) < len(columns):
                continue
            hat = design @ np.linalg.pinv(design)
            left_out = (y - hat @ y) / np.maximum(1 - np.diag(hat), 1e-6)
            if np.square(left_out).sum() < error:
                error = float(np.square(left_out).sum())
                self.line = np.zeros(2)
                self.line[list(columns)] = np.linalg.pinv(design) @ y
        logger.debug("Own gene: %.3g + %.3g x control, from %d perturbed genes.", *self.line, len(y))

    def shift(self, control: float) -> float:
        """Return the shift to add for a gene with this mean in the controls."""
        return float(self.line[0] + self.line[1] * control)
