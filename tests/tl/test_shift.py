from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cosine
from scipy.stats import pearsonr, spearmanr

from pertcast.tl._shift import mean_shift, shift_cosine, shift_pearson, shift_spearman, subtract_reference
from pertcast.tl._undefined import UndefinedMetric

METRICS = [shift_pearson, shift_spearman, shift_cosine]


@pytest.fixture
def cells() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 9)) for n in (20, 30, 40)]


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_array])
def test_mean_shift(cells: list[np.ndarray], kind: type) -> None:
    x, _, control = cells
    found = mean_shift(kind(x), kind(control))
    assert found.shape == (9,)
    np.testing.assert_allclose(found, x.mean(0) - control.mean(0), atol=1e-12)


def test_means_of_float32_are_exact() -> None:
    x = np.full((30_000, 1), 16777.217, dtype=np.float32)
    np.testing.assert_allclose(mean_shift(x, np.zeros((1, 1))), x[0], rtol=1e-12)
    np.testing.assert_allclose(mean_shift(sp.csr_matrix(x), np.zeros((1, 1))), x[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (shift_pearson, lambda a, b: pearsonr(a, b).statistic),
        (shift_spearman, lambda a, b: spearmanr(a, b).statistic),
        (shift_cosine, lambda a, b: 1 - cosine(a, b)),
    ],
)
def test_agrees_with_scipy(cells: list[np.ndarray], metric, expected) -> None:
    predicted, real, control = cells
    number = expected(predicted.mean(0) - control.mean(0), real.mean(0) - control.mean(0))
    assert metric(predicted, real, control) == pytest.approx(number, abs=1e-12)
    assert metric(*(sp.csr_matrix(x) for x in cells)) == pytest.approx(number, abs=1e-12)
    assert metric(*(x.mean(0, keepdims=True) for x in cells)) == pytest.approx(number, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_known_shifts(cells: list[np.ndarray], metric) -> None:
    _, real, control = cells
    assert metric(real, real, control) == pytest.approx(1)
    mirrored = 2 * control.mean(0) - real
    assert metric(mirrored, real, control) == pytest.approx(-1)
    assert metric(control.mean(0) + 3 * (real - control.mean(0)), real, control) == pytest.approx(1)


def test_ties_share_their_mean_rank() -> None:
    # Ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4: the correlation of Spearman with ties is sqrt(0.9).
    found = shift_spearman(np.array([[0.0, 0, 1, 2]]), np.array([[0.0, 1, 2, 3]]), np.zeros((1, 4)))
    assert found == pytest.approx(np.sqrt(0.9), abs=1e-12)


def test_top_genes_are_those_of_the_measured_shift() -> None:
    control, real = np.zeros((1, 6)), np.array([[0.0, 5, -4, 3, 0.1, 0.2]])
    predicted = np.array([[9.0, 1, -2, 0, -9, 9]])
    expected = pearsonr([1, -2, 0], [5, -4, 3]).statistic
    assert shift_pearson(predicted, real, control, n_top=3) == pytest.approx(expected, abs=1e-12)
    everything = shift_pearson(predicted, real, control)
    assert shift_pearson(predicted, real, control, n_top=20) == pytest.approx(everything, abs=1e-12)
    with pytest.raises(ValueError, match="`n_top` must be at least 1, but found 0"):
        shift_pearson(predicted, real, control, n_top=0)


def test_reference_decides_what_counts() -> None:
    """A constant prediction is good against the controls and undefined or bad against the perturbed centroid."""
    rng = np.random.default_rng(1)
    common, specific = rng.normal(size=300), 0.3 * rng.normal(size=(8, 300))
    perturbed = common + specific - specific.mean(0)
    centroid, control = perturbed.mean(0, keepdims=True), np.zeros((1, 300))
    for real in perturbed:
        assert shift_pearson(centroid, real[None], control) > 0.9
        assert np.isnan(shift_pearson(centroid, real[None], centroid))
        assert abs(shift_pearson(control, real[None], centroid)) < 0.3


@pytest.mark.parametrize("metric", METRICS)
def test_no_direction_is_undefined(cells: list[np.ndarray], metric) -> None:
    _, real, control = cells
    assert np.isnan(metric(control, real, control))
    assert np.isnan(metric(real, control, control))
    with pytest.raises(UndefinedMetric, match="The predicted shift is"):
        metric.strict(control, real, control)
    with pytest.raises(UndefinedMetric, match="The measured shift is"):
        metric.strict(real, control, control)


@pytest.mark.parametrize("metric", METRICS)
def test_rounding_has_no_direction(metric) -> None:
    rng = np.random.default_rng(2)
    control = rng.gamma(1, size=(999, 50)) + rng.gamma(1, size=50)
    other_order = np.cumsum(control[::-1], axis=0)[-1:] / len(control)
    assert (other_order != control.mean(0)).any()
    assert np.isnan(metric(other_order, control + rng.normal(size=50), control))
    assert np.isnan(metric(control.mean(0, keepdims=True).astype(np.float32), control + rng.normal(size=50), control))


def test_a_shift_common_to_all_genes() -> None:
    control = np.random.default_rng(3).gamma(1, size=(30, 7))
    real = control + np.arange(7.0)
    assert np.isnan(shift_pearson(control + 0.1, real, control))
    assert shift_cosine(control + 0.1, real, control) == pytest.approx(21 / np.sqrt(7 * 91))


def test_subtract_reference() -> None:
    found = subtract_reference(
        np.array([[1.0, 1 + 1e-7, 0.0, 1e-30], [1.1, 1 - 1e-3, -2.0, 0.0]]), np.array([1.0, 1, 0, 0])
    )
    np.testing.assert_allclose(found, [[0, 0, 0, 1e-30], [0.1, -1e-3, -2, 0]], rtol=1e-9)


def test_errors(cells: list[np.ndarray]) -> None:
    predicted, real, control = cells
    with pytest.raises(ValueError, match="same genes"):
        shift_pearson(predicted[:, 1:], real, control)
    with pytest.raises(ValueError, match="`reference` must be a matrix of at least one cell and its genes"):
        mean_shift(real, control[:0])
    with pytest.raises(ValueError, match="`x` holds NaN or infinite"):
        mean_shift(real * np.inf, control)
    with pytest.raises(ValueError, match="`real` holds NaN or infinite"):
        shift_cosine(predicted, real * np.nan, control)


def test_small_shifts_are_no_rounding() -> None:
    """A ten thousandth of the expression counts; a ten millionth is what float32 loses."""
    real, reference = np.array([[1.00005, 1.0, 1.0]]), np.ones((1, 3))
    assert shift_pearson(real, real, reference) == pytest.approx(1)
    rounded = np.array([[1 + 1e-7, 1.0, 1.0]])
    assert np.isnan(shift_pearson(rounded, rounded, reference))
