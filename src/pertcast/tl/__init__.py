"""Evaluation: metrics, evaluation beside baselines and the noise ceiling, benchmarks."""

from __future__ import annotations

from pertcast.tl._benchmark import benchmark
from pertcast.tl._bridges import delta_table, with_controls
from pertcast.tl._bridges_cell_eval import run_cell_eval, to_cell_eval
from pertcast.tl._de_agreement import (
    de_average_precision,
    de_calibration,
    de_direction,
    de_effect_spearman,
    de_n_significant,
    de_overlap,
    de_precision,
    de_recall,
)
from pertcast.tl._differential import DEResult, rank_genes
from pertcast.tl._energy import energy_distance
from pertcast.tl._evaluate import evaluate
from pertcast.tl._mean_error import mean_absolute_error, mean_squared_error
from pertcast.tl._mmd import mmd_rbf
from pertcast.tl._moments import correlation_agreement, variance_agreement, variance_ratio
from pertcast.tl._ranking import centroid_accuracy, discrimination_score, rank_score
from pertcast.tl._registry import metrics
from pertcast.tl._shift import mean_shift, shift_cosine, shift_pearson, shift_spearman
from pertcast.tl._sinkhorn import sinkhorn_divergence
from pertcast.tl._summary import summarize
from pertcast.tl._wasserstein import gene_wasserstein, gene_wasserstein_distances, sliced_wasserstein

__all__ = [
    "DEResult",
    "benchmark",
    "centroid_accuracy",
    "correlation_agreement",
    "de_average_precision",
    "de_calibration",
    "de_direction",
    "de_effect_spearman",
    "de_n_significant",
    "de_overlap",
    "de_precision",
    "de_recall",
    "delta_table",
    "discrimination_score",
    "energy_distance",
    "evaluate",
    "gene_wasserstein",
    "gene_wasserstein_distances",
    "mean_absolute_error",
    "mean_shift",
    "mean_squared_error",
    "metrics",
    "mmd_rbf",
    "rank_genes",
    "rank_score",
    "run_cell_eval",
    "shift_cosine",
    "shift_pearson",
    "shift_spearman",
    "sinkhorn_divergence",
    "sliced_wasserstein",
    "summarize",
    "to_cell_eval",
    "variance_agreement",
    "variance_ratio",
    "with_controls",
]
