r"""Shifts of perturbations that were never measured, from their vectors."""

from __future__ import annotations

from functools import cached_property

import numpy as np

__all__ = ["EmbeddingRegression"]

_RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, np.inf)


class EmbeddingRegression:
    r"""Ridge regression of the shift on the vector of the perturbation.

    With centred vectors :math:`E` (n x d), inner products :math:`K = E E^\top` and shifts :math:`D`, the shift of a
    perturbation is :math:`\bar D + k^\top (K + a s I)^{-1} (D - \bar D)`, with s the mean of the diagonal of K. The
    ridge a is the one with the smallest leave-one-out error; an infinite ridge is the mean shift. Leave-one-out
    forecasts equal those of a regression refitted without the row, its mean included, at the same penalty a s.

    Parameters
    ----------
    vectors
        Vectors of the n perturbations that were measured, ``[n, d]``.
    shifts
        Their shifts, ``[n, G]``.
    """

    def __init__(self, vectors: np.ndarray, shifts: np.ndarray) -> None:
        self.mean_vector, self.mean_shift = vectors.mean(0), shifts.mean(0)
        self.vectors, self.shifts = vectors - self.mean_vector, shifts - self.mean_shift
        self.kernel = self.vectors @ self.vectors.T
        self.scale = float(np.trace(self.kernel)) / len(vectors)
        self.ridge = np.inf
        if len(vectors) > 2 and self.scale > 0:
            errors = [np.square(self.shifts - self._left_out(ridge)).sum() for ridge in _RIDGES]
            self.ridge = _RIDGES[int(np.argmin(errors))]

    def _left_out(self, ridge: float) -> np.ndarray:
        """Leave-one-out forecasts of the centred shifts, ``[n, G]``."""
        n = len(self.shifts)
        if np.isinf(ridge):
            smoother = np.full((n, n), 1 / n)
            return (smoother @ self.shifts - self.shifts / n) / (1 - 1 / n)
        inverse = np.linalg.inv(self.kernel + ridge * self.scale * np.eye(n))
        smoother = 1 / n + self.kernel @ inverse
        own = np.minimum(np.diag(smoother), 1 - 1e-6)[:, None]
        return (smoother @ self.shifts - own * self.shifts) / (1 - own)

    @cached_property
    def left_out(self) -> np.ndarray:
        """Forecast of each measured perturbation from the others, ``[n, G]``."""
        if len(self.shifts) < 2:
            return np.zeros_like(self.shifts)
        return self.mean_shift + self._left_out(self.ridge)

    def predict(self, vector: np.ndarray) -> np.ndarray:
        """Shift of a perturbation with a vector ``[d]``, ``[G]``."""
        if np.isinf(self.ridge):
            return self.mean_shift.copy()
        n = len(self.shifts)
        alpha = np.linalg.solve(
            self.kernel + self.ridge * self.scale * np.eye(n), self.vectors @ (vector - self.mean_vector)
        )
        return self.mean_shift + alpha @ self.shifts
