"""What the trained models of a benchmark hold of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.sparse as sp

import pertcast as pc
from pertcast.tl._benchmark import train_models
from pertcast.tl._fit import baseline_classes, fit_models

if TYPE_CHECKING:
    from collections.abc import Callable


def buffer(matrix: Any) -> np.ndarray:
    return matrix.data if sp.issparse(matrix) else matrix


@pytest.mark.parametrize("layout", [sp.csr_matrix, lambda X: X.toarray()], ids=["sparse", "dense"])
def test_all_models_share_one_matrix(layout: Callable[[Any], Any]) -> None:
    adata: Any = pc.data.simulate_screen(8, n_genes=20, n_cell_types=2, n_perturbations=2, combinations=0, seed=0)
    adata.X = layout(adata.X)
    adata.layers["more"] = adata.X.copy()
    view: Any = adata[10:]
    assert view.is_view
    setup = {"cell_type_key": "cell_type"}
    classes = baseline_classes(["PerturbedMean", "PerturbationShift", "NoEffect"])
    sources = fit_models(classes, view, setup, role="baseline", progressbar=False)
    held = [source.model.adata for source in sources]
    assert len({id(each) for each in held}) == len(held) == 3
    for each in held[1:]:
        assert np.shares_memory(buffer(each.X), buffer(held[0].X))
        assert np.shares_memory(buffer(each.layers["more"]), buffer(held[0].layers["more"]))
    assert not any("_scvi" in name for name in view.obs)
    whole = fit_models(classes, adata, setup, role="baseline", progressbar=False)
    assert all(np.shares_memory(buffer(source.model.adata.X), buffer(adata.X)) for source in whole)


def test_models_and_baselines_of_a_benchmark_share_one_matrix() -> None:
    adata = pc.data.simulate_screen(8, n_genes=20, n_cell_types=2, n_perturbations=2, combinations=0, seed=0)
    pc.pp.split(adata, "context", cell_type_key="cell_type", hold_out="type_1")
    _, (model, baseline) = train_models(
        {"shift": pc.baselines.PerturbationShift},
        adata[10:],
        split_key="split",
        setup={"cell_type_key": "cell_type"},
        baselines=["PerturbedMean"],
        train_kwargs=None,
        max_cells=100,
        seed=0,
        progressbar=False,
    )
    assert np.shares_memory(buffer(model.model.adata.X), buffer(baseline.model.adata.X))
