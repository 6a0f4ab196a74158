"""Whether predictions of different perturbations can be told apart.

These metrics compare the predicted mean of every perturbation of one context with the measured means of all of them.
A constant prediction, however good its correlation with each of them, scores no better than chance. They compare means
only, so a point predictor may be scored. Few measured cells blur the measured means and pull every score towards
chance; the more perturbations there are, the closer their means, and the harder the task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp
from scipy.spatial.distance import cdist

from pertcast.tl._matrix import as_cells, column_means, require_same_columns
from pertcast.tl._shift import subtract_reference
from pertcast.tl._undefined import UndefinedMetric, nan_if_undefined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pertcast.tl._matrix import Cells

__all__ = ["centroid_accuracy", "discrimination_score", "rank_of_right", "rank_score"]

type Distance = Literal["l1", "l2", "cosine"]

_SINGLE = "There is a single perturbation in this context, so there is no other one to tell it from."
_SCIPY_NAMES = {"l1": "cityblock", "l2": "euclidean", "cosine": "cosine"}


@nan_if_undefined
def centroid_accuracy(predicted_means: Cells, real_means: Cells) -> np.ndarray:
    """Share of the other perturbations whose measured mean is farther from a prediction than the right one is.

    For perturbation p, the share of the perturbations q other than p with ``dist(predicted_p, real_q) >
    dist(predicted_p, real_p)``, Euclidean; equal distances count one half. Defined by Systema (Viñas Torné et al.,
    Nat. Biotechnol., 2025). There is no reference: it would cancel.

    Parameters
    ----------
    predicted_means
        Predicted mean of each perturbation, ``[P, G]``.
    real_means
        Measured mean of each perturbation in the same order, ``[P, G]``.

    Returns
    -------
    float64 ``[P]`` in [0, 1]: 1 if the right mean is the nearest, 0.5 expected by chance. The average over the
    perturbations is exactly 0.5 if all predictions are equal. NaN if there is a single perturbation.

    Raises
    ------
    ValueError
        If the shapes differ or a value is not finite.

    Examples
    --------
    >>> real = np.array([[0.0], [1.0], [5.0]])
    >>> centroid_accuracy(real + 0.2, real).tolist()
    [1.0, 1.0, 1.0]
    >>> centroid_accuracy(np.full((3, 1), 0.4), real).tolist()
    [1.0, 0.5, 0.0]
    """
    predicted, real = _means(predicted_means, real_means)
    return 1 - _mid_rank(cdist(predicted, real)) / (len(real) - 1)


@nan_if_undefined
def discrimination_score(
    predicted_means: Cells,
    real_means: Cells,
    reference: Cells,
    *,
    distance: Distance = "l1",
    target_genes: Sequence[Sequence[int]] | None = None,
) -> np.ndarray:
    """Perturbation discrimination score: rank of the right measured shift among all, seen from the prediction.

    For perturbation p, ``1 - r / P``, where r is the number of measured shifts that are nearer to the predicted shift
    of p than the measured shift of p is; each of the others at the same distance adds one half. Defined by cell-eval
    (Adduri et al., bioRxiv 2025.06.26.661135), which breaks ties by the order of the perturbations; without ties the
    values are the same.

    Parameters
    ----------
    predicted_means
        Predicted mean of each perturbation, ``[P, G]``.
    real_means
        Measured mean of each perturbation in the same order, ``[P, G]``.
    reference
        Control cells ``[k, G]``, or the centroid of the perturbed training cells ``[1, G]``. It only matters for the
        cosine: it cancels in the other distances.
    distance
        Distance of shifts: sum of absolute differences, Euclidean, or 1 minus the cosine. The cosine distance of a
        shift of 0, which has no direction, is 1 to everything, so a prediction of no effect scores as chance does.
    target_genes
        For each perturbation, the columns of the genes that it targets, empty if there are none: they are left out
        where its prediction is ranked, because the knocked-down gene alone would give it away. All genes are used
        by default.

    Returns
    -------
    float64 ``[P]`` in [1/P, 1]: 1 if the right shift is the nearest, (P + 1) / 2P expected by chance. That is exactly
    the average over the perturbations if all predictions are equal. NaN if there is a single perturbation.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, the distance is not known, or a target gene is not a column.

    Examples
    --------
    >>> real = np.array([[0.0, 1.0], [2.0, 0.0], [5.0, 5.0], [20.0, 20.0]])
    >>> discrimination_score(real[[0, 2, 1, 3]], real, np.zeros((1, 2))).tolist()
    [1.0, 0.75, 0.5, 1.0]
    """
    predicted, real = _shifts(predicted_means, real_means, reference)
    if target_genes is None:
        return 1 - _mid_rank(_distances(predicted, real, distance)) / len(real)
    targets = _checked(target_genes, real.shape)
    distances = np.empty((len(real), len(real)))
    for row, genes in enumerate(targets):
        kept = real[:, genes].copy()
        predicted[row, genes] = real[:, genes] = 0  # adds nothing to any of the distances
        distances[row] = _distances(predicted[row : row + 1], real, distance)
        real[:, genes] = kept
    return 1 - _mid_rank(distances) / len(real)


@nan_if_undefined
def rank_score(predicted_means: Cells, real_means: Cells, reference: Cells, *, distance: Distance = "l2") -> np.ndarray:
    """Rank of the right prediction among all, seen from the measured shift.

    For perturbation p, ``r / (P - 1)``, where r is the number of predicted shifts that are nearer to the measured shift
    of p than the prediction of p is; each of the others at the same distance adds one half. Defined by PerturBench (Wu
    et al., arXiv 2408.10609). :func:`discrimination_score` ranks measured shifts for one prediction instead; this score
    ranks predictions for one measured shift.

    Parameters
    ----------
    predicted_means
        Predicted mean of each perturbation, ``[P, G]``.
    real_means
        Measured mean of each perturbation in the same order, ``[P, G]``.
    reference
        Control cells ``[k, G]``, or the centroid of the perturbed training cells ``[1, G]``.
    distance
        Distance of shifts, as in :func:`discrimination_score`. The Euclidean one ranks as the root mean squared error
        does.

    Returns
    -------
    float64 ``[P]`` in [0, 1]: 0 if the right prediction is the nearest, 0.5 expected by chance. It is exactly 0.5 for
    every perturbation if all predictions are equal. NaN if there is a single perturbation.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, or the distance is not known.

    Examples
    --------
    >>> real = np.array([[0.0], [1.0], [5.0]])
    >>> rank_score(real[[0, 2, 1]], real, np.zeros((1, 1))).tolist()
    [0.0, 1.0, 0.5]
    """
    predicted, real = _shifts(predicted_means, real_means, reference)
    return _mid_rank(_distances(predicted, real, distance).T) / (len(real) - 1)


def _means(predicted_means: Cells, real_means: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 ``[P, G]``."""
    predicted, real = (_dense(predicted_means, "predicted_means"), _dense(real_means, "real_means"))
    require_same_columns(predicted, real, "`predicted_means` and `real_means`")
    if len(predicted) != len(real):
        raise ValueError(
            "`predicted_means` and `real_means` must hold the same perturbations in the same order, but they have "
            f"{len(predicted)} and {len(real)} rows."
        )
    if len(real) == 1:
        raise UndefinedMetric(_SINGLE, np.full(1, np.nan))
    return predicted, real


def _dense(means: Any, name: str) -> np.ndarray:
    checked: Any = as_cells(means, name)
    return np.asarray(checked.toarray() if sp.issparse(checked) else checked, dtype=np.float64)


def _shifts(predicted_means: Cells, real_means: Cells, reference: Cells) -> tuple[np.ndarray, np.ndarray]:
    predicted, real = _means(predicted_means, real_means)
    others = as_cells(reference, "reference")
    require_same_columns(real, others, "`real_means` and `reference`")
    origin = column_means(others)
    return subtract_reference(predicted, origin), subtract_reference(real, origin)


def _distances(x: np.ndarray, y: np.ndarray, distance: Distance) -> np.ndarray:
    if distance not in _SCIPY_NAMES:
        raise ValueError(f"`distance` must be one of {', '.join(_SCIPY_NAMES)}, but found {distance!r}.")
    found = cdist(x, y, _SCIPY_NAMES[distance])
    if distance == "cosine":
        found[~x.any(axis=1)] = 1
        found[:, ~y.any(axis=1)] = 1
    return found


def rank_of_right(predicted: np.ndarray, real_means: np.ndarray, position: int, distance: Distance) -> float:
    """Rank of the right measured mean among all, seen from one prediction.

    Parameters
    ----------
    predicted
        Predicted mean ``[G]``.
    real_means
        Measured means ``[P, G]``, at least two.
    position
        Which of them is the right one.
    distance
        Distance of means, as in :func:`discrimination_score`.

    Returns
    -------
    Number of measured means that are nearer than the right one, plus half the number of others at the same distance.

    Raises
    ------
    UndefinedMetric
        If there is a single measured mean.
    """
    if len(real_means) == 1:
        raise UndefinedMetric(_SINGLE)
    distances = _distances(predicted[None], real_means, distance)
    return float(_mid_rank(distances, distances[:, position])[0])


def _mid_rank(distances: np.ndarray, right: np.ndarray | None = None) -> np.ndarray:
    """For each row, the number of entries below that of the right one, plus half the number of others equal to it.

    The right ones are on the diagonal unless they are given.
    """
    right = (np.diagonal(distances) if right is None else right)[:, None]
    return (distances < right).sum(axis=1) + ((distances == right).sum(axis=1) - 1) / 2


def _checked(target_genes: Sequence[Sequence[int]], shape: tuple[int, int]) -> list[np.ndarray]:
    """Target genes of each perturbation as arrays of columns."""
    n_perturbations, n_genes = shape
    if len(target_genes) != n_perturbations:
        raise ValueError(
            f"`target_genes` must hold one list of columns for each of the {n_perturbations} perturbations, but it has "
            f"{len(target_genes)}."
        )
    targets = [np.asarray(genes, dtype=np.intp) for genes in target_genes]
    for row, genes in enumerate(targets):
        if genes.ndim != 1 or (genes < 0).any() or (genes >= n_genes).any():
            raise ValueError(
                f"`target_genes[{row}]` must be a list of columns from 0 to {n_genes - 1}, but found "
                f"{target_genes[row]!r}."
            )
    return targets
