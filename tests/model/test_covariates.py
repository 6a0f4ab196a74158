"""What continuous covariates do to predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pertcast as pc

from .conftest import QUICK, SMALL, controls_of


def predictions(name: str, screen: Any, age: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Cells predicted for controls of the ages ``asked`` by a model that was trained with ``age``."""
    model_class = getattr(pc, name)
    adata = screen.copy()
    adata.obs["age"] = age
    model_class.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor", continuous_covariate_keys=["age"])
    options = {key: value for key, value in SMALL.items() if key != "n_layers" or name != "ConditionalMonge"}
    model = model_class(adata, **options, learning_rate=0.01)
    model.train(max_epochs=1, steps_per_epoch=12, precision="32-true", plan_kwargs={"warmup": 0}, **QUICK)
    model.module.gate.set(1.0)
    controls = controls_of(adata)
    controls.obs["age"] = asked[(adata.obs["perturbation"] == "control").to_numpy()]
    X = model.predict(controls, ["pert_0"], progressbar=False).X
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X)


@pytest.mark.parametrize("name", ["PerturbDiff", "SetTransformer", "FlowMatching", "ConditionalMonge", "Doloris"])
def test_covariates_matter_and_their_units_do_not(name: str, screen: Any) -> None:
    of_donor = np.where(screen.obs["donor"] == screen.obs["donor"].unique()[0], 30.0, 70.0)
    age = of_donor + np.random.default_rng(0).integers(-3, 4, screen.n_obs)
    expected = predictions(name, screen, age, age)
    months = 12 * age + 1200
    np.testing.assert_allclose(predictions(name, screen, months, months), expected, atol=1e-3)
    assert np.abs(predictions(name, screen, age, 100 - age) - expected).max() > 1e-2


@pytest.mark.parametrize("value", [1e-9, 123_456.7])
def test_a_covariate_that_is_the_same_everywhere_is_ignored(value: float, screen: Any) -> None:
    zeros = np.zeros(screen.n_obs)
    expected = predictions("SetTransformer", screen, zeros, zeros)
    np.testing.assert_allclose(predictions("SetTransformer", screen, zeros + value, zeros + value), expected, atol=1e-4)
