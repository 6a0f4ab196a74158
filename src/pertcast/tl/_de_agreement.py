"""How well predicted and measured differential expression agree.

Each function compares the result of the predicted cells with that of the measured cells, both against the same
controls (:func:`~pertcast.tl.rank_genes`). All depend on which genes are significant, and so on the numbers of cells:
predict as many cells as were measured. A point predictor has no sampling variance, so its p values mean nothing; do not
score it with these functions. Where no measured gene is significant, most of them are undefined and return NaN, because
both 0 and 1 would be made up.

Definitions follow cell-eval (Adduri et al., bioRxiv 2025.06.26.661135) except where said otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from pertcast.tl._undefined import UndefinedMetric, nan_if_undefined

if TYPE_CHECKING:
    from pertcast.tl._differential import DEResult

__all__ = [
    "de_average_precision",
    "de_calibration",
    "de_direction",
    "de_effect_spearman",
    "de_n_significant",
    "de_overlap",
    "de_precision",
    "de_recall",
]


@nan_if_undefined
def de_overlap(predicted: DEResult, real: DEResult, k: int | None = None, *, fdr: float = 0.05) -> float:
    """Share of the strongest measured genes that are among as many of the strongest predicted genes.

    The significant genes of each result are ordered by absolute effect; of equal effects, the gene with the smaller p
    value comes first, then the one that comes first in the data. K is ``k``, or the number of significant measured
    genes if that is smaller; the result is the number of genes that are among the first K of both, divided by K.

    Parameters
    ----------
    predicted
        Differential expression of the predicted cells.
    real
        Differential expression of the measured cells, same genes.
    k
        Number of genes to compare; all significant measured genes by default ("overlap at N").
    fdr
        Adjusted p value below which a gene is significant.

    Returns
    -------
    Share in [0, 1]; 0 if no predicted gene is significant, NaN if no measured gene is.

    Raises
    ------
    ValueError
        If the results have different numbers of genes or ``k`` is below 1.

    Examples
    --------
    >>> from pertcast.tl import DEResult
    >>> real = DEResult([0.01, 0.01, 0.9], [0.015, 0.015, 0.9], [2.0, -1.0, 0.1])
    >>> predicted = DEResult([0.01, 0.5, 0.01], [0.015, 0.5, 0.015], [2.0, -0.5, 1.0])
    >>> de_overlap(predicted, real)
    0.5
    """
    n_real = _significant_real(predicted, real, fdr).sum()
    return _common_share(predicted, real, n_real if k is None else min(_at_least_1(k), n_real), fdr)


@nan_if_undefined
def de_precision(predicted: DEResult, real: DEResult, k: int | None = None, *, fdr: float = 0.05) -> float:
    """Share of the strongest predicted genes that are among as many of the strongest measured genes.

    As :func:`de_overlap`, but K is limited by the number of significant predicted genes instead.

    Parameters
    ----------
    predicted
        Differential expression of the predicted cells.
    real
        Differential expression of the measured cells, same genes.
    k
        Number of genes to compare; all significant predicted genes by default.
    fdr
        Adjusted p value below which a gene is significant.

    Returns
    -------
    Share in [0, 1]; NaN if no measured or no predicted gene is significant.

    Raises
    ------
    ValueError
        If the results have different numbers of genes or ``k`` is below 1.

    Examples
    --------
    >>> from pertcast.tl import DEResult
    >>> real = DEResult([0.01, 0.01, 0.9], [0.015, 0.015, 0.9], [2.0, -1.0, 0.1])
    >>> predicted = DEResult([0.01, 0.5, 0.01], [0.015, 0.5, 0.015], [2.0, -0.5, 1.0])
    >>> de_precision(predicted, real)
    0.5
    """
    _significant_real(predicted, real, fdr)
    n_predicted = predicted.significant(fdr).sum()
    if n_predicted == 0:
        raise UndefinedMetric(f"No predicted gene is significant at a false discovery rate of {fdr}.")
    return _common_share(predicted, real, n_predicted if k is None else min(_at_least_1(k), n_predicted), fdr)


@nan_if_undefined
def de_recall(predicted: DEResult, real: DEResult, *, fdr: float = 0.05) -> float:
    """Share of the significant measured genes that are significant in the prediction, in either direction.

    Parameters
    ----------
    predicted
        Differential expression of the predicted cells.
    real
        Differential expression of the measured cells, same genes.
    fdr
        Adjusted p value below which a gene is significant.

    Returns
    -------
    Share in [0, 1]; NaN if no measured gene is significant. It is 1 if all predicted genes are significant, so read it
    beside :func:`de_precision` or :func:`de_calibration`.

    Raises
    ------
    ValueError
        If the results have different numbers of genes.

    Examples
    --------
    >>> from pertcast.tl import DEResult
    >>> real = DEResult([0.01, 0.01, 0.9], [0.015, 0.015, 0.9], [2.0, -1.0, 0.1])
    >>> predicted = DEResult([0.01, 0.5, 0.01], [0.015, 0.5, 0.015], [2.0, -0.5, 1.0])
    >>> de_recall(predicted, real)
    0.5
    """
    truth = _significant_real(predicted, real, fdr)
    return float(predicted.significant(fdr)[truth].mean())


@nan_if_undefined
def de_direction(predicted: DEResult, real: DEResult, *, fdr: float = 0.05) -> float:
    """Share of the significant measured genes whose predicted effect has the same sign.

    The predicted gene need not be significant. An effect of exactly 0 agrees only with one of exactly 0.

    Parameters
    ----------
    predicted
        Differential expression of the predicted cells.
    real
        Differential expression of the measured cells, same genes.
    fdr
        Adjusted p value below which a gene is significant.

    Returns
    -------
    Share in [0, 1], 0.5 expected by chance; NaN if no measured gene is significant.

    Raises
    ------
    ValueError
        If the results have different numbers of genes.

    Examples
    --------
    >>> from pertcast.tl import DEResult
    >>> real = DEResult([0.01, 0.01, 0.9], [0.015, 0.015, 0.9], [2.0, -1.0, 0.1])
    >>> predicted = DEResult([0.01, 0.5, 0.01], [0.015, 0.5, 0.015], [2.0, -0.5, 1.0])
    >>> de_direction(predicted, real)
    1.0
    """
    truth = _significant_real(predicted, real, fdr)
    return float((np.sign(predicted.effect) == np.sign(real.effect))[truth].mean())


@nan_if_undefined
def de_effect_spearman(predicted: DEResult, real: DEResult, *, fdr: float = 0.05) -> float:
    """Spearman correlation of the predicted and the measured effects over the significant measured genes.

    Equal effects share their mean rank.

    Parameters
    ----------
    predicted
        Differential expression of the predicted cells.
    real
        Differential expression of the measured cells, same genes.
    fdr
        Adjusted p value below which a gene is significant.

    Returns
    -------
    Correlation in [-1, 1]; NaN if fewer than 2 measured genes are significant, or the predicted or the measured
    effects of those are all equal.

    Raises
    ------
    ValueError
        If the results have different numbers of genes.

    Examples
    --------
    >>> from pertcast.tl import DEResult
    >>> real = DEResult([0.01, 0.01, 0.01, 0.9], [0.015, 0.015, 0.015, 0.9], [2.0, -1.0, 0.5, 0.1])
    >>> predicted = DEResult([0.01, 0.5, 0.2, 0.9], [0.04, 0.5, 0.4, 0.9], [1.0, -0.5, -0.9, 0.3])
    >>> round(de_effect_spearman(predicted, real), 2)
    0.5
    """
    truth = _significant_real(predicted, real, fdr)
    if truth.sum() < 2:
        raise UndefinedMetric(f"A single measured gene is significant at a false discovery rate of {fdr}.")
    a, b = predicted.effect[truth], real.effect[truth]
    for effects, name in ((a, "predicted"), (b, "measured")):
        if (effects == effects[0]).all():
            raise UndefinedMetric(f"The {name} effects of the {len(effects)} significant measured genes are all equal.")
    return float(spearmanr(a, b).statistic)


@nan_if_undefined
def de_average_precision(predicted: DEResult, real: DEResult, *, fdr: float = 0.05) -> float:
    """Average precision of finding the significant measured genes by the predicted p value.

    Genes are taken in the order of the predicted p value, smallest first (that of -log10 p, largest first), those with
    equal p values together: the area, in steps, under the curve of precision against recall.

    Parameters
    ----------
    predicted
        Differential expression of the predicted cells. Its own significance does not matter.
    real
        Differential expression of the measured cells, same genes.
    fdr
        Adjusted p value below which a measured gene is significant.

    Returns
    -------
    Value in (0, 1]; about the share of significant measured genes by chance, and exactly that if all predicted p values
    are equal. NaN if none or all of the measured genes are significant.

    Raises
    ------
    ValueError
        If the results have different numbers of genes.

    Notes
    -----
    cell-eval ranks by adjusted p values that it cuts at 1e-10, which ties the strongest genes; its values differ.

    Examples
    --------
    >>> from pertcast.tl import DEResult
    >>> real = DEResult([0.01, 0.01, 0.9], [0.015, 0.015, 0.9], [2.0, -1.0, 0.1])
    >>> predicted = DEResult([0.01, 0.5, 0.02], [0.03, 0.5, 0.03], [2.0, -0.5, 1.0])
    >>> round(de_average_precision(predicted, real), 2)  # genes 0 and 1 are found first and third: (1 / 1 + 2 / 3) / 2
    0.83
    """
    truth = _significant_real(predicted, real, fdr)
    if truth.all():
        raise UndefinedMetric(f"All {len(truth)} measured genes are significant, so there is none to tell them from.")
    return float(average_precision_score(truth, -predicted.p_value))


def de_calibration(predicted: DEResult, real: DEResult, *, fdr: float = 0.05) -> float:
    """Log10 of the ratio of the numbers of predicted and measured significant genes, each plus 1.

    It asks whether the p values of the prediction are as large as they should be: a model whose cells vary too little
    from one to the next, or that invents responses, has too many significant genes. It is defined for a perturbation
    without any effect too, where it matters most. This is our own definition; published comparisons show both numbers.

    Parameters
    ----------
    predicted
        Differential expression of the predicted cells.
    real
        Differential expression of the measured cells, same genes.
    fdr
        Adjusted p value below which a gene is significant.

    Returns
    -------
    0 if the numbers are equal, 1 if there are ten times too many significant predicted genes, -1 if ten times too few.

    Raises
    ------
    ValueError
        If the results have different numbers of genes.

    Examples
    --------
    >>> from pertcast.tl import DEResult
    >>> real = DEResult([0.01, 0.01, 0.9], [0.015, 0.015, 0.9], [2.0, -1.0, 0.1])
    >>> predicted = DEResult([0.01, 0.5, 0.2], [0.03, 0.5, 0.3], [2.0, -0.5, 1.0])
    >>> round(de_calibration(predicted, real), 2)  # 1 + 1 genes over 2 + 1
    -0.18
    """
    _require_same_genes(predicted, real)
    return float(np.log10((de_n_significant(predicted, fdr=fdr) + 1) / (de_n_significant(real, fdr=fdr) + 1)))


def de_n_significant(result: DEResult, *, fdr: float = 0.05) -> int:
    """Number of significant genes.

    Parameters
    ----------
    result
        Differential expression of predicted or measured cells.
    fdr
        Adjusted p value below which a gene is significant.

    Returns
    -------
    Number from 0 to G.

    Examples
    --------
    >>> from pertcast.tl import DEResult
    >>> real = DEResult([0.01, 0.01, 0.9], [0.015, 0.015, 0.9], [2.0, -1.0, 0.1])
    >>> de_n_significant(real)
    2
    """
    return int(result.significant(fdr).sum())


def _require_same_genes(predicted: DEResult, real: DEResult) -> None:
    if len(predicted.effect) != len(real.effect):
        raise ValueError(
            "`predicted` and `real` must hold the same genes in the same order, but they have "
            f"{len(predicted.effect)} and {len(real.effect)}."
        )


def _significant_real(predicted: DEResult, real: DEResult, fdr: float) -> np.ndarray:
    """Which measured genes are significant, ``[G]``; at least one is."""
    _require_same_genes(predicted, real)
    truth = real.significant(fdr)
    if not truth.any():
        raise UndefinedMetric(f"No measured gene is significant at a false discovery rate of {fdr}.")
    return truth


def _at_least_1(k: int) -> int:
    if k < 1:
        raise ValueError(f"`k` must be at least 1, but found {k}. Leave it out to compare all significant genes.")
    return k


def _common_share(predicted: DEResult, real: DEResult, k: int, fdr: float) -> float:
    """Share of k genes that the k strongest significant genes of both have in common."""
    return float(len(np.intersect1d(_strongest(predicted, k, fdr), _strongest(real, k, fdr))) / k)


def _strongest(result: DEResult, k: int, fdr: float) -> np.ndarray:
    genes = np.flatnonzero(result.significant(fdr))
    return genes[np.lexsort((result.p_value[genes], -np.abs(result.effect[genes])))[:k]]
