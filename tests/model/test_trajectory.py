from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import pertcast as pc

from .conftest import controls_of


def test_states_lead_from_noise_to_the_prediction(trained: Any, screen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained.module, "config", replace(trained.module.config, zeros="relu"))
    controls = controls_of(screen, "type_0")
    found = trained.get_denoising_trajectory(controls, "pert_0", n_steps=4, seed=3)
    predicted = trained.predict(controls, "pert_0", n_steps=4, n_cells=16, seed=3, progressbar=False)
    assert found.obs["step"].value_counts().to_dict() == dict.fromkeys(range(5), 16)
    assert found.obs["cell"].value_counts().unique().tolist() == [5]
    times = found.obs.groupby("step")["time"].unique().explode().to_numpy(float)
    assert (times[0], times[-1]) == (1, 0)
    assert (np.diff(times) < 0).all()
    last = found[(found.obs["step"] == 4).to_numpy()]
    assert np.allclose(in_order(last.X), in_order(predicted.X.toarray()), atol=1e-5)


def test_first_state_is_noise_and_predictions_are_layers(trained: Any, screen: Any) -> None:
    found = trained.get_denoising_trajectory(controls_of(screen, "type_0"), "pert_0", n_steps=3)
    steps = [found[(found.obs["step"] == step).to_numpy()] for step in range(4)]
    scale = float(trained.module.scale)
    assert steps[0].X.std() == pytest.approx(scale, rel=0.1)  # standard normal, in units of the data
    assert abs(steps[0].X.mean()) < 0.1 * scale
    np.testing.assert_array_equal(steps[3].X, steps[2].layers["denoised"])
    np.testing.assert_array_equal(steps[3].X, steps[3].layers["denoised"])


def test_one_step_goes_at_once(trained: Any, screen: Any) -> None:
    found = trained.get_denoising_trajectory(controls_of(screen, "type_0"), "pert_0", n_steps=1)
    assert found.obs["step"].unique().tolist() == [0, 1]


def test_needs_one_condition(trained: Any, screen: Any) -> None:
    with pytest.raises(ValueError, match="one context, but 4 were asked for"):
        trained.get_denoising_trajectory(controls_of(screen), "pert_0")
    with pytest.raises(ValueError, match="one perturbation and dosage, but"):
        trained.get_denoising_trajectory(controls_of(screen), context="type_0")
    with pytest.raises(ValueError, match="`n_steps` must be at least 1"):
        trained.get_denoising_trajectory(controls_of(screen), "pert_0", context="type_0", n_steps=0)


def test_unknown_perturbations_are_refused(trained: Any, screen: Any) -> None:
    with pytest.raises(ValueError, match="Unknown perturbation 'pert_9'"):
        trained.get_denoising_trajectory(controls_of(screen, "type_0"), "pert_9")


def test_untrained(screen: Any) -> None:
    pc.PerturbDiff.setup_anndata(screen, cell_type_key="cell_type")
    with pytest.raises(RuntimeError, match="not trained"):
        pc.PerturbDiff(screen).get_denoising_trajectory(perturbation="pert_0")


def in_order(X: np.ndarray) -> np.ndarray:
    return X[np.lexsort(X.T)]
