"""Errors of the predicted mean expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pertcast.tl._matrix import as_cells, column_means, require_same_columns
from pertcast.tl._shift import mean_shift, top_genes

if TYPE_CHECKING:
    from pertcast.tl._matrix import Cells

__all__ = ["mean_absolute_error", "mean_squared_error"]


def mean_squared_error(
    predicted: Cells, real: Cells, reference: Cells | None = None, *, n_top: int | None = None
) -> float:
    """Mean, over genes, of the squared difference of the predicted and the measured mean expression.

    The metric "mse" of cell-eval (Adduri et al., bioRxiv 2025.06.26.661135). Where the reference is the same for both,
    it is also the squared error of the shifts.

    Parameters
    ----------
    predicted
        Predicted cells ``[n, G]``, or their mean ``[1, G]``.
    real
        Measured perturbed cells ``[m, G]``, or their mean ``[1, G]``.
    reference
        Control cells ``[k, G]``. Only needed for ``n_top``; the error itself has no reference.
    n_top
        Use only this number of genes, or all if there are fewer: those with the largest absolute measured shift, of
        equal ones those that come first. All genes by default.

    Returns
    -------
    Error of at least 0, in squared units of the expression.

    Raises
    ------
    ValueError
        If the columns differ in number, a value is not finite, ``n_top`` is below 1, or it is given without
        ``reference``.

    Notes
    -----
    A point predictor may be scored. The noise of both means adds var/n + var/m to the expectation of every gene, so
    a mean of very many cells, such as that of all perturbed cells, gains over a sample of the true distribution.

    Examples
    --------
    >>> mean_squared_error(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0], [1.0, 1.0]]))
    2.0
    """
    return float(np.mean(_errors(predicted, real, reference, n_top) ** 2))


def mean_absolute_error(
    predicted: Cells, real: Cells, reference: Cells | None = None, *, n_top: int | None = None
) -> float:
    """Mean, over genes, of the absolute difference of the predicted and the measured mean expression.

    The metric "mae" of cell-eval (Adduri et al., bioRxiv 2025.06.26.661135).

    Parameters
    ----------
    predicted
        Predicted cells ``[n, G]``, or their mean ``[1, G]``.
    real
        Measured perturbed cells ``[m, G]``, or their mean ``[1, G]``.
    reference
        Control cells ``[k, G]``. Only needed for ``n_top``; the error itself has no reference.
    n_top
        Use only this number of genes, as in :func:`mean_squared_error`.

    Returns
    -------
    Error of at least 0, in the units of the expression.

    Raises
    ------
    ValueError
        As :func:`mean_squared_error`.

    Notes
    -----
    A point predictor may be scored. As with the squared error, the noise of means of few cells adds to it.

    Examples
    --------
    >>> mean_absolute_error(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0], [1.0, 1.0]]))
    1.0
    """
    return float(np.mean(np.abs(_errors(predicted, real, reference, n_top))))


def _errors(predicted: Cells, real: Cells, reference: Cells | None, n_top: int | None) -> np.ndarray:
    a, b = as_cells(predicted, "predicted"), as_cells(real, "real")
    require_same_columns(a, b, "`predicted` and `real`")
    errors = column_means(a) - column_means(b)
    if n_top is None:
        return errors
    if reference is None:
        raise ValueError(
            "`n_top` needs `reference`: the controls, against which the genes with a large shift are found."
        )
    return errors[top_genes(mean_shift(b, reference), n_top)]
