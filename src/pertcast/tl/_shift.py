"""Shifts of the mean, and how well they agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from pertcast.tl._matrix import as_cells, require_same_columns

if TYPE_CHECKING:
    from pertcast.tl._matrix import Cells

__all__ = ["mean_shift", "shift_pearson"]


def mean_shift(x: Cells, control: Cells) -> np.ndarray:
    """Mean of a population minus the mean of the controls.

    Parameters
    ----------
    x
        Cells ``[n, G]``, dense or sparse.
    control
        Control cells ``[m, G]``, dense or sparse.

    Returns
    -------
    float64 ``[G]``, in the units of the expression.

    Raises
    ------
    ValueError
        If the columns differ in number or a value is not finite.

    Examples
    --------
    >>> mean_shift(np.array([[1.0, 4.0], [3.0, 4.0]]), np.array([[1.0, 1.0]])).tolist()
    [1.0, 3.0]
    """
    cells, controls = as_cells(x, "x"), as_cells(control, "control")
    require_same_columns(cells, controls, "`x` and `control`")
    return _mean(cells) - _mean(controls)


def shift_pearson(
    predicted: Cells,
    real: Cells,
    control: Cells,
) -> float:
    """Pearson correlation, over genes, of the predicted and the measured shift of the mean.

    Parameters
    ----------
    predicted
        Predicted cells ``[n, G]``.
    real
        Measured perturbed cells ``[m, G]``.
    control
        Control cells ``[k, G]``.

    Returns
    -------
    Correlation in [-1, 1]. It is NaN if one of the shifts is the same for all genes: a prediction of no effect has no
    direction, so no correlation is defined.

    Raises
    ------
    ValueError
        If the columns differ in number or a value is not finite.

    Examples
    --------
    >>> control = np.zeros((2, 3))
    >>> shift_pearson(np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 2.0, 4.0]]), control)
    1.0
    """
    a, b = mean_shift(predicted, control), mean_shift(real, control)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def _mean(cells: Any) -> np.ndarray:
    """Mean over cells, added up in float64 also where the cells are float32."""
    if sp.issparse(cells):
        return np.ones(cells.shape[0]) @ cells / cells.shape[0]
    return cells.mean(axis=0, dtype=np.float64)
