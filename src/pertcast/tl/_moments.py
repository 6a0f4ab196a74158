"""How well the spread of genes, and how genes go together, are predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from pertcast.tl._matrix import as_cells, require_same_columns
from pertcast.tl._quantiles import column_blocks

if TYPE_CHECKING:
    from pertcast.tl._matrix import Cells

__all__ = ["correlation_agreement", "variance_agreement", "variance_ratio"]


def variance_agreement(predicted: Cells, real: Cells) -> float:
    """Pearson correlation, over genes, of predicted and measured standard deviations.

    Parameters
    ----------
    predicted
        Predicted cells ``[n, G]``, dense or sparse.
    real
        Measured cells ``[m, G]``, dense or sparse.

    Returns
    -------
    Correlation in [-1, 1]. It is NaN if the standard deviations of one side are the same for all genes, as the zeros
    of a point prediction (one cell repeated) are.

    Raises
    ------
    ValueError
        If the columns differ in number, a value is not finite, or there is a single cell.

    Notes
    -----
    It does not see a spread that is too small by the same factor for all genes: :func:`variance_ratio` does. Standard
    deviations divide by n - 1; noise in those of few cells pulls the correlation towards 0. In data where the
    standard deviation follows the mean, good means are enough for a high value.

    Examples
    --------
    >>> variance_agreement(np.array([[0.0, 0.0, 1.0], [2.0, 4.0, 1.0]]), np.array([[0.0, 0.0, 1.0], [1.0, 2.0, 1.0]]))
    1.0
    """
    return _pearson(*_both_deviations(predicted, real))


def variance_ratio(predicted: Cells, real: Cells) -> float:
    """Median, over genes, of the predicted divided by the measured standard deviation.

    Parameters
    ----------
    predicted
        Predicted cells ``[n, G]``, dense or sparse.
    real
        Measured cells ``[m, G]``, dense or sparse.

    Returns
    -------
    Ratio of at least 0 without a unit; 1 is best. Genes that do not vary in the measured cells are left out; it is NaN
    if none varies.

    Raises
    ------
    ValueError
        If the columns differ in number, a value is not finite, or there is a single cell.

    Notes
    -----
    Standard deviations divide by n - 1, so numbers of cells matter little. A point prediction (one cell repeated) has
    a ratio of 0: here it may be scored.

    Examples
    --------
    >>> variance_ratio(np.array([[0.0, 0.0, 1.0], [1.0, 2.0, 1.0]]), np.array([[0.0, 0.0, 1.0], [2.0, 4.0, 1.0]]))
    0.5
    """
    a, b = _both_deviations(predicted, real)
    varies = b > 0
    return float(np.median(a[varies] / b[varies])) if varies.any() else float("nan")


def correlation_agreement(predicted: Cells, real: Cells, *, n_genes: int = 100) -> float:
    """Pearson correlation, over pairs of genes, of predicted and measured correlations between genes.

    Parameters
    ----------
    predicted
        Predicted cells ``[n, G]``, dense or sparse.
    real
        Measured cells ``[m, G]``, dense or sparse.
    n_genes
        The pairs are those of so many genes of the largest standard deviation in the measured cells, or of all genes
        that vary there if these are fewer.

    Returns
    -------
    Correlation in [-1, 1]. It is NaN if fewer than three genes vary in the measured cells, or if all correlations of
    one side are equal, as the zeros of a point prediction (one cell repeated) are.

    Raises
    ------
    ValueError
        If the columns differ in number, a value is not finite, there is a single cell, or ``n_genes`` is below 3.

    Notes
    -----
    A gene that does not vary in the predicted cells has the correlation 0 with every other. The correlation of two
    genes in n cells has an error of about 1/sqrt(n), which pulls the agreement towards 0: compare values for equal
    numbers of cells only, beside that of two halves of ``real``.

    Examples
    --------
    >>> cells = np.array([[0.0, 0.0, 3.0], [1.0, 2.0, 1.0], [3.0, 1.0, 2.0]])
    >>> round(correlation_agreement(2 * cells, cells), 6)
    1.0
    """
    if n_genes < 3:
        raise ValueError(f"`n_genes` must be at least 3, for correlations of several pairs, but found {n_genes}.")
    a, b = _both(predicted, real)
    spread = _deviations(b)
    genes = np.argsort(-spread, kind="stable")[: min(n_genes, np.count_nonzero(spread))]
    if len(genes) < 3:
        return float("nan")
    pairs = np.triu_indices(len(genes), 1)
    return _pearson(_correlations(a[:, genes])[pairs], _correlations(b[:, genes])[pairs])


def _both(predicted: Cells, real: Cells) -> tuple[Any, Any]:
    a, b = as_cells(predicted, "predicted"), as_cells(real, "real")
    require_same_columns(a, b, "`predicted` and `real`")
    if min(a.shape[0], b.shape[0]) < 2:
        raise ValueError(
            f"A spread needs at least 2 cells of each population, but found {a.shape[0]} and {b.shape[0]}."
        )
    return a, b


def _both_deviations(predicted: Cells, real: Cells) -> tuple[np.ndarray, np.ndarray]:
    a, b = _both(predicted, real)
    return _deviations(a), _deviations(b)


def _deviations(cells: Any) -> np.ndarray:
    """Standard deviation of each gene ``[G]``, exactly 0 for genes that do not vary."""
    result = np.empty(cells.shape[1])
    for columns, (block,) in column_blocks(cells):
        result[columns] = np.where(np.ptp(block, axis=0) > 0, block.std(axis=0, ddof=1), 0)
    return result


def _correlations(cells: Any) -> np.ndarray:
    """Correlations between genes, 0 for genes that do not vary ``[G, G]``."""
    values = (cells.toarray() if sp.issparse(cells) else cells).astype(np.float64)
    varies = np.ptp(values, axis=0) > 0
    values -= values.mean(axis=0)
    values /= np.where(varies, np.linalg.norm(values, axis=0), np.inf)
    return values.T @ values


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))
