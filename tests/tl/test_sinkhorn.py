from __future__ import annotations

import numpy as np
import ot
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cdist, pdist

from pertcast.tl import energy_distance
from pertcast.tl._distances import PairwiseDistances
from pertcast.tl._sinkhorn import sinkhorn_divergence, sinkhorn_from_distances


@pytest.fixture
def cells() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.gamma(2.0, 1.0, (35, 5)), rng.gamma(3.0, 1.0, (24, 5))


def pot(x: np.ndarray, y: np.ndarray, epsilon: float) -> float:
    """Entropic cost with the relative entropy to the plan of independent cells."""
    value = ot.solve(cdist(x, y), reg=epsilon, reg_type="KL", max_iter=5000, tol=1e-8).value
    return float(value)


@pytest.mark.parametrize("epsilon", [0.2, 0.5, 2.0])
def test_equals_pot(cells: tuple[np.ndarray, np.ndarray], epsilon: float) -> None:
    x, y = cells
    absolute = epsilon * float(np.median(pdist(y)))
    expected = pot(x, y, absolute) - pot(x, x, absolute) / 2 - pot(y, y, absolute) / 2
    assert sinkhorn_divergence(x, y, epsilon=epsilon) == pytest.approx(expected, abs=1e-5)
    sparse = sinkhorn_divergence(sp.csr_matrix(x), sp.csc_array(y), epsilon=epsilon)
    assert sparse == pytest.approx(expected, abs=1e-5)


def test_between_wasserstein_and_energy_distance(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells
    half = energy_distance(x, y, unbiased=False) / 2
    assert sinkhorn_divergence(x, y, epsilon=1e4) == pytest.approx(half, rel=1e-4)
    assert half < sinkhorn_divergence(x, y) < ot.emd2([], [], cdist(x, y))


def test_invariances(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells
    value = sinkhorn_divergence(x, y)
    assert sinkhorn_divergence(y, y[::-1]) == pytest.approx(0, abs=1e-5)
    assert sinkhorn_divergence(x[::-1], y) == pytest.approx(value, abs=1e-6)
    assert sinkhorn_divergence(7 * x, 7 * y) == pytest.approx(7 * value, abs=1e-6)
    assert sinkhorn_from_distances(PairwiseDistances.of(x, y)) == value
    assert sinkhorn_divergence(x, y, max_cells=9, seed=1) == sinkhorn_divergence(x, y, max_cells=9, seed=1) != value


def test_errors(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells
    for epsilon in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="`epsilon` must be above 0"):
            sinkhorn_divergence(x, y, epsilon=epsilon)
    with pytest.raises(ValueError, match="sets the scale"):
        sinkhorn_divergence(x, y[:1])
    with pytest.warns(RuntimeWarning, match="did not reach tolerance"):
        sinkhorn_divergence(x, y, epsilon=1e-4)
