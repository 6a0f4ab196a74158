from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cdist, pdist

from pertcast.tl._distances import PairwiseDistances
from pertcast.tl._mmd import mmd_from_distances, mmd_rbf


def brute_force(x: np.ndarray, y: np.ndarray, width: float, *, unbiased: bool) -> float:
    kxx, kyy, kxy = (np.exp(-cdist(a, b, "sqeuclidean") / (2 * width**2)) for a, b in ((x, x), (y, y), (x, y)))
    if unbiased:
        kxx, kyy = kxx[~np.eye(len(x), dtype=bool)], kyy[~np.eye(len(y), dtype=bool)]
    return float(kxx.mean() + kyy.mean() - 2 * kxy.mean())


def gaussian_kernel_mean(difference: np.ndarray, variances: float, width: float) -> float:
    """E k(X, Y) of two normal distributions whose isotropic variances have this sum."""
    total = width**2 + variances
    return float((width**2 / total) ** (len(difference) / 2) * np.exp(-difference @ difference / (2 * total)))


@pytest.fixture
def cells() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.gamma(2.0, 1.0, (41, 7)), rng.gamma(2.5, 1.0, (28, 7))


@pytest.mark.parametrize("unbiased", [True, False])
def test_equals_brute_force(cells: tuple[np.ndarray, np.ndarray], unbiased: bool) -> None:
    x, y = cells
    expected = brute_force(x, y, 1.7, unbiased=unbiased)
    assert mmd_rbf(x, y, bandwidth=1.7, unbiased=unbiased) == pytest.approx(expected, abs=1e-12)
    sparse = mmd_rbf(sp.csr_matrix(x), sp.csc_array(y), bandwidth=1.7, unbiased=unbiased)
    assert sparse == pytest.approx(expected, abs=1e-12)
    pairs = PairwiseDistances.of(x, y)
    assert mmd_from_distances(pairs, bandwidth=1.7, unbiased=unbiased) == pytest.approx(expected, abs=1e-12)
    assert mmd_rbf(x[::-1], y, bandwidth=1.7, unbiased=unbiased) == pytest.approx(expected, abs=1e-12)


def test_median_bandwidth_comes_from_the_measured_cells(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells
    assert mmd_rbf(x, y) == pytest.approx(brute_force(x, y, float(np.median(pdist(y))), unbiased=True), abs=1e-12)
    assert mmd_rbf(5 * x, 5 * y) == pytest.approx(mmd_rbf(x, y), abs=1e-12)
    assert mmd_rbf(y, x) != pytest.approx(mmd_rbf(x, y), abs=1e-4)


def test_closed_form_of_normal_distributions() -> None:
    rng = np.random.default_rng(1)
    shift, width = np.array([0.8, -0.4, 0.0]), 1.3
    expected = (
        gaussian_kernel_mean(0 * shift, 2.0, width)
        + gaussian_kernel_mean(0 * shift, 0.5, width)
        - 2 * gaussian_kernel_mean(shift, 1.25, width)
    )
    found = [mmd_rbf(rng.normal(size=(150, 3)), rng.normal(shift, 0.5, (100, 3)), bandwidth=width) for _ in range(60)]
    error = np.std(found) / np.sqrt(len(found))
    assert error < 0.03 * expected
    assert abs(np.mean(found) - expected) < 4 * error


def test_unbiased_estimate_does_not_depend_on_the_number_of_cells() -> None:
    rng = np.random.default_rng(2)
    found = [mmd_rbf(rng.normal(size=(4, 3)), rng.normal(size=(6, 3)), bandwidth=1.0) for _ in range(2000)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))
    assert min(found) < 0
    biased = [mmd_rbf(rng.normal(size=(4, 3)), rng.normal(size=(6, 3)), unbiased=False) for _ in range(200)]
    assert min(biased) > 0


def test_a_repeated_cell_has_the_kernel_one_with_itself(cells: tuple[np.ndarray, np.ndarray]) -> None:
    _, y = cells
    point = np.repeat(y.mean(0)[None], 20, axis=0)
    kyy = np.exp(-(pdist(y) ** 2) / 2)
    kxy = np.exp(-cdist(point[:1], y, "sqeuclidean") / 2)
    assert mmd_rbf(point, y, bandwidth=1.0) == pytest.approx(1 + kyy.mean() - 2 * kxy.mean(), abs=1e-12)


def test_errors(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells
    with pytest.raises(ValueError, match="at least 2 cells of each population, but found 1 and 28"):
        mmd_rbf(x[:1], y)
    for bandwidth in (0.0, -1.0, np.nan, np.inf, "mean"):
        with pytest.raises(ValueError, match="`bandwidth` must be"):
            mmd_rbf(x, y, bandwidth=bandwidth)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sets the scale"):
        mmd_rbf(x, np.ones((5, 7)))
