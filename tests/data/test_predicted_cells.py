from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from pertcast.data._predicted_cells import PredictedCells


def populations(rng: np.random.Generator, sizes: list[int], densities: list[float]) -> list[np.ndarray]:
    """Cells of 7 genes; some cells and some populations have no value at all."""
    return [
        (rng.normal(size=(n, 7)) * (rng.random((n, 7)) < density)).astype(np.float32)
        for n, density in zip(sizes, densities, strict=True)
    ]


@pytest.mark.parametrize("densities", [[0.0, 0.1, 0.5, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.2], [0.0] * 5])
def test_sparse_and_dense_hold_what_was_added(densities: list[float]) -> None:
    parts = populations(np.random.default_rng(0), [3, 1, 4, 20, 2], densities)
    expected = np.concatenate(parts)
    for is_sparse in (False, True):
        cells = PredictedCells(len(expected), 7, is_sparse=is_sparse)
        for part in parts:
            cells.add(part)
        found: Any = cells.matrix()
        assert sp.issparse(found) is is_sparse
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found.toarray() if is_sparse else found, expected)
        if is_sparse:
            found.check_format(full_check=True)
            assert found.has_canonical_format
            assert found.nnz == np.count_nonzero(expected)
            assert found.indices.dtype == found.indptr.dtype == np.int32


def test_the_peak_is_the_result_and_one_population() -> None:
    n, n_genes, part = 50, 400, np.zeros((50, 400), dtype=np.float32)
    part[:, ::5] = 1.5

    def beyond_the_result(n_populations: int) -> int:
        tracemalloc.start()
        cells = PredictedCells(n_populations * n, n_genes, is_sparse=True)
        for _ in range(n_populations):
            cells.add(part)
        found: Any = cells.matrix()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak - sum(array.nbytes for array in (found.data, found.indices, found.indptr))

    few, many = beyond_the_result(20), beyond_the_result(200)
    result = 200 * n * n_genes // 5 * 8
    assert many - few < 0.1 * result
