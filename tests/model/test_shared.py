"""What every model of populations does, whatever its method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import pertcast as pc

from .conftest import QUICK, controls_of

if TYPE_CHECKING:
    from pathlib import Path

SMALL: dict[str, dict[str, Any]] = {
    "ConditionalMonge": {"n_hidden": 16, "n_latent": 12, "set_size": 16, "n_controls": 16, "seed": 0},
    "Doloris": {"n_hidden": 16, "n_layers": 1, "set_size": 16, "n_controls": 16, "seed": 0},
    "FlowMatching": {"n_hidden": 16, "n_layers": 1, "set_size": 16, "n_controls": 16, "seed": 0},
    "SetTransformer": {"n_hidden": 16, "n_layers": 1, "set_size": 16, "n_controls": 16, "seed": 0},
}
IN_GENES_ONLY = {"Doloris"}


def dense(x: Any) -> np.ndarray:
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x)


def by_source(predicted: Any) -> np.ndarray:
    """Predicted matrix, rows sorted by perturbation and source cell."""
    order = predicted.obs.reset_index(drop=True).sort_values(["perturbation", "population", "source_cell"]).index
    return dense(predicted.X)[order.to_numpy()]


def train(name: str, adata: Any, **options: Any) -> Any:
    """A model whose few steps are long enough for what it predicts to depend on the condition."""
    model = getattr(pc, name)(adata, **{"learning_rate": 0.01} | SMALL[name] | options)
    model.train(max_epochs=2, steps_per_epoch=10, plan_kwargs={"warmup": 0}, **QUICK)
    return model


@pytest.fixture(scope="module", params=list(SMALL))
def fitted(request: pytest.FixtureRequest, screen_template: Any) -> Any:
    """A model trained for a few steps without the perturbed cells of one cell type."""
    adata = screen_template.copy()
    held = (adata.obs["cell_type"] == "type_0") & (adata.obs["perturbation"] != "control")
    adata = adata[~held.to_numpy()].copy()
    getattr(pc, request.param).setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    return train(request.param, adata)


def test_unseen_context_from_controls_alone(fitted: Any, screen: Any) -> None:
    controls = controls_of(screen, "type_0")
    controls.obs["cell_type"] = pd.Categorical(["a new type"] * controls.n_obs)
    columns, keys = list(controls.obs), list(controls.uns)
    predicted = fitted.predict(controls, ["pert_0", "pert_1+pert_0"], progressbar=False)
    assert predicted.n_obs == 2 * controls.n_obs
    assert list(predicted.var_names) == list(screen.var_names)
    assert set(predicted.obs["cell_type"]) == {"a new type"}
    assert set(predicted.obs["perturbation"]) == {"pert_0", "pert_1+pert_0"}
    assert predicted.uns["pertcast"]["model"] == type(fitted).__name__
    assert dense(predicted.X).min() >= 0
    assert (list(controls.obs), list(controls.uns)) == (columns, keys)
    a, b = (
        dense(predicted[(predicted.obs["perturbation"] == name).to_numpy()].X) for name in ("pert_0", "pert_1+pert_0")
    )
    assert np.abs(a.mean(0) - b.mean(0)).max() > 1e-2


def test_seed_batch_size_order_and_company(fitted: Any, screen: Any) -> None:
    controls = controls_of(screen, "type_0")
    predicted = fitted.predict(controls, ["pert_0"], seed=3, progressbar=False)
    again = fitted.predict(controls, ["pert_0"], seed=3, progressbar=False)
    np.testing.assert_array_equal(dense(again.X), dense(predicted.X))
    expected = by_source(predicted)
    small = fitted.predict(controls, ["pert_0"], seed=3, batch_size=1, progressbar=False)
    np.testing.assert_allclose(by_source(small), expected, atol=1e-5)
    shuffled = controls[np.random.default_rng(0).permutation(controls.n_obs)].copy()
    shuffled = shuffled[:, np.random.default_rng(1).permutation(controls.n_vars)].copy()
    found = by_source(fitted.predict(shuffled, ["pert_0"], seed=3, progressbar=False))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    more = fitted.predict(screen, ["pert_1", "pert_0"], seed=3, progressbar=False)
    more = more[((more.obs["perturbation"] == "pert_0") & (more.obs["cell_type"] == "type_0")).to_numpy()]
    np.testing.assert_allclose(by_source(more.copy()), expected, atol=1e-5)


def test_save_and_load_without_data(fitted: Any, screen: Any, tmp_path: Path) -> None:
    controls = controls_of(screen, "type_0")
    fitted.save(tmp_path / "model", overwrite=True)
    loaded = type(fitted).load(tmp_path / "model", accelerator="cpu")
    here, there = (model.predict(controls, ["pert_0"], progressbar=False).X for model in (fitted, loaded))
    np.testing.assert_array_equal(dense(here), dense(there))
    message = f"This {type(fitted).__name__} was loaded without its training data"
    with pytest.raises(AttributeError, match=message):
        _ = loaded.screen
    with pytest.raises(ValueError, match=message):
        loaded.train(**QUICK)
    loaded.save(tmp_path / "again", overwrite=True)
    again = type(fitted).load(tmp_path / "again", accelerator="cpu")
    np.testing.assert_array_equal(dense(again.predict(controls, ["pert_0"], progressbar=False).X), dense(here))


def test_key_added(fitted: Any, screen: Any, tmp_path: Path) -> None:
    controls = controls_of(screen, "type_0")
    predicted = fitted.predict(controls, ["pert_1"], key_added="fc", progressbar=False)
    rows = controls.obs_names.get_indexer(predicted.obs["source_cell"])
    np.testing.assert_allclose(dense(controls.obsm["fc_0"])[rows], dense(predicted.X), atol=1e-6)
    assert list(controls.uns["fc"]["perturbations"]) == ["pert_1"]
    predicted.write_h5ad(tmp_path / "predicted.h5ad")
    assert ad.read_h5ad(tmp_path / "predicted.h5ad").uns["pertcast"]["model"] == type(fitted).__name__


def test_unknown_perturbations(fitted: Any, screen: Any) -> None:
    controls = controls_of(screen, "type_0")
    with pytest.raises(ValueError, match="Unknown perturbation 'pert_9'"):
        fitted.predict(controls, ["pert_9"], progressbar=False)
    filled = fitted.predict(controls, ["pert_9"], unseen="mean", progressbar=False)
    assert list(filled.uns["pertcast"]["params"]["stand_ins"]) == ["pert_0 | pert_1 | pert_2"]


def test_embeddings_and_history(fitted: Any, screen: Any) -> None:
    latent = fitted.get_latent_representation(screen)
    assert latent.shape[0] == screen.n_obs
    assert np.isfinite(latent).all()
    some = fitted.get_latent_representation(screen, [7, 2, 7], batch_size=2)
    np.testing.assert_allclose(some, latent[[7, 2, 7]], rtol=1e-5, atol=1e-6)
    mask = np.arange(screen.n_obs) < 5
    np.testing.assert_allclose(fitted.get_latent_representation(screen, mask), latent[:5], rtol=1e-5, atol=1e-6)
    assert fitted.get_latent_representation(screen, []).shape == (0, latent.shape[1])
    for wrong in ([screen.n_obs], [-1], [0.5], [[0]], ["cell"], mask[:3]):
        with pytest.raises(ValueError, match="`indices` must be row numbers from 0 to"):
            fitted.get_latent_representation(screen, wrong)
    assert list(fitted.get_perturbation_embedding().index) == ["pert_0", "pert_1", "pert_2"]
    assert len(fitted.history["train_loss"]) == len(fitted.history["validation_loss"]) == 2
    assert "trained on" in fitted._model_summary_string


@pytest.mark.parametrize("name", list(SMALL))
def test_same_seed_same_weights_whatever_the_global_state(name: str, screen: Any) -> None:
    weights = []
    getattr(pc, name).setup_anndata(screen, cell_type_key="cell_type", batch_key="donor")
    for state in (1, 2):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002
        weights.append(train(name, screen).module.state_dict())
    for key, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][key], atol=0, rtol=0)


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize(("representation", "anchor"), [("genes", "none"), ("pca", "shift")])
def test_spaces_and_anchor(name: str, representation: str, anchor: str, screen: Any) -> None:
    getattr(pc, name).setup_anndata(screen, cell_type_key="cell_type")
    space = {} if name in IN_GENES_ONLY else {"representation": representation, "n_latent": 12}
    model = train(name, screen, anchor=anchor, zeros="relu", **space)
    model.module.gate.set(0.0)
    controls = controls_of(screen, "type_1")
    predicted = model.predict(controls, ["pert_0"], progressbar=False)
    rows = dense(controls[predicted.obs["source_cell"].to_numpy()].X)
    cells = dense(predicted.X)
    shift = np.array(
        [
            np.median((after - before)[after > 0]) if after.any() else -9.0
            for after, before in zip(cells.T, rows.T, strict=True)
        ]
    )
    assert (np.abs(shift[cells.any(0)]).max() > 0.1) == (anchor == "shift")
    np.testing.assert_allclose(cells, np.maximum(rows + shift, 0), atol=1e-4)


@pytest.mark.parametrize("name", list(SMALL))
def test_vectors_and_dosages(name: str) -> None:
    adata = pc.data.simulate_screen(
        12, n_genes=40, n_cell_types=3, n_donors=1, n_perturbations=3, combinations=0, dosages=[0.1, 1.0], seed=2
    )
    rng = np.random.default_rng(0)
    adata.uns["vectors"] = {f"pert_{i}": rng.normal(size=4) for i in range(5)}
    getattr(pc, name).setup_anndata(
        adata, cell_type_key="cell_type", dosage_key="dosage", perturbation_embedding_key="vectors"
    )
    model = train(name, adata)
    controls = controls_of(adata)
    both = model.predict(controls, ["pert_0"], dosages={"pert_0": [0.1, 1.0]}, progressbar=False)
    low, high = (dense(both[(both.obs["dosage"].astype(float) == dose).to_numpy()].X) for dose in (0.1, 1.0))
    assert np.abs(low.mean(0) - high.mean(0)).max() > 1e-2
    unseen = [dense(model.predict(controls, [each], dosages=1.0, progressbar=False).X) for each in ("pert_3", "pert_4")]
    assert np.abs(unseen[0].mean(0) - unseen[1].mean(0)).max() > 1e-2


@pytest.mark.parametrize("name", list(SMALL))
def test_benchmark(name: str, screen: Any) -> None:
    pc.pp.split(screen, "context", cell_type_key="cell_type", seed=0)
    scores = pc.tl.benchmark(
        [getattr(pc, name)],
        screen,
        split_key="split",
        setup={"cell_type_key": "cell_type"},
        baselines=["PerturbationShift"],
        metrics="energy_distance",
        train_kwargs={"max_epochs": 1, "steps_per_epoch": 2, **QUICK},
        progressbar=False,
    )
    found = scores[scores["model"] == name]["value"]
    assert len(found)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize(("option", "message"), [({"set_size": 1}, "set_size is 1"), ({"zeros": "no"}, "one of")])
def test_bad_hyperparameters(name: str, option: dict[str, Any], message: str, screen: Any) -> None:
    getattr(pc, name).setup_anndata(screen, cell_type_key="cell_type")
    with pytest.raises(ValueError, match=message):
        getattr(pc, name)(screen, **option)


@pytest.mark.parametrize("name", [*SMALL, "PopulationEncoder"])
@pytest.mark.parametrize("argument", ["max_epochs", "steps_per_epoch"])
def test_training_needs_a_length(name: str, argument: str, screen: Any) -> None:
    getattr(pc, name).setup_anndata(screen, cell_type_key="cell_type")
    model = getattr(pc, name)(screen)
    arguments: Any = {argument: 0}
    with pytest.raises(ValueError, match=f"`{argument}` must be at least 1, but found 0"):
        model.train(**arguments)
    assert not model.is_trained_
