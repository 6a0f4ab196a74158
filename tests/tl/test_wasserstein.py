from __future__ import annotations

import numpy as np
import ot
import pytest
import scipy.sparse as sp
from scipy.stats import wasserstein_distance

from pertcast.tl import _quantiles
from pertcast.tl._quantiles import wasserstein_powers
from pertcast.tl._wasserstein import _directions, gene_wasserstein, gene_wasserstein_distances, sliced_wasserstein


@pytest.fixture
def cells() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, y = rng.gamma(2.0, 1.0, (42, 9)), rng.gamma(2.5, 1.0, (28, 9))
    x[rng.random(x.shape) < 0.6] = 0
    y[rng.random(y.shape) < 0.5] = 0
    return x, y


@pytest.mark.parametrize("sizes", [(42, 28), (28, 28), (42, 1), (1, 28), (37, 24)])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_array])
@pytest.mark.parametrize("block", [1, 200, 2**22])
def test_genes_equal_scipy(
    cells: tuple[np.ndarray, np.ndarray],
    sizes: tuple[int, int],
    kind: type,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_quantiles, "_BLOCK_VALUES", block)
    x, y = cells[0][: sizes[0]], cells[1][: sizes[1]]
    expected = [wasserstein_distance(x[:, gene], y[:, gene]) for gene in range(9)]
    np.testing.assert_allclose(gene_wasserstein_distances(kind(x), kind(y)), expected, atol=1e-12)
    assert gene_wasserstein(kind(x), kind(y)) == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3.5])
def test_sliced_equals_pot_on_the_same_directions(cells: tuple[np.ndarray, np.ndarray], order: float) -> None:
    x, y = cells
    directions = _directions(9, 40, seed=5)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1)
    expected = ot.sliced_wasserstein_distance(x, y, p=order, projections=directions)
    found = sliced_wasserstein(x, y, order=order, n_projections=40, seed=5)
    assert found == pytest.approx(expected, abs=1e-12)
    sparse = sliced_wasserstein(sp.csr_matrix(x), sp.csc_array(y), order=order, n_projections=40, seed=5)
    assert sparse == pytest.approx(expected, abs=1e-12)


def test_one_dimension_needs_no_direction(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells[0][:, :1], cells[1][:, :1]
    assert sliced_wasserstein(x, y, n_projections=3) == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]))


def test_a_shift_is_its_length(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, _ = cells
    shift = np.random.default_rng(1).normal(size=9)
    np.testing.assert_allclose(gene_wasserstein_distances(x + shift, x), np.abs(shift), atol=1e-12)
    # E |theta . shift| = |shift| Gamma(G / 2) / (sqrt(pi) Gamma((G + 1) / 2)); E (theta . shift)^2 = |shift|^2 / G
    mean_cosine = 11.631728396567448 / (np.sqrt(np.pi) * 24.0)  # Gamma(4.5), Gamma(5)
    length = np.linalg.norm(shift)
    found = sliced_wasserstein(x + shift, x, n_projections=40_000)
    assert found == pytest.approx(length * mean_cosine, rel=0.02)
    found = sliced_wasserstein(x + shift, x, n_projections=40_000, order=2)
    assert found == pytest.approx(length / 3, rel=0.02)


def test_normal_distributions_of_different_spread() -> None:
    quantiles = np.random.default_rng(2).normal(size=(200_000, 1))
    # W_2^2 = (mean difference)^2 + (sd difference)^2
    assert wasserstein_powers(quantiles, 3 * quantiles[::-1] + 1, 2)[0] == pytest.approx(1 + 4, rel=0.02)


def test_invariances(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells
    for metric in (gene_wasserstein, sliced_wasserstein):
        value = metric(x, y)
        assert metric(x, x[::-1]) == pytest.approx(0, abs=1e-12)
        assert metric(y, x[::-1]) == pytest.approx(value, abs=1e-12)
        assert metric(-3 * x, -3 * y) == pytest.approx(3 * value, abs=1e-12)
        assert metric(np.repeat(x, 3, axis=0), y) == pytest.approx(value, abs=1e-12)
        one, again, other = (metric(x, y, max_cells=9, seed=seed) for seed in (0, 0, 1))
        assert one == again != other


def test_cells_are_not_changed(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells[0].copy(), cells[1].copy()
    gene_wasserstein(x, y)
    assert np.array_equal(x, cells[0])
    assert np.array_equal(y, cells[1])


def test_errors(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells
    with pytest.raises(ValueError, match="`order` must be a finite number of at least 1"):
        sliced_wasserstein(x, y, order=0.5)
    with pytest.raises(ValueError, match="found 1.0 and 0"):
        sliced_wasserstein(x, y, n_projections=0)
    with pytest.raises(ValueError, match="same genes in the same order"):
        gene_wasserstein(x, y[:, 1:])
