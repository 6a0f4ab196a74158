from __future__ import annotations

import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData

from pertcast.representation._total import limit_total, shared_total

COUNTS = np.random.default_rng(0).poisson(1.0, size=(50, 80)).astype(np.float32)


@pytest.fixture
def cells() -> np.ndarray:
    """Cells that scanpy normalised to 2,000 counts and brought to log1p."""
    adata = AnnData(COUNTS.copy())
    sc.pp.normalize_total(adata, target_sum=2000)
    sc.pp.log1p(adata)
    return np.asarray(adata.X)


def test_the_total_of_normalised_cells_is_found_and_that_of_others_is_not(cells: np.ndarray) -> None:
    assert shared_total(cells) == pytest.approx(2000, rel=1e-5)
    assert shared_total(cells[:, :40]) is None
    assert shared_total(np.log1p(COUNTS)) is None
    assert shared_total(1e4 * COUNTS) is None
    assert shared_total(0 * cells) is None
    assert shared_total(cells[:2]) is None  # two could agree by chance
    off = cells.copy()
    off[7] = np.log1p(1.01 * np.expm1(off[7]))
    assert shared_total(off) is None


def test_counts_are_scaled_down_to_the_total_and_never_up(cells: np.ndarray) -> None:
    np.testing.assert_allclose(np.expm1(limit_total(cells, 1500.0)), 0.75 * np.expm1(cells), rtol=1e-4)
    assert limit_total(cells, 2500.0) is cells
    assert limit_total(cells[:0], 2000.0).shape == (0, 80)
    unequal = cells * np.linspace(0.9, 1.1, 50, dtype=np.float32)[:, None]
    limited = limit_total(unequal, 1000.0)
    assert limited.dtype == np.float32
    assert np.expm1(limited).sum(1).mean() == pytest.approx(1000, rel=1e-4)
    ratio = np.expm1(limited).sum(1) / np.expm1(unequal).sum(1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)  # one factor for all cells
    np.testing.assert_array_equal(limited == 0, unequal == 0)
