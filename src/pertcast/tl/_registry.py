"""The metrics that the evaluator computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd

from pertcast.data._messages import did_you_mean
from pertcast.tl._de_agreement import (
    de_average_precision,
    de_calibration,
    de_direction,
    de_effect_spearman,
    de_overlap,
    de_precision,
    de_recall,
)
from pertcast.tl._energy import energy_from_distances
from pertcast.tl._mean_error import mean_absolute_error, mean_squared_error
from pertcast.tl._metric import Metric, MetricGroup
from pertcast.tl._mmd import mmd_from_distances
from pertcast.tl._moments import correlation_agreement, variance_agreement, variance_ratio
from pertcast.tl._ranking import rank_of_right
from pertcast.tl._shift import shift_pearson, shift_spearman
from pertcast.tl._sinkhorn import sinkhorn_from_distances
from pertcast.tl._wasserstein import gene_wasserstein, sliced_wasserstein

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pertcast.tl._pair import Pair

__all__ = ["METRICS", "metrics", "select_metrics"]

_DE = "Mann-Whitney against shared controls, equal cell numbers, Benjamini-Hochberg 0.05: "


def metrics() -> pd.DataFrame:
    """List the metrics of the evaluator.

    Returns
    -------
    One row for each metric: ``group``, ``better`` (higher, lower, one, zero: what values are best, or are best close
    to), ``points`` (whether a point prediction is scored) and ``description`` with reference, kernel, exponent,
    estimator and space.

    Examples
    --------
    >>> metrics().loc["energy_distance", "better"]
    'lower'
    """
    return pd.DataFrame(
        {
            name: {
                "group": metric.group,
                "better": metric.direction,
                "points": metric.accepts_points,
                "description": metric.description,
            }
            for name, metric in METRICS.items()
        }
    ).T.rename_axis("metric")


def select_metrics(names: str | Sequence[str] | None) -> list[Metric]:
    """Metrics by name or group; all of them by default.

    Raises
    ------
    ValueError
        If a name is neither a metric nor a group, or there is none.
    """
    if names is None:
        return list(METRICS.values())
    groups = get_args(MetricGroup)
    wanted: dict[str, Metric] = {}
    for name in [names] if isinstance(names, str) else names:
        if name not in METRICS and name not in groups:
            known = [*METRICS, *groups]
            raise ValueError(
                f"Unknown metric {name!r}.{did_you_mean(name, known)} Metrics: {', '.join(METRICS)}. Groups: "
                f"{', '.join(groups)}."
            )
        wanted |= {key: metric for key, metric in METRICS.items() if name in (key, metric.group)}
    if not wanted:
        raise ValueError("`metrics` is empty. Name at least one metric or group, or leave it out for all.")
    return list(wanted.values())


def _shift(function: Callable[..., float], **options: int) -> Callable[[Pair], float]:
    """Compare shifts against the controls."""
    return lambda pair: function(*pair.means, **options)


def _specific(pair: Pair) -> float:
    predicted, real, _ = pair.means
    return shift_pearson.strict(predicted, real, pair.real.centroid)


def _centroid_accuracy(pair: Pair) -> float:
    rank = rank_of_right(pair.mean, pair.real.others, pair.real.position, "l2")
    return 1 - rank / (len(pair.real.others) - 1)


def _discrimination(pair: Pair) -> float:
    kept = np.setdiff1d(np.arange(len(pair.mean)), pair.real.targets)
    rank = rank_of_right(pair.mean[kept], pair.real.others[:, kept], pair.real.position, "l1")
    return 1 - rank / len(pair.real.others)


def _agreement(function: Callable[..., float]) -> Callable[[Pair], float]:
    return lambda pair: function(*pair.differential)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "shift_pearson",
            "shift",
            _shift(shift_pearson.strict),
            "higher",
            "Pearson correlation over all genes of predicted and measured mean shift against the controls; a constant "
            "prediction already scores high.",
        ),
        Metric(
            "shift_pearson_top20",
            "shift",
            _shift(shift_pearson.strict, n_top=20),
            "higher",
            "The same over the 20 genes with the largest measured shift.",
        ),
        Metric(
            "shift_pearson_specific",
            "shift",
            _specific,
            "higher",
            "Pearson correlation of shifts against the centroid of perturbed training cells of the context (Systema): "
            "a constant scores about 0. In a context without such cells the reference is itself a forecast, controls "
            "plus the mean training shift, and the score is that of what differs from it.",
        ),
        Metric(
            "shift_spearman",
            "shift",
            _shift(shift_spearman.strict),
            "higher",
            "Spearman correlation over all genes of the shifts against the controls.",
        ),
        Metric(
            "mean_squared_error",
            "shift",
            lambda pair: mean_squared_error(*pair.means[:2]),
            "lower",
            "Mean over genes of the squared difference of the means.",
            depends_on_size=True,
        ),
        Metric(
            "mean_absolute_error",
            "shift",
            lambda pair: mean_absolute_error(*pair.means[:2]),
            "lower",
            "Mean over genes of the absolute difference of the means; averaging many cells wins over a fresh sample.",
            depends_on_size=True,
        ),
        Metric(
            "centroid_accuracy",
            "ranking",
            _centroid_accuracy,
            "higher",
            "Share of the other perturbations of the context whose measured mean is farther from the prediction than "
            "the right one (Systema, Euclidean, ties one half); 0.5 by chance.",
        ),
        Metric(
            "discrimination_score",
            "ranking",
            _discrimination,
            "higher",
            "1 - r / P, r the rank of the right measured mean among the P of the context (cell-eval, L1, ties one "
            "half), without the gene that the perturbation is named after; about 0.5 by chance.",
        ),
        Metric(
            "energy_distance",
            "distribution",
            lambda pair: energy_from_distances(pair.distances),
            "lower",
            "2 E|X-Y| - E|X-X'| - E|Y-Y'|, Euclidean and not squared, all genes, U-statistic: about 0 for a fresh "
            "sample whatever the cell numbers.",
        ),
        Metric(
            "mmd",
            "distribution",
            lambda pair: mmd_from_distances(pair.distances),
            "lower",
            "Squared maximum mean discrepancy, Gaussian kernel with the median distance of measured cells as its "
            "width, all genes, U-statistic.",
        ),
        Metric(
            "sinkhorn_divergence",
            "distribution",
            lambda pair: sinkhorn_from_distances(pair.matched_distances),
            "lower",
            "Sinkhorn divergence, Euclidean cost, epsilon half the median distance of measured cells, all genes, "
            "V-statistic at equal cell numbers.",
            depends_on_size=True,
        ),
        Metric(
            "sliced_wasserstein",
            "distribution",
            lambda pair: sliced_wasserstein(*pair.matched_cells),
            "lower",
            "Mean 1-Wasserstein distance along 128 random directions of all genes, V-statistic at equal cell numbers.",
            depends_on_size=True,
        ),
        Metric(
            "gene_wasserstein",
            "distribution",
            lambda pair: gene_wasserstein(*pair.matched_cells),
            "lower",
            "Mean over genes of the 1-Wasserstein distance, V-statistic at equal cell numbers.",
            depends_on_size=True,
        ),
        Metric(
            "variance_agreement",
            "distribution",
            lambda pair: variance_agreement(pair.cells, pair.real.cells),
            "higher",
            "Pearson correlation over genes of the standard deviations.",
        ),
        Metric(
            "variance_ratio",
            "distribution",
            lambda pair: variance_ratio(pair.cells, pair.real.cells),
            "one",
            "Median over genes of predicted over measured standard deviation.",
        ),
        Metric(
            "correlation_agreement",
            "distribution",
            lambda pair: correlation_agreement(*pair.matched_cells),
            "higher",
            "Pearson correlation of the gene-gene correlations of the 100 genes that vary most in measured cells.",
        ),
        Metric(
            "de_overlap",
            "de",
            _agreement(de_overlap.strict),
            "higher",
            _DE + "share of the N strongest measured genes among the N strongest predicted, N the significant ones.",
        ),
        Metric(
            "de_precision",
            "de",
            _agreement(de_precision.strict),
            "higher",
            _DE + "share of the strongest predicted genes among as many of the strongest measured ones.",
        ),
        Metric(
            "de_recall",
            "de",
            _agreement(de_recall.strict),
            "higher",
            _DE + "share of measured significant genes that are significant in the prediction.",
        ),
        Metric(
            "de_direction",
            "de",
            _agreement(de_direction.strict),
            "higher",
            _DE + "share of measured significant genes with the right sign of the effect; 0.5 by chance.",
        ),
        Metric(
            "de_effect_spearman",
            "de",
            _agreement(de_effect_spearman.strict),
            "higher",
            _DE + "Spearman correlation of effects over measured significant genes.",
        ),
        Metric(
            "de_average_precision",
            "de",
            _agreement(de_average_precision.strict),
            "higher",
            _DE + "average precision of predicted p values for measured significance.",
        ),
        Metric(
            "de_calibration",
            "de",
            _agreement(de_calibration),
            "zero",
            _DE + "log10 ratio of the numbers of predicted and measured significant genes, each plus 1.",
        ),
    )
}
"""Metric by name."""
