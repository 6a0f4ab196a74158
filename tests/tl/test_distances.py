from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cdist, pdist

from pertcast.tl import _distances
from pertcast.tl._distances import PairwiseDistances, as_populations


@pytest.fixture
def cells() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, y = rng.poisson(0.7, (31, 6)).astype(np.float32), rng.poisson(1.0, (24, 6)).astype(np.float32)
    return x, y


@pytest.mark.parametrize("block", [1, 40, 2**22])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_array])
def test_equal_scipy(
    cells: tuple[np.ndarray, np.ndarray], kind: type, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_distances, "_BLOCK_VALUES", block)
    x, y = cells
    pairs = PairwiseDistances.of(kind(x), kind(y))
    np.testing.assert_allclose(pairs.xy, cdist(x, y), atol=1e-12)
    np.testing.assert_allclose(pairs.xx, cdist(x, x), atol=1e-12)
    np.testing.assert_allclose(pairs.yy, cdist(y, y), atol=1e-12)
    assert pairs.scale() == pytest.approx(np.median(pdist(y)), abs=1e-12)


def test_equal_cells_are_at_distance_zero() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(5, 40))
    pairs = PairwiseDistances.of(x, np.concatenate([x, x]))
    assert np.array_equal(pairs.xy == 0, np.tile(np.eye(5, dtype=bool), 2))
    assert PairwiseDistances.of(x, x + 1e-5).xy.diagonal() == pytest.approx(1e-5 * np.sqrt(40), rel=1e-3)


def test_scale_needs_measured_cells_that_differ(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells
    with pytest.raises(ValueError, match="undefined for these 1 cells"):
        PairwiseDistances.of(x, y[:1]).scale()
    with pytest.raises(ValueError, match="undefined for these 9 cells"):
        PairwiseDistances.of(x, np.repeat(y[:1] * 0.1, 9, axis=0)).scale()
    assert PairwiseDistances.of(x[:1], y).scale() == PairwiseDistances.of(x, y).scale() > 0


def test_subsampling_is_shared(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cells
    a, b = as_populations(x, y, max_cells=10, seed=3)
    assert a.shape == b.shape == (10, 6)
    np.testing.assert_allclose(PairwiseDistances.of(x, y, max_cells=10, seed=3).xy, cdist(a, b), atol=1e-12)
    numbered = np.arange(50.0)[:, None]
    first, second = as_populations(numbered, numbered, max_cells=20, seed=0)
    assert len(np.unique(first)) == len(np.unique(second)) == 20
    assert (np.diff(first[:, 0]) > 0).all()
    assert not np.array_equal(first, second)
