from __future__ import annotations

from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from pertcast import pl as plots

pl: Any = plots


@pytest.fixture
def trajectory(cells: dict[str, Any]) -> anndata.AnnData:
    """Three cells in two steps from 0 to predicted cells."""
    ends = cells["predicted"].X[:3]
    X = np.concatenate([share * ends for share in (0.0, 0.5, 1.0)])
    obs = pd.DataFrame({"step": np.repeat([0, 1, 2], 3), "cell": np.tile(["a", "b", "c"], 3)}, index=list("abcdefghi"))
    return anndata.AnnData(X, obs=obs, var=cells["real"].var)


def plane(cells: dict[str, Any]) -> PCA:
    return PCA(2, random_state=0).fit(np.concatenate([cells["control"].X, cells["real"].X]))


def test_paths_lie_in_the_plane_of_the_real_cells(trajectory: anndata.AnnData, cells: dict[str, Any]) -> None:
    ax = pl.denoising_trajectory(trajectory[::-1], cells["real"], cells["control"])
    expected = plane(cells).transform(trajectory.X).reshape(3, 3, 2)  # step, cell, axis
    np.testing.assert_allclose(ax.collections[2].get_offsets(), expected[0], atol=1e-9)  # noise
    np.testing.assert_allclose(ax.collections[3].get_offsets(), expected[-1], atol=1e-9)
    segments = [line.get_xydata() for line in ax.get_lines()]
    assert len(segments) == 6
    np.testing.assert_allclose(segments[0], expected[:2, 0], atol=1e-9)
    np.testing.assert_allclose(segments[1], expected[1:, 0], atol=1e-9)


def test_background_is_control_and_measured_cells(trajectory: anndata.AnnData, cells: dict[str, Any]) -> None:
    ax = pl.denoising_trajectory(trajectory, cells["real"], cells["control"], max_paths=1)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), plane(cells).transform(cells["control"].X), atol=1e-9)
    np.testing.assert_allclose(ax.collections[1].get_offsets(), plane(cells).transform(cells["real"].X), atol=1e-9)
    assert len(ax.get_lines()) == 2
    assert len(ax.collections[3].get_offsets()) == 3


def test_incomplete_paths(trajectory: anndata.AnnData, cells: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="3 steps and 2 to 3 rows for a cell"):
        pl.denoising_trajectory(trajectory[:-1], cells["real"], cells["control"])
