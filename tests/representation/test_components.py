from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse as sp

from pertcast.representation import principal_components


def matrix(n: int = 80, n_genes: int = 30) -> np.ndarray:
    """Five strong directions over weak noise, about half of it zero."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 5)) * [9, 7, 5, 4, 3] @ rng.normal(size=(5, n_genes)) + rng.normal(size=(n, n_genes))
    return np.maximum(x, 0).astype(np.float32)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csr_array])
def test_components_equal_a_singular_value_decomposition(form: type) -> None:
    x = matrix()
    found = principal_components(form(x), 4)
    centred = x.astype(float) - x.astype(float).mean(0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.variance, singular[:4] ** 2 / (len(x) - 1), rtol=1e-4)
    np.testing.assert_allclose(found.axes @ found.axes.T, axes[:4].T @ axes[:4], atol=1e-4)
    np.testing.assert_allclose(found.axes.T @ found.axes, np.eye(4), atol=1e-5)
    np.testing.assert_allclose(found.total_variance, np.square(singular).sum() / (len(x) - 1), rtol=1e-5)


def test_the_largest_loading_of_an_axis_is_positive() -> None:
    axes = principal_components(matrix(), 5).axes
    assert (axes[np.abs(axes).argmax(0), np.arange(5)] > 0).all()
    np.testing.assert_allclose(principal_components(-matrix(), 5).axes, axes, atol=1e-5)


def test_no_more_axes_than_the_data_have() -> None:
    few = matrix(6)
    assert principal_components(few, 50).axes.shape == (30, 5)
    assert principal_components(sp.csr_matrix(few), 50).axes.shape == (30, 5)
    assert principal_components(matrix(80, 7), 50).axes.shape == (7, 7)
    by_storage = [principal_components(form(matrix(80, 7)), 50) for form in (np.asarray, sp.csr_matrix)]
    np.testing.assert_allclose(by_storage[0].axes, by_storage[1].axes, atol=1e-5)


def test_many_cells_are_subsampled_by_seed() -> None:
    x = matrix(300)
    first, again, other = (principal_components(x, 2, max_cells=50, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.mean, again.mean)
    assert np.abs(first.mean - other.mean).max() > 0
    rows = np.random.default_rng(1).choice(300, 50, replace=False)
    np.testing.assert_allclose(first.mean, x[rows].mean(0), rtol=1e-4)


def test_the_input_is_not_changed() -> None:
    x = matrix()
    before = x.copy()
    principal_components(x, 3)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 0.5, 0.7])
def test_cells_that_are_all_the_same_are_refused(form: type, dtype: type, value: float) -> None:
    with pytest.raises(ValueError, match=rf"All 1000 cells are the same \(their largest value is {value:g}\)"):
        principal_components(form(np.full((1000, 30), value, dtype=dtype)), 2)
    nearly: np.ndarray = np.full((1000, 30), value, dtype=dtype)
    nearly[0, 0] += 0.01
    assert principal_components(form(nearly), 1).axes.shape == (30, 1)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_a_large_constant_gene_hides_no_variance(form: type) -> None:
    x = np.c_[np.full(100, 1e7), np.random.default_rng(0).normal(0, 0.2, (100, 4))].astype(np.float32)
    found = principal_components(form(x), 2)
    np.testing.assert_allclose(found.axes[0], 0, atol=1e-3)
    np.testing.assert_allclose(found.total_variance, x[:, 1:].var(0, ddof=1).sum(), rtol=1e-3)
