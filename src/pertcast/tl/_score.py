"""Scoring all sources on one condition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pertcast.data._grammar import parse_perturbation
from pertcast.tl._pair import MeasuredPopulation, Pair
from pertcast.tl._undefined import UndefinedMetric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pertcast.tl._labelled import Condition
    from pertcast.tl._metric import Metric
    from pertcast.tl._sources import PredictedPopulation, Source
    from pertcast.tl._truth import Truth

__all__ = ["CEILING", "score_condition"]

CEILING = "ceiling"

_POINT = "A point prediction has a mean but no distribution; only its mean is scored."


def score_condition(
    truth: Truth, condition: Condition, sources: Sequence[Source], metrics: Sequence[Metric]
) -> list[dict[str, Any]]:
    """Score every source, and the noise ceiling, on one condition.

    The ceiling is one random half of the measured cells as a prediction of the other half.

    Parameters
    ----------
    truth
        Measured side.
    condition
        What to score.
    sources
        Where predicted cells come from.
    metrics
        What to compute.

    Returns
    -------
    One row for each source and metric.
    """
    rows = truth.real.rows[condition]
    order = truth.rng("halves", condition.name).permutation(rows)
    half = len(rows) // 2
    real = _measured(truth, condition, rows)
    found = []
    for source in sources:
        try:
            predicted = source.predict(truth, condition)
        except UndefinedMetric as undefined:
            scores = [(metric.name, np.nan, str(undefined)) for metric in metrics]
            found += _rows(condition, source.name, source.role, scores, real.n_cells, 0)
            continue
        pair = Pair(predicted.cells, predicted.mean, real, truth.rng("differential", "predicted", condition.name))
        scores = [_score(metric, pair, predicted) for metric in metrics]
        found += _rows(condition, source.name, source.role, scores, real.n_cells, predicted.n_cells)
    return found + _ceiling(truth, condition, order[:half], order[half:], metrics)


def _ceiling(
    truth: Truth, condition: Condition, first: np.ndarray, second: np.ndarray, metrics: Sequence[Metric]
) -> list[dict[str, Any]]:
    """Score one half of the measured cells against the other."""
    if not len(first):
        scores = [(metric.name, np.nan, "A single measured cell has no halves.") for metric in metrics]
    else:
        rng = truth.rng("differential", CEILING, condition.name)
        chosen = truth.sample(first, truth.max_cells, "ceiling", condition.name)
        pair = Pair(truth.real.gather(chosen), truth.real.mean(first), _measured(truth, condition, second), rng)
        scores = [_score(metric, pair, None) for metric in metrics]
    return _rows(condition, CEILING, CEILING, scores, len(second), len(first))


def _measured(truth: Truth, condition: Condition, rows: np.ndarray) -> MeasuredPopulation:
    conditions, means = truth.real_means(condition.context)
    parts = parse_perturbation(condition.perturbation, truth.columns.control)
    targets = truth.var_names.get_indexer(pd.Index(parts, dtype=object))
    chosen = truth.sample(rows, truth.max_cells, "real", condition.name)
    return MeasuredPopulation(
        truth.real.gather(chosen),
        truth.real.mean(rows),
        len(rows),
        control=truth.controls.gather(truth.control_rows(condition)),
        centroid=truth.centroids[condition.context],
        others=means,
        position=conditions.index(condition),
        targets=targets[targets >= 0],
        rng=truth.rng("differential", "real", condition.name),
    )


def _score(metric: Metric, pair: Pair, predicted: PredictedPopulation | None) -> tuple[str, float, str]:
    """Name, value and, where there is none, the reason."""
    if predicted is not None and predicted.is_point and not metric.accepts_points:
        return metric.name, np.nan, _POINT
    try:
        value = metric.function(pair)
    except ValueError as reason:  # an UndefinedMetric, or too few cells for an estimator
        return metric.name, np.nan, str(reason)
    if not np.isfinite(value):
        return metric.name, np.nan, f"The value is {value}."
    return metric.name, float(value), ""


def _rows(
    condition: Condition, model: str, role: str, scores: Sequence[tuple[str, float, str]], n_real: int, n_predicted: int
) -> list[dict[str, Any]]:
    common = {
        "condition": condition.name,
        "perturbation": condition.perturbation,
        "dosage": np.nan if condition.dosage is None else condition.dosage,
        "context": condition.context,
        "model": model,
        "role": role,
    }
    numbers = {"n_real": n_real, "n_predicted": n_predicted}
    return [common | {"metric": name, "value": value} | numbers | {"reason": why} for name, value, why in scores]
