"""All models and baselines are set up, trained and asked by the same calls."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import pertcast as pc

MODELS = ["PerturbDiff", "SetTransformer", "FlowMatching", "ConditionalMonge", "Doloris", "Unlasting"]
BASELINES = [name for name in pc.baselines.__all__ if not inspect.isabstract(getattr(pc.baselines, name))]
PREDICT: dict[str, Any] = {
    "adata": None,
    "perturbations": None,
    "n_cells": None,
    "n_populations": 1,
    "n_steps": None,
    "guidance_scale": None,
    "dosages": None,
    "contexts": None,
    "seed": 0,
    "batch_size": None,
    "key_added": None,
    "progressbar": True,
    "unseen": "error",
}


def named(name: str) -> Any:
    return getattr(pc, name, None) or getattr(pc.baselines, name)


@pytest.mark.parametrize("name", [*MODELS, *BASELINES])
def test_arguments(name: str) -> None:
    given = inspect.signature(named(name).predict).parameters
    assert {key: given[key].default for key in PREDICT} == PREDICT
    assert [key for key in given if key in PREDICT] == list(PREDICT)
    train = inspect.signature(named(name).train).parameters
    assert list(train)[1:4] == ["max_epochs", "accelerator", "devices"]
    assert [train[key].default for key in list(train)[1:4]] == [None, "auto", "auto"]
    assert inspect.signature(named(name).setup_anndata) == inspect.signature(pc.PerturbDiff.setup_anndata)


@pytest.mark.parametrize("name", ["SetTransformer", "Doloris", "PerturbationShift", "LatentAdditive"])
def test_one_call_for_all_and_no_options_in_vain(name: str) -> None:
    adata = pc.data.simulate_screen(12, n_genes=30, n_perturbations=2, combinations=0, seed=0)
    adata.var_names = ["pert_0", "pert_1", *adata.var_names[2:]]
    controls = adata[(adata.obs["perturbation"] == "control").to_numpy()].copy()
    named(name).setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    model = named(name)(adata)
    short: Any = {"steps_per_epoch": 2, "enable_progress_bar": False} if name in MODELS else {}
    model.train(max_epochs=1, accelerator="cpu", **short)
    neutral: Any = {"n_steps": None, "guidance_scale": None, "unseen": "error"}
    predicted = model.predict(controls, ["pert_0"], seed=0, progressbar=False, **neutral)
    assert predicted.n_obs == controls.n_obs
    with pytest.raises(ValueError, match=f"{name} has no use for guidance_scale=2.0"):
        model.predict(controls, ["pert_0"], guidance_scale=2.0, progressbar=False)
    if name == "Doloris":
        two = model.predict(controls, ["pert_0"], n_steps=2, progressbar=False)
        assert (predicted.uns["pertcast"]["steps"], two.uns["pertcast"]["steps"]) == (10, 2)
    else:
        with pytest.raises(ValueError, match=f"{name} has no use for n_steps=2"):
            model.predict(controls, ["pert_0"], n_steps=2, progressbar=False)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_let_nothing_stand_in(name: str) -> None:
    adata = pc.data.simulate_screen(12, n_genes=30, n_perturbations=2, combinations=0, seed=0)
    adata.var_names = ["pert_0", "pert_1", *adata.var_names[2:]]
    named(name).setup_anndata(adata, cell_type_key="cell_type")
    model = named(name)(adata)
    model.train(**({"max_steps": 1} if "Latent" in name else {}))
    with pytest.raises(ValueError, match=f"{name} has no use for unseen='mean': baselines predict only what they can"):
        model.predict(perturbations=["pert_0"], unseen="mean", progressbar=False)
    with pytest.raises(ValueError, match="'other'.*`perturbation_embedding_key`") as caught:
        model.predict(perturbations=["other"], progressbar=False)
    assert "unseen=" not in str(caught.value)
