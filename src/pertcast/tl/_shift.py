"""Shifts of the mean, and how well their directions agree.

The reference decides what a shift measures. Against control cells it contains what all perturbations of a screen have
in common, so the mean of all perturbed cells, the same for every perturbation, already scores high. Against the
centroid of the perturbed training cells it contains only what is specific to a perturbation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

from pertcast.tl._matrix import as_cells, column_means, require_same_columns
from pertcast.tl._undefined import UndefinedMetric, nan_if_undefined

if TYPE_CHECKING:
    from pertcast.tl._matrix import Cells

__all__ = ["mean_shift", "shift_cosine", "shift_pearson", "shift_spearman", "subtract_reference", "top_genes"]

_ROUNDING = 1e-6


def mean_shift(x: Cells, reference: Cells) -> np.ndarray:
    """Mean of a population minus the mean of a reference population.

    Parameters
    ----------
    x
        Cells ``[n, G]``, dense or sparse.
    reference
        Cells ``[m, G]``, dense or sparse, usually the controls.

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
    cells, others = as_cells(x, "x"), as_cells(reference, "reference")
    require_same_columns(cells, others, "`x` and `reference`")
    return column_means(cells) - column_means(others)


@nan_if_undefined
def shift_pearson(predicted: Cells, real: Cells, reference: Cells, *, n_top: int | None = None) -> float:
    """Pearson correlation, over genes, of the predicted and the measured shift of the mean.

    With control cells as the reference this is the "Pearson delta" of GEARS (Roohani et al., Nat. Biotechnol. 42:927,
    2024) and cell-eval (Adduri et al., bioRxiv 2025.06.26.661135). With the centroid of the perturbed training cells it
    is the score that Systema recommends (Viñas Torné et al., Nat. Biotechnol., 2025).

    Parameters
    ----------
    predicted
        Predicted cells ``[n, G]``, or their mean ``[1, G]``.
    real
        Measured perturbed cells ``[m, G]``, or their mean ``[1, G]``.
    reference
        Control cells ``[k, G]``, or the centroid of the perturbed training cells ``[1, G]``.
    n_top
        Use only this number of genes, or all if there are fewer: those with the largest absolute measured shift, of
        equal ones those that come first. All genes by default.

    Returns
    -------
    Correlation in [-1, 1]. It is NaN if one of the shifts is the same for all genes: a prediction of no effect has no
    direction, so no correlation is defined. A shift below one millionth of the means that are compared is rounding
    and counts as 0.

    Raises
    ------
    ValueError
        If the columns differ in number, a value is not finite, or ``n_top`` is below 1.

    Notes
    -----
    Only means are compared, so a point predictor may be scored. Few measured cells pull the correlation towards 0, as
    their mean is noisy; few cells of the reference pull it upwards, as their noise is part of both shifts.

    Examples
    --------
    >>> control = np.zeros((2, 3))
    >>> shift_pearson(np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 2.0, 4.0]]), control)
    1.0
    """
    a, b = _shifts(predicted, real, reference)
    genes = top_genes(b, n_top)
    return _correlation(a[genes], b[genes])


@nan_if_undefined
def shift_spearman(predicted: Cells, real: Cells, reference: Cells) -> float:
    """Spearman correlation, over genes, of the predicted and the measured shift of the mean.

    The Pearson correlation of the ranks of the shifts; a few genes with large shifts do not decide it. Genes with equal
    shifts, such as silent genes, share their mean rank. Used for predicted effects by Szałata et al. (NeurIPS Datasets
    and Benchmarks, 2024).

    Parameters
    ----------
    predicted
        Predicted cells ``[n, G]``, or their mean ``[1, G]``.
    real
        Measured perturbed cells ``[m, G]``, or their mean ``[1, G]``.
    reference
        Control cells ``[k, G]``, or the centroid of the perturbed training cells ``[1, G]``.

    Returns
    -------
    Correlation in [-1, 1]; NaN if one of the shifts is the same for all genes, as in :func:`shift_pearson`.

    Raises
    ------
    ValueError
        If the columns differ in number or a value is not finite.

    Notes
    -----
    A point predictor may be scored. The many genes with hardly any shift weigh as much as the others, so the
    correlation depends on the numbers of cells more than that of Pearson does.

    Examples
    --------
    >>> control = np.zeros((2, 3))
    >>> shift_spearman(np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 2.0, 400.0]]), control)
    1.0
    """
    a, b = _shifts(predicted, real, reference)
    return _correlation(rankdata(a), rankdata(b))


@nan_if_undefined
def shift_cosine(predicted: Cells, real: Cells, reference: Cells) -> float:
    """Cosine of the angle between the predicted and the measured shift of the mean.

    Unlike the Pearson correlation, it sees a shift that all genes share. Used by PerturBench (Wu et al.,
    arXiv 2408.10609).

    Parameters
    ----------
    predicted
        Predicted cells ``[n, G]``, or their mean ``[1, G]``.
    real
        Measured perturbed cells ``[m, G]``, or their mean ``[1, G]``.
    reference
        Control cells ``[k, G]``, or the centroid of the perturbed training cells ``[1, G]``.

    Returns
    -------
    Cosine in [-1, 1]; NaN if one of the shifts is 0 for all genes. A shift below one millionth of the means that are
    compared is rounding and counts as 0.

    Raises
    ------
    ValueError
        If the columns differ in number or a value is not finite.

    Notes
    -----
    A point predictor may be scored. Few measured cells pull the cosine towards 0.

    Examples
    --------
    >>> shift_cosine(np.array([[1.0, 1.0]]), np.array([[2.0, 2.0]]), np.zeros((3, 2)))
    1.0
    """
    a, b = _shifts(predicted, real, reference)
    for shift, name in ((a, "predicted"), (b, "measured")):
        if not shift.any():
            raise UndefinedMetric(f"The {name} shift is 0 for all genes, so it has no direction.")
    return _cosine(a, b)


def subtract_reference(means: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Means minus a reference, where a difference that is rounding is exactly 0.

    Parameters
    ----------
    means
        Means ``[..., G]``.
    reference
        Mean of the reference ``[G]``.

    Returns
    -------
    float64 ``[..., G]``. A difference of at most one millionth of the larger of the two values becomes 0: means of the
    same cells differ by rounding when they are added up in another order or kept as float32, and the direction of such
    differences is arbitrary.
    """
    scale = np.maximum(np.abs(means), np.abs(reference))
    shift = np.asarray(means - reference, dtype=np.float64)
    return np.where(np.abs(shift) <= _ROUNDING * scale, 0.0, shift)


def top_genes(shift: np.ndarray, n_top: int | None) -> np.ndarray | slice:
    """Genes with the largest absolute shifts.

    Parameters
    ----------
    shift
        Measured shift ``[G]``.
    n_top
        Number of genes, or None for all.

    Returns
    -------
    What selects the genes: their numbers by decreasing absolute shift, of equal ones the first gene first, or a slice
    of all.

    Raises
    ------
    ValueError
        If ``n_top`` is below 1.
    """
    if n_top is None:
        return slice(None)
    if n_top < 1:
        raise ValueError(f"`n_top` must be at least 1, but found {n_top}. Leave it out to use all genes.")
    return np.argsort(-np.abs(shift), kind="stable")[:n_top]


def _shifts(predicted: Cells, real: Cells, reference: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and measured shift, ``[G]`` each, without rounding."""
    a, b, c = as_cells(predicted, "predicted"), as_cells(real, "real"), as_cells(reference, "reference")
    require_same_columns(a, b, "`predicted` and `real`")
    require_same_columns(b, c, "`real` and `reference`")
    origin = column_means(c)
    return subtract_reference(column_means(a), origin), subtract_reference(column_means(b), origin)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    for shift, name in ((a, "predicted"), (b, "measured")):
        if np.ptp(shift) <= _ROUNDING * np.abs(shift).max():
            raise UndefinedMetric(f"The {name} shift is the same for all {len(shift)} genes, so it has no direction.")
    return _cosine(a - a.mean(), b - b.mean())


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))
