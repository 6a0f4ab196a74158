"""Published numbers of cell-eval, computed again.

The tables hold cell-eval's differential expression of 37 double knock-outs (Norman et al. 2019, 1,000 genes), measured
and predicted by scDFM, with the mean expression of each gene, and the metrics that cell-eval computed from them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from pertcast.tl._de_agreement import (
    de_direction,
    de_effect_spearman,
    de_n_significant,
    de_overlap,
    de_precision,
    de_recall,
)
from pertcast.tl._differential import DEResult
from pertcast.tl._mean_error import mean_absolute_error, mean_squared_error
from pertcast.tl._ranking import discrimination_score
from pertcast.tl._shift import shift_pearson

SIDE = Path(os.environ.get("PERTCAST_SIDE", Path(__file__).resolve().parents[3] / "shared" / "side"))


class Published(NamedTuple):
    """Tables of cell-eval, perturbations and genes in the same order in all."""

    results: pd.DataFrame
    real: dict[str, pd.DataFrame]
    predicted: dict[str, pd.DataFrame]

    def means(self, which: str, column: str = "target_mean") -> np.ndarray:
        """Means [P, G]."""
        return np.stack([getattr(self, which)[name][column].to_numpy() for name in self.results.index])


def read(name: str) -> pd.DataFrame:
    path = SIDE / f"celleval_norman_scdfm_{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} does not exist; set PERTCAST_SIDE to the folder with cell-eval's published results")
    return pd.read_csv(path)


def by_perturbation(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {str(name): part.sort_values("feature") for name, part in table.groupby("target")}


@pytest.fixture(scope="module")
def published() -> Published:
    results = read("results").set_index("perturbation")
    found = Published(results, by_perturbation(read("real_de")), by_perturbation(read("pred_de")))
    assert len(results) == len(found.real) == len(found.predicted) == 37
    return found


def de_result(table: pd.DataFrame) -> DEResult:
    columns = (table["p_value"], table["fdr"], np.log2(table["fold_change"]))
    return DEResult(*(column.to_numpy() for column in columns))


@pytest.mark.parametrize(
    ("metric", "column"), [(shift_pearson, "pearson_delta"), (mean_squared_error, "mse"), (mean_absolute_error, "mae")]
)
def test_means(published: Published, metric: Any, column: str) -> None:
    predicted, real = published.means("predicted"), published.means("real")
    control = published.means("real", "reference_mean")
    found = [metric(predicted[[p]], real[[p]], control[[p]]) for p in range(37)]
    np.testing.assert_allclose(found, published.results[column], atol=1e-5)


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
def test_discrimination_score(published: Published, distance: Any) -> None:
    """The version of cell-eval that made these tables compared absolute shifts; later ones compare shifts."""
    control = published.means("real", "reference_mean")
    predicted, real = (np.abs(published.means(which) - control) for which in ("predicted", "real"))
    found = discrimination_score(predicted, real, np.zeros((1, 1_000)), distance=distance)
    np.testing.assert_allclose(found, published.results[f"discrimination_score_{distance}"], atol=1e-12)


@pytest.mark.parametrize(
    ("metric", "column"),
    [
        (lambda predicted, real: de_n_significant(real), "de_nsig_counts_real"),
        (lambda predicted, real: de_n_significant(predicted), "de_nsig_counts_pred"),
        (de_recall, "de_sig_genes_recall"),
        (de_direction, "de_direction_match"),
        (de_effect_spearman, "de_spearman_lfc_sig"),
        (de_precision, "precision_at_N"),
    ],
)
def test_differential_expression(published: Published, metric: Any, column: str) -> None:
    found = [metric(de_result(published.predicted[p]), de_result(published.real[p])) for p in published.results.index]
    np.testing.assert_allclose(found, published.results[column], atol=1e-12)


@pytest.mark.parametrize("k", [50, 100, 200, 500])
@pytest.mark.parametrize(("metric", "name"), [(de_overlap, "overlap"), (de_precision, "precision")])
def test_strongest_genes(published: Published, metric: Any, name: str, k: int) -> None:
    """Equal up to ties: these fold changes are cut at 0.05 and 20, and cell-eval leaves the order of ties to chance."""
    for perturbation, expected in published.results[f"{name}_at_{k}"].items():
        real, predicted = (de_result(tables[str(perturbation)]) for tables in (published.real, published.predicted))
        found = metric(predicted, real, k)
        n_genes = min(k, de_n_significant(real if name == "overlap" else predicted))
        genes = abs(found - expected) * n_genes
        assert genes < (1e-6 if k <= 100 else 2 + 1e-6), (perturbation, genes)
