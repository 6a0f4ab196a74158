"""Predictions of pertcast in the hands of pertpy, scanpy and cell-eval."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp

import pertcast as pc

SINGLES = ["pert_0", "pert_1", "pert_2"]
PAIRS = ["pert_0+pert_1", "pert_0+pert_2", "pert_1+pert_2"]


class Setting(NamedTuple):
    """A screen, and what a model that never saw perturbed cells of type_1 predicts for them."""

    screen: Any
    controls: Any
    real: Any
    predicted: Any
    positive: Any  # the same, cut at 0


@pytest.fixture(scope="module")
def setting() -> Setting:
    screen = pc.data.simulate_screen(
        40, n_genes=60, n_cell_types=2, n_donors=1, n_perturbations=3, combinations=True, effect_size=3,
        median_counts=3000, seed=3,
    )  # fmt: skip
    is_control = (screen.obs["perturbation"] == "control").to_numpy()
    in_target = (screen.obs["cell_type"] == "type_1").to_numpy()
    train = screen[is_control | ~in_target].copy()
    controls, real = screen[is_control & in_target].copy(), screen[~is_control & in_target].copy()
    pc.baselines.PerturbationShift.setup_anndata(
        train, perturbation_key="perturbation", cell_type_key="cell_type", batch_key="batch"
    )
    model = pc.baselines.PerturbationShift(train)
    model.train()
    predicted = model.predict(controls, progressbar=False)
    positive: Any = predicted.copy()
    positive.X = positive.X.maximum(0)
    return Setting(screen, controls, real, predicted, positive)


def cells(adata: Any, perturbation: str, cell_type: str = "type_1") -> np.ndarray:
    here = (adata.obs["perturbation"] == perturbation) & (adata.obs["cell_type"] == cell_type)
    return dense(adata[here.to_numpy()].X)


def cells_of(side: Any, perturbation: str) -> np.ndarray:
    return dense(side[(side.obs["perturbation"] == perturbation).to_numpy()].X)


def dense(X: Any) -> np.ndarray:
    return X.toarray() if sp.issparse(X) else np.asarray(X)


def in_order(X: np.ndarray) -> np.ndarray:
    """Rows in an order of their own, so that two matrices with the same cells are equal."""
    return X[np.lexsort(X.T)]


def seen(setting: Setting, cell_type: str) -> Any:
    """Perturbed cells of a cell type with other noise, in the place of predictions."""
    screen = setting.screen
    here = ((screen.obs["cell_type"] == cell_type) & (screen.obs["perturbation"] != "control")).to_numpy()
    found = screen[here].copy()
    found.X = dense(found.X) * np.random.default_rng(0).uniform(0.5, 1.5, found.shape).astype(np.float32)
    found.X = sp.csr_matrix(found.X)
    return found
