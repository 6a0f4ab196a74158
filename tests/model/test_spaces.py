"""Every model in the latent space of an autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import pertcast as pc

from .conftest import QUICK, controls_of

if TYPE_CHECKING:
    from pathlib import Path

MODELS = ["ConditionalMonge", "PerturbDiff"]  # one that moves cells, and one that starts from noise


@pytest.mark.parametrize("name", MODELS)
def test_autoencoder(name: str, screen: Any, tmp_path: Path) -> None:
    getattr(pc, name).setup_anndata(screen, cell_type_key="cell_type", batch_key="donor")
    options: dict[str, Any] = {"n_layers": 1, "n_hidden": 16, "set_size": 16, "n_controls": 16, "zeros": "relu"}
    options |= {"anchor": "none", "learning_rate": 0.01, "seed": 0}
    model = getattr(pc, name)(screen, representation="autoencoder", n_latent=8, **options)
    model.train(max_epochs=2, steps_per_epoch=5, plan_kwargs={"warmup": 0}, **QUICK)
    model.module.gate.set(1.0)
    controls = controls_of(screen, "type_1")
    latent = model.module.representation
    assert latent.n_features == 8
    assert model.module.scale > 0.1 * float(latent.encode(_dense(screen)).std())
    moved = model.predict(controls, ["pert_0"], progressbar=False)
    started = controls[moved.obs["source_cell"].to_numpy()]
    assert np.abs(_array(moved) - _array(started)).max() > 0.01  # through the space and back
    model.save(tmp_path / "model")
    again = (
        getattr(pc, name).load(tmp_path / "model", accelerator="cpu").predict(controls, ["pert_0"], progressbar=False)
    )
    np.testing.assert_array_equal(_array(again), _array(moved))
    model.module.gate.set(0.0)
    same = model.predict(controls, ["pert_0"], progressbar=False)
    if name == "ConditionalMonge":  # PerturbDiff starts from noise
        source = controls[same.obs["source_cell"].to_numpy()]
        np.testing.assert_allclose(_array(same), _array(source), atol=1e-4)


def _array(adata: Any) -> np.ndarray:
    return np.asarray(adata.X.toarray() if hasattr(adata.X, "toarray") else adata.X)


def _dense(adata: Any) -> torch.Tensor:
    return torch.from_numpy(_array(adata).astype(np.float32))
