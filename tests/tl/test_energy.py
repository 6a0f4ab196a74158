from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance as scipy_energy_distance

from pertcast.tl import _distances, energy_distance
from pertcast.tl._distances import PairwiseDistances
from pertcast.tl._energy import energy_from_distances


def brute_force(x: np.ndarray, y: np.ndarray, *, unbiased: bool) -> float:
    n, m = len(x), len(y)
    within_x = cdist(x, x).sum() / (n * (n - 1) if unbiased else n * n)
    within_y = cdist(y, y).sum() / (m * (m - 1) if unbiased else m * m)
    return float(2 * cdist(x, y).mean() - within_x - within_y)


@pytest.fixture
def cells() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, y = rng.gamma(2.0, 1.0, (83, 11)), rng.gamma(2.5, 1.0, (57, 11))
    x[rng.random(x.shape) < 0.6] = 0
    y[rng.random(y.shape) < 0.6] = 0
    x[:5] = x[5:10]  # repeated cells are at distance 0 from each other
    y[:3] = x[:3]
    return x, y


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("block", [60, 11 * 20, 2**22])
def test_equals_brute_force(
    cells: tuple[np.ndarray, np.ndarray], unbiased: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_distances, "_BLOCK_VALUES", block)
    x, y = cells
    expected = brute_force(x, y, unbiased=unbiased)
    assert energy_distance(x, y, unbiased=unbiased) == pytest.approx(expected, abs=1e-8)
    sparse = energy_distance(sp.csc_matrix(x), sp.csr_array(y), unbiased=unbiased)
    assert sparse == pytest.approx(expected, abs=1e-8)
    assert energy_distance(y, x, unbiased=unbiased) == pytest.approx(expected, abs=1e-8)
    pairs = PairwiseDistances.of(x, sp.csr_matrix(y))
    assert energy_from_distances(pairs, unbiased=unbiased) == pytest.approx(expected, abs=1e-8)


def test_one_cell_at_a_time(cells: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_distances, "_BLOCK_VALUES", 1)
    x, y = cells[0][:7], cells[1][:6]
    assert energy_distance(x, y) == pytest.approx(brute_force(x, y, unbiased=True), abs=1e-8)


def test_far_from_the_origin_it_stays_exact(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells
    expected = brute_force(x, y, unbiased=True)
    assert energy_distance(x + 1e4, y + 1e4) == pytest.approx(expected, abs=1e-6)


def test_one_gene_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=40), rng.normal(1, 2, size=30)
    found = energy_distance(x[:, None], y[:, None], unbiased=False)
    assert found == pytest.approx(scipy_energy_distance(x, y) ** 2, abs=1e-10)


def test_biased_estimate_agrees_with_pertpy(cells: tuple[np.ndarray, np.ndarray]) -> None:
    import pertpy

    x, y = cells
    expected = pertpy.tools.Distance("edistance")(x, y)  # Euclidean, not squared, a cell and itself included
    assert energy_distance(x, y, unbiased=False) == pytest.approx(expected, abs=1e-8)
    assert energy_distance(x, y) < expected


def test_order_of_the_cells_and_rotations_change_nothing(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(11, 11)))[0]
    assert energy_distance(x[::-1], y) == pytest.approx(energy_distance(x, y), abs=1e-10)
    assert energy_distance(x @ rotation, y @ rotation) == pytest.approx(energy_distance(x, y), abs=1e-10)


def test_scale_and_identity(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells
    assert energy_distance(x, x, unbiased=False) == pytest.approx(0, abs=1e-8)
    assert energy_distance(3 * x, 3 * y) == pytest.approx(3 * energy_distance(x, y), abs=1e-8)


def test_unbiased_estimate_does_not_depend_on_the_number_of_cells() -> None:
    rng = np.random.default_rng(2)
    estimates = [energy_distance(rng.normal(size=(4, 3)), rng.normal(size=(4, 3))) for _ in range(2000)]
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates)) < 4 * error
    biased = [energy_distance(rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), unbiased=False) for _ in range(200)]
    assert min(biased) > 0


def test_cells_that_were_given_their_mean_score_too_low() -> None:
    """Each cell has the true distribution, but they sum to 0: the distance is W / 2n below its mean of 0."""
    rng, n, n_genes = np.random.default_rng(0), 10, 100
    found = []
    for _ in range(40):
        sample = rng.normal(size=(n, n_genes))
        even = (sample - sample.mean(0)) * np.sqrt(n / (n - 1))
        real = rng.normal(size=(200, n_genes))
        found.append([energy_distance(cells, real) for cells in (sample, even)])
    independent, given = np.mean(found, axis=0)
    assert abs(independent) < 0.1
    assert given == pytest.approx(-np.sqrt(2 * n_genes) / (2 * n), rel=0.15)


def test_subsampling(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells
    assert energy_distance(x, y, max_cells=100) == energy_distance(x, y)
    one, again, other = (energy_distance(x, y, max_cells=20, seed=seed) for seed in (0, 0, 1))
    assert one == again != other
    sparse = energy_distance(sp.csr_matrix(x), sp.csr_matrix(y), max_cells=20, seed=0)
    assert sparse == pytest.approx(one, abs=1e-8)


def test_errors() -> None:
    x = np.zeros((3, 2))
    with pytest.raises(ValueError, match="at least 2 cells of each population, but found 3 and 1"):
        energy_distance(x, x[:1])
    assert energy_distance(x, x[:1] + 1, unbiased=False) == pytest.approx(2 * np.sqrt(2))
    with pytest.raises(ValueError, match="same genes in the same order, but they have 2 and 1"):
        energy_distance(x, x[:, :1])
    with pytest.raises(ValueError, match="`y` holds NaN"):
        energy_distance(x, x + np.nan)
    with pytest.raises(ValueError, match="`x` must be a matrix"):
        energy_distance(x[0], x)
    with pytest.raises(ValueError, match="`max_cells` must be at least 1"):
        energy_distance(x, x, max_cells=0)
