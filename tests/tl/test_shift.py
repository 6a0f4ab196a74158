from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import pearsonr

from pertcast.tl import mean_shift, shift_pearson


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


def test_pearson_agrees_with_scipy(cells: list[np.ndarray]) -> None:
    predicted, real, control = cells
    expected = pearsonr(predicted.mean(0) - control.mean(0), real.mean(0) - control.mean(0)).statistic
    assert shift_pearson(predicted, real, control) == pytest.approx(expected, abs=1e-12)
    sparse = shift_pearson(sp.csr_matrix(predicted), sp.csr_matrix(real), sp.csr_matrix(control))
    assert sparse == pytest.approx(expected, abs=1e-12)


def test_pearson_of_known_shifts(cells: list[np.ndarray]) -> None:
    _, real, control = cells
    assert shift_pearson(real, real, control) == pytest.approx(1)
    mirrored = 2 * control.mean(0) - real
    assert shift_pearson(mirrored, real, control) == pytest.approx(-1)


def test_no_direction_gives_nan(cells: list[np.ndarray]) -> None:
    _, real, control = cells
    assert np.isnan(shift_pearson(control, real, control))
    assert np.isnan(shift_pearson(real, control, control))


def test_errors(cells: list[np.ndarray]) -> None:
    predicted, real, control = cells
    with pytest.raises(ValueError, match="same genes"):
        shift_pearson(predicted[:, 1:], real, control)
    with pytest.raises(ValueError, match="`control` must be a matrix of at least one cell and its genes"):
        mean_shift(real, control[:0])
    with pytest.raises(ValueError, match="`x` holds NaN or infinite"):
        mean_shift(real / 0, control)
