from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

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
from pertcast.tl._undefined import UndefinedMetric

UNDEFINED_WITHOUT_REAL = [
    de_overlap,
    de_precision,
    de_recall,
    de_direction,
    de_effect_spearman,
    de_average_precision,
]


def result(adjusted: list[float], effect: list[float]) -> DEResult:
    p_adjusted = np.array(adjusted)
    return DEResult(p_adjusted / 2, p_adjusted, np.array(effect))


# Significant: genes 0, 1, 2, 3; by absolute effect 1, 0, 3, 2.
REAL = result([0.01, 0.02, 0.03, 0.04, 0.05, 0.9], [3.0, -4.0, 1.0, 2.0, 9.0, 9.0])
# Significant: genes 1, 3, 5; by absolute effect 5, 1, 3.
PREDICTED = result([0.3, 0.01, 0.2, 0.04, 0.5, 0.001], [2.0, -3.0, -1.0, 1.0, 0.0, 5.0])


def test_overlap() -> None:
    assert de_overlap(PREDICTED, REAL) == 2 / 4  # {1, 0, 3, 2} and {5, 1, 3}
    assert de_overlap(PREDICTED, REAL, 100) == 2 / 4
    assert de_overlap(PREDICTED, REAL, 2) == 1 / 2  # {1, 0} and {5, 1}
    assert de_overlap(PREDICTED, REAL, 1) == 0
    assert de_overlap(REAL, REAL) == de_overlap(REAL, REAL, 3) == 1


def test_precision() -> None:
    assert de_precision(PREDICTED, REAL) == 2 / 3  # {5, 1, 3} and {1, 0, 3}: 1 and 3 in common
    assert de_precision(PREDICTED, REAL, 2) == 1 / 2
    assert de_precision(PREDICTED, REAL, 100) == 2 / 3
    assert de_precision(REAL, REAL) == 1


def test_recall_and_direction_and_effect() -> None:
    assert de_recall(PREDICTED, REAL) == 2 / 4
    assert de_direction(PREDICTED, REAL) == 3 / 4  # gene 2 has the other sign
    expected = spearmanr([2, -3, -1, 1], [3, -4, 1, 2]).statistic
    assert de_effect_spearman(PREDICTED, REAL) == pytest.approx(expected, abs=1e-12)


def test_average_precision() -> None:
    # Order of the predicted p values: 5, 1, 3, 2, 0, 4; hits at ranks 2, 3, 4, 5.
    assert de_average_precision(PREDICTED, REAL) == pytest.approx((1 / 2 + 2 / 3 + 3 / 4 + 4 / 5) / 4)
    score = -np.log10(PREDICTED.p_value)
    assert de_average_precision(PREDICTED, REAL) == pytest.approx(average_precision_score(REAL.significant(), score))
    assert de_average_precision(REAL, REAL) == 1
    flat = result([0.5] * 6, [1.0] * 6)
    assert de_average_precision(flat, REAL) == pytest.approx(4 / 6)
    zero = result([0.0, 0.0, 0.0, 0.0, 0.5, 0.5], [1.0] * 6)
    assert de_average_precision(zero, REAL) == 1  # a p value that is 0 to machine precision


def test_counts() -> None:
    assert de_n_significant(REAL) == 4  # 0.05 is not below 0.05
    assert de_n_significant(REAL, fdr=0.1) == 5
    assert de_calibration(PREDICTED, REAL) == pytest.approx(np.log10(4 / 5))
    assert de_calibration(REAL, REAL) == 0
    none = result([0.9] * 6, [1.0] * 6)
    assert de_calibration(none, REAL) == pytest.approx(-np.log10(5))
    assert de_calibration(REAL, none) == pytest.approx(np.log10(5))


def test_false_discovery_rate_decides_which_genes_count() -> None:
    assert de_recall(PREDICTED, REAL, fdr=0.025) == 1 / 2  # real 0, 1; predicted 1, 5
    assert de_overlap(PREDICTED, REAL, fdr=0.025) == 1 / 2
    assert de_direction(PREDICTED, REAL, fdr=0.025) == 1


def test_ties_of_the_effect_go_by_p_value_then_order() -> None:
    real = result([0.03, 0.01, 0.02, 0.01], [1.0, 1.0, -1.0, 1.0])
    alone = [result([0.9 if gene != kept else 0.01 for gene in range(4)], [1.0] * 4) for kept in range(4)]
    assert [de_overlap(predicted, real, 1) for predicted in alone] == [0, 1, 0, 0]
    assert [de_overlap(predicted, real, 2) for predicted in alone] == [0, 0.5, 0, 0.5]
    assert [de_overlap(predicted, real, 3) for predicted in alone] == [0, 1 / 3, 1 / 3, 1 / 3]


def test_infinite_effects_come_first() -> None:
    real = result([0.01, 0.01, 0.01], [1.0, -np.inf, 2.0])
    assert de_overlap(result([0.9, 0.01, 0.9], [0.0, 1.0, 0.0]), real, 1) == 1
    assert de_effect_spearman(real, real) == pytest.approx(1)


@pytest.mark.parametrize("metric", UNDEFINED_WITHOUT_REAL)
def test_nan_and_reason_without_significant_measured_genes(metric: Any) -> None:
    none = result([0.9] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert np.isnan(metric(PREDICTED, none))
    with pytest.raises(UndefinedMetric, match=r"No measured gene is significant at a false discovery rate of 0\.05"):
        metric.strict(PREDICTED, none)


def test_nothing_predicted_is_no_agreement() -> None:
    none = result([0.9] * 6, [1.0] * 6)
    assert de_overlap(none, REAL) == de_recall(none, REAL) == 0
    assert np.isnan(de_precision(none, REAL))
    with pytest.raises(UndefinedMetric, match="No predicted gene is significant"):
        de_precision.strict(none, REAL)


def test_other_reasons() -> None:
    one = result([0.01, 0.9, 0.9], [1.0, 2.0, 3.0])
    with pytest.raises(UndefinedMetric, match="A single measured gene"):
        de_effect_spearman.strict(one, one)
    flat = result([0.01, 0.01, 0.9], [2.0, 2.0, 3.0])
    varied = result([0.01, 0.01, 0.9], [2.0, 1.0, 3.0])
    with pytest.raises(UndefinedMetric, match="The predicted effects of the 2 significant measured genes"):
        de_effect_spearman.strict(flat, varied)
    with pytest.raises(UndefinedMetric, match="The measured effects of the 2 significant measured genes"):
        de_effect_spearman.strict(varied, flat)
    everything = result([0.01] * 3, [1.0, 2.0, 3.0])
    with pytest.raises(UndefinedMetric, match="All 3 measured genes are significant"):
        de_average_precision.strict(one, everything)


@pytest.mark.parametrize("metric", [*UNDEFINED_WITHOUT_REAL, de_calibration])
def test_other_genes_are_an_error(metric: Any) -> None:
    with pytest.raises(ValueError, match="the same genes in the same order, but they have 6 and 1") as error:
        metric(PREDICTED, result([0.01], [1.0]))
    assert not isinstance(error.value, UndefinedMetric)


@pytest.mark.parametrize("metric", [de_overlap, de_precision])
def test_k_is_positive(metric: Any) -> None:
    with pytest.raises(ValueError, match="`k` must be at least 1, but found 0"):
        metric(PREDICTED, REAL, 0)


def test_cells_of_the_same_distribution_agree_and_smooth_cells_are_not_calibrated() -> None:
    rng = np.random.default_rng(0)
    rate = np.where(np.arange(200) < 60, rng.choice([0.3, 3.0], 200), 1.0)
    control, real, again = (np.log1p(rng.poisson(x, (150, 200))) for x in (np.ones(200), rate, rate))
    smooth = again.mean(0) + 0.2 * (again - again.mean(0))
    truth, oracle, too_smooth = (rank_genes(x, control, effect="mean_difference") for x in (real, again, smooth))
    assert de_recall(oracle, truth) > 0.95
    assert de_direction(oracle, truth) > 0.99
    assert de_average_precision(oracle, truth) > 0.95
    assert abs(de_calibration(oracle, truth)) < 0.1
    assert de_calibration(too_smooth, truth) > 0.3
