from __future__ import annotations

from typing import Any

import pytest

import pertcast as pc

QUICK: dict[str, Any] = {"enable_progress_bar": False, "accelerator": "cpu"}
SMALL: dict[str, Any] = {"n_hidden": 16, "n_layers": 1, "set_size": 8, "n_controls": 8, "seed": 0}


def make(screen: Any, **options: Any) -> pc.PerturbDiff:
    pc.PerturbDiff.setup_anndata(screen, cell_type_key="cell_type", batch_key="donor")
    return pc.PerturbDiff(screen, **SMALL | options)


@pytest.fixture(scope="session")
def screen_template() -> Any:
    """4 cell types x 2 donors x 3 perturbations and one combination, 60 genes."""
    return pc.data.simulate_screen(
        16, n_genes=60, n_cell_types=4, n_donors=2, n_perturbations=3, combinations=1, n_programmes=4, seed=1
    )


@pytest.fixture
def screen(screen_template: Any) -> Any:
    return screen_template.copy()


def controls_of(adata: Any, cell_type: str | None = None) -> Any:
    keep = adata.obs["perturbation"] == "control"
    if cell_type is not None:
        keep &= adata.obs["cell_type"] == cell_type
    return adata[keep.to_numpy()].copy()


@pytest.fixture(scope="session")
def trained(screen_template: Any) -> pc.PerturbDiff:
    """A model trained for a few steps without the perturbed cells of one cell type."""
    adata = screen_template.copy()
    held = (adata.obs["cell_type"] == "type_0") & (adata.obs["perturbation"] != "control")
    adata = adata[~held.to_numpy()].copy()
    pc.PerturbDiff.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    model = pc.PerturbDiff(adata, n_hidden=32, n_layers=1, set_size=16, n_controls=16, seed=0)
    model.train(max_epochs=2, steps_per_epoch=5, **QUICK)
    model.module.gate.set(1.0)
    return model
