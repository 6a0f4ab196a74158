from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import pearsonr

from pertcast.tl import _quantiles
from pertcast.tl._moments import correlation_agreement, variance_agreement, variance_ratio

if TYPE_CHECKING:
    from collections.abc import Callable

    from pertcast.tl._matrix import Cells

METRICS: list[Callable[[Cells, Cells], float]] = [variance_agreement, variance_ratio, correlation_agreement]


@pytest.fixture
def cells() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(3, 12))
    x, y = (rng.normal(size=(n, 3)) @ loadings + rng.gamma(1.0, 1.0, (n, 12)) for n in (60, 45))
    x[rng.random(x.shape) < 0.3] = 0
    x[:, 4] = 0.1  # does not vary; the sum of its squares is not exact
    y[:, 5] = 0.1
    return x, y


def expected_correlations(predicted: np.ndarray, real: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):
        a, b = np.nan_to_num(np.corrcoef(predicted.T)), np.corrcoef(real.T)
    pairs = np.triu_indices(real.shape[1], 1)
    return float(pearsonr(a[pairs], b[pairs]).statistic)


@pytest.mark.parametrize("block", [1, 300, 2**22])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_array])
def test_variances_equal_numpy(
    cells: tuple[np.ndarray, np.ndarray], kind: type, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_quantiles, "_BLOCK_VALUES", block)
    x, y = cells
    a, b = x.std(0, ddof=1), y.std(0, ddof=1)
    expected = pearsonr(a, b).statistic
    assert variance_agreement(kind(x), kind(y)) == pytest.approx(expected, abs=1e-12)
    varies = np.arange(12) != 5
    assert variance_ratio(kind(x), kind(y)) == pytest.approx(np.median(a[varies] / b[varies]), abs=1e-12)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_array])
def test_correlations_equal_numpy(cells: tuple[np.ndarray, np.ndarray], kind: type) -> None:
    x, y = cells
    varies = np.arange(12) != 5
    expected = expected_correlations(x[:, varies], y[:, varies])
    assert correlation_agreement(kind(x), kind(y)) == pytest.approx(expected, abs=1e-12)
    most = np.argsort(-y.std(0))[:6]
    expected = expected_correlations(x[:, most], y[:, most])
    assert correlation_agreement(kind(x), kind(y), n_genes=6) == pytest.approx(expected, abs=1e-12)


def test_known_populations(cells: tuple[np.ndarray, np.ndarray]) -> None:
    _, y = cells
    scaled = 0.5 * y + np.arange(12)
    assert variance_agreement(scaled, y) == pytest.approx(1)
    assert variance_ratio(scaled, y) == pytest.approx(0.5)
    assert correlation_agreement(scaled, y) == pytest.approx(1)
    rng = np.random.default_rng(1)
    shuffled = rng.permuted(np.tile(y, (100, 1)), axis=0)  # the same genes one by one, but independent
    assert variance_agreement(shuffled, y) == pytest.approx(1, abs=1e-6)
    assert variance_ratio(shuffled, y) == pytest.approx(1, abs=0.02)
    assert abs(correlation_agreement(shuffled, y)) < 0.4
    assert correlation_agreement(y * np.where(np.arange(12) % 2, 1, -1), y) < 0.5


@pytest.mark.parametrize("metric", METRICS)
def test_order_of_cells_and_position_change_nothing(
    cells: tuple[np.ndarray, np.ndarray], metric: Callable[[Cells, Cells], float]
) -> None:
    x, y = cells
    assert metric(x[::-1], y) == pytest.approx(metric(x, y), abs=1e-10)
    assert metric(x + 7, 3 + y) == pytest.approx(metric(x, y), abs=1e-10)


def test_point_predictions_have_no_spread(cells: tuple[np.ndarray, np.ndarray]) -> None:
    _, y = cells
    point = np.repeat(y.mean(0)[None], 30, axis=0)
    assert variance_ratio(point, y) == 0
    assert np.isnan(variance_agreement(point, y))
    assert np.isnan(correlation_agreement(point, y))


def test_measured_cells_without_spread_give_nan(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells
    same = np.full_like(y, 0.1)
    for metric in METRICS:
        assert np.isnan(metric(x, same))
    same[:, :2] = y[:, :2]
    assert np.isnan(correlation_agreement(x, same))
    assert np.isfinite(variance_ratio(x, same))


def test_errors(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells
    for metric in METRICS:
        with pytest.raises(ValueError, match="at least 2 cells of each population, but found 1 and 45"):
            metric(x[:1], y)
        with pytest.raises(ValueError, match="`predicted` and `real` must hold the same genes"):
            metric(x[:, 1:], y)
        with pytest.raises(ValueError, match="`real` holds NaN"):
            metric(x, y + np.nan)
    with pytest.raises(ValueError, match="`n_genes` must be at least 3"):
        correlation_agreement(x, y, n_genes=2)
