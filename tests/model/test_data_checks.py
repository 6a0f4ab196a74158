"""Data that changed, or are not what the user says, are refused when the model is made or given cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scanpy as sc

import pertcast as pc

from .conftest import QUICK, controls_of

if TYPE_CHECKING:
    from pathlib import Path

SMALL: dict[str, Any] = {"n_hidden": 16, "n_layers": 1, "seed": 0}
KEYS: dict[str, Any] = {"cell_type_key": "cell_type", "batch_key": "donor"}


@pytest.mark.parametrize("name", ["PerturbDiff", "PopulationEncoder"])
def test_genes_that_changed_after_registration(screen: Any, name: str) -> None:
    getattr(pc, name).setup_anndata(screen, **KEYS)
    gone = screen.var_names[0]
    sc.pp.filter_genes(screen, min_cells=int((screen.X > 0).sum(0).min()) + 1)
    assert gone in screen.var_names or screen.n_vars < 60
    with pytest.raises(ValueError, match=r"genes changed since `setup_anndata`: .* 60 were registered; gone: .*again"):
        getattr(pc, name)(screen, **SMALL)
    getattr(pc, name).setup_anndata(screen, **KEYS)
    getattr(pc, name)(screen, **SMALL)
    screen.var_names = [*screen.var_names[:-1], "renamed"]
    with pytest.raises(ValueError, match="new: 'renamed'"):
        getattr(pc, name)(screen, **SMALL)


@pytest.mark.parametrize("name", ["PerturbDiff", "PopulationEncoder"])
def test_nonnegative_is_checked(screen: Any, name: str) -> None:
    screen.X = screen.X.toarray() - 0.5
    getattr(pc, name).setup_anndata(screen, **KEYS)
    with pytest.raises(ValueError, match=r"`nonnegative=True` says .* the data go down to -0\.5\. Leave `nonnegative`"):
        getattr(pc, name)(screen, nonnegative=True, **SMALL)
    assert not getattr(pc, name)(screen, **SMALL).module.nonnegative


def test_negative_cells_given_to_a_saved_model(trained: pc.PerturbDiff, screen: Any, tmp_path: Path) -> None:
    trained.save(tmp_path / "model")
    controls = controls_of(screen, "type_0")
    controls.X = controls.X.toarray() - 0.1
    assert pc.PerturbDiff.load(tmp_path / "model", adata=controls, accelerator="cpu").module.nonnegative


@pytest.mark.parametrize("sparse", [True, False])
def test_one_gene(screen: Any, sparse: bool) -> None:
    names = screen.obs["perturbation"].to_numpy()
    treated, control = (np.asarray(screen.X[names == name].mean(0)).ravel() for name in ("pert_0", "control"))
    gene = np.abs(treated - control).argmax()
    screen = screen[:, gene].copy()
    screen.X = screen.X if sparse else screen.X.toarray()
    pc.PerturbDiff.setup_anndata(screen, **KEYS)
    model = pc.PerturbDiff(screen, **SMALL)
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    predicted = model.predict(controls_of(screen), ["pert_0"], progressbar=False)
    assert predicted.shape == ((names == "control").sum(), 1)
    mean = float(predicted.to_df().to_numpy().mean())
    assert abs(mean - treated[gene]) < 0.5 * abs(control[gene] - treated[gene])


def test_controls_alone_cannot_be_trained_on(trained: pc.PerturbDiff, screen: Any, tmp_path: Path) -> None:
    trained.save(tmp_path / "model")
    controls = controls_of(screen)
    model = pc.PerturbDiff.load(tmp_path / "model", adata=controls, accelerator="cpu")
    with pytest.raises(ValueError, match=f"no perturbed cells to train on: the data hold {controls.n_obs} control"):
        model.train(max_epochs=1, **QUICK)


@pytest.mark.parametrize("method", ["get_latent_representation", "get_population_embedding"])
def test_embeddings_refuse_what_predict_refuses(trained: pc.PerturbDiff, screen: Any, method: str) -> None:
    def refused(cells: Any, error: Any, message: str) -> None:
        with pytest.raises(error, match=message):
            getattr(trained, method)(cells)
        with pytest.raises(error, match=message):
            trained.predict(cells, ["pert_0"], progressbar=False)

    counts = screen.copy()
    counts.X = counts.layers["counts"].copy()
    refused(counts, ValueError, "raw counts")
    missing = controls_of(screen)
    missing.X = missing.X.toarray()
    missing.X[3, 4] = np.nan
    refused(missing, ValueError, "1 NaN or infinite value")
    empty = screen.copy()
    empty.X = None
    refused(empty, ValueError, "adata.X is empty")
    refused(screen[:, 1:].copy(), ValueError, "1 of the 60 genes")
    refused(screen.to_df(), TypeError, "Expected an AnnData")


def test_embedding_needs_labels_and_columns(trained: pc.PerturbDiff, screen: Any) -> None:
    screen.obs.loc[screen.obs_names[:3], "donor"] = np.nan
    with pytest.raises(ValueError, match="Column 'donor' has no label for 3 of"):
        trained.get_population_embedding(screen)
    assert len(trained.get_population_embedding(screen, groupby="cell_type")) == 4
    with pytest.raises(KeyError, match="Did you mean 'cell_type'"):
        trained.get_population_embedding(screen, groupby="celltype")
    with pytest.raises(ValueError, match="`groupby` is empty"):
        trained.get_population_embedding(screen, groupby=[])
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        trained.get_latent_representation(screen, batch_size=0)


@pytest.mark.parametrize("name", ["ConditionalMonge", "Doloris", "PerturbDiff"])
@pytest.mark.parametrize("vectors", [False, True])
def test_only_known_perturbations_have_an_embedding(screen: Any, name: str, vectors: bool) -> None:
    """One perturbation is only tested, another too rare: neither is trained on."""
    perturbation = screen.obs["perturbation"].astype(str)
    screen.obs["perturbation"] = perturbation.replace("pert_0+pert_2", "pert_0")
    rare = np.flatnonzero(screen.obs["perturbation"] == "pert_1")[1:]
    screen = screen[np.setdiff1d(np.arange(screen.n_obs), rare)].copy()
    screen.obs["split"] = np.where(screen.obs["perturbation"] == "pert_2", "test", "train")
    table = {} if not vectors else {"perturbation_embedding_key": "vectors"}
    screen.uns["vectors"] = {f"pert_{i}": np.random.default_rng(i).normal(size=4) for i in range(4)}
    model_class = getattr(pc, name)
    model_class.setup_anndata(screen, split_key="split", **KEYS, **table)
    with pytest.warns(UserWarning, match="skipped"):
        model = model_class(screen, **SMALL)
    assert "n_perturbations: 1" in repr(model)
    model.train(max_epochs=1, steps_per_epoch=1, **QUICK)
    assert "n_perturbations: 1" in repr(model)
    known = [f"pert_{i}" for i in range(4)] if vectors else ["pert_0"]
    assert list(model.get_perturbation_embedding().index) == known


def test_the_text_of_a_loaded_model_says_how_it_was_trained(trained: pc.PerturbDiff, tmp_path: Path) -> None:
    trained.save(tmp_path / "model")
    loaded = pc.PerturbDiff.load(tmp_path / "model", accelerator="cpu")
    assert loaded._model_summary_string == trained._model_summary_string
    assert "gate: " in repr(loaded)
    assert "Training status: Trained" in repr(loaded)


@pytest.mark.parametrize("name", ["PerturbDiff", "SetTransformer"])
def test_controls_below_zero_are_refused_where_expression_cannot_be(screen: Any, name: str) -> None:
    cls = getattr(pc, name)
    cls.setup_anndata(screen, cell_type_key="cell_type")
    model = cls(screen, n_hidden=16, n_layers=1, set_size=8, seed=0)
    model.train(max_epochs=1, steps_per_epoch=1, **QUICK)
    controls = controls_of(screen, "type_1")
    controls.X = controls.X.toarray() - 0.05
    with pytest.raises(ValueError, match=r"control cells go down to -0.05, but the model"):
        model.predict(controls, ["pert_0"], progressbar=False)
