"""Cost models of `speed.py`: non-negative least squares on relative errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CostModel", "fit"]


@dataclass(frozen=True)
class CostModel:
    """A sum of terms with non-negative coefficients."""

    terms: tuple[str, ...]
    coefficients: np.ndarray
    error: float
    """Root mean square of the relative residuals."""
    worst: float
    """Largest relative residual."""

    def __call__(self, **values: float) -> float:
        return float(sum(c * values[term] for term, c in zip(self.terms, self.coefficients, strict=True)))

    def __str__(self) -> str:
        parts = " + ".join(f"{c:.3g} x {term}" for term, c in zip(self.terms, self.coefficients, strict=True) if c > 0)
        return f"{parts} (relative residual {self.error:.0%}, at most {self.worst:.0%})"


def fit(rows: Sequence[Mapping[str, float]], terms: Sequence[str], target: str) -> CostModel:
    """Fit ``target`` as a sum of ``terms``; every row counts with its relative error.

    Examples
    --------
    >>> rows = [{"a": 1.0, "b": 1.0, "y": 3.0}, {"a": 1.0, "b": 4.0, "y": 9.0}]
    >>> fit(rows, ["a", "b"], "y").coefficients.round(6).tolist()
    [1.0, 2.0]
    """
    wanted = np.array([row[target] for row in rows], dtype=float)
    design = np.array([[row[term] for term in terms] for row in rows], dtype=float) / wanted[:, None]
    size = design.max(axis=0)
    coefficients, _ = nnls(design / size, np.ones(len(rows)))
    residual = design / size @ coefficients - 1
    return CostModel(
        tuple(terms), coefficients / size, float(np.sqrt(np.mean(residual**2))), float(np.abs(residual).max())
    )
