from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from lightning.pytorch.callbacks import Callback

import pertcast as pc

from .conftest import QUICK, SMALL, controls_of, make


class Kill(Callback):
    """Stops the run as a kill would, in the middle of an epoch."""

    def __init__(self, at_step: int) -> None:
        self.at_step = at_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == self.at_step:
            raise KeyboardInterrupt


def test_history_split_and_summary(screen: Any) -> None:
    model = make(screen)
    model.train(max_epochs=3, steps_per_epoch=2, **QUICK)
    assert {"train_loss", "validation_loss", "energy_train", "energy_validation"} <= set(model.history)
    assert len(model.history["train_loss"]) == 3
    assert np.isfinite(model.history["validation_loss"].to_numpy(dtype=float)).all()
    assert model.is_trained
    assert model.split_.kind == "context"
    held = model.split_.validation
    assert not set(model.screen.index.context[held]) & set(model.screen.index.context[model.split_.train])


def test_making_a_model_seeds_no_gpu(screen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    for model in (pc.PerturbDiff, pc.PopulationEncoder, pc.baselines.LatentAdditive):
        model.setup_anndata(screen, cell_type_key="cell_type")
        made: Any = model(screen)
        if model is pc.baselines.LatentAdditive:
            made.train()
    assert not seeded


def test_same_seed_same_weights_whatever_the_global_state(screen: Any) -> None:
    weights = []
    for state in (1, 2):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002
        model = make(screen)
        model.train(max_epochs=1, steps_per_epoch=3, **QUICK)
        weights.append(model.module.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=0, rtol=0)


@pytest.mark.parametrize("make_model", ["PerturbDiff", "PopulationEncoder"])
def test_a_trained_model_survives_an_interrupted_training(
    screen: Any, make_model: str, caplog: pytest.LogCaptureFixture
) -> None:
    cls = getattr(pc, make_model)
    cls.setup_anndata(screen, cell_type_key="cell_type", batch_key="donor")
    model = cls(screen, n_hidden=16, n_layers=1, set_size=8)
    model.train(max_epochs=1, steps_per_epoch=4, **QUICK)
    before, text = {name: value.clone() for name, value in model.module.state_dict().items()}, repr(model)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        model.train(max_epochs=2, steps_per_epoch=4, callbacks=[Kill(6)], **QUICK)
    assert "The model is as it was before" in caplog.text
    assert not model.module.training
    assert repr(model) == text
    for name, value in model.module.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0, msg=name)


def test_interrupted_at_the_gate_a_model_is_as_before(screen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are trained by then, but the gate and the anchor are not chosen."""

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    model = make(screen)
    with monkeypatch.context() as patch:
        patch.setattr("pertcast.model._training.choose_gate", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
        assert not model.is_trained
        with pytest.raises(RuntimeError, match="not trained"):
            model.predict(progressbar=False)
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    split = model.split_
    before: Any = model.predict(progressbar=False).X
    monkeypatch.setattr("pertcast.model._training.choose_gate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.train(max_epochs=1, steps_per_epoch=2, validation_size=0.5, **QUICK)
    assert model.is_trained
    assert model.split_ is split
    after: Any = model.predict(progressbar=False).X
    assert (after != before).nnz == 0


def test_killed_and_resumed_equals_uninterrupted(screen: Any, tmp_path: Path) -> None:
    whole = make(screen)
    whole.train(max_epochs=4, steps_per_epoch=3, checkpoint_dir=tmp_path / "a", **QUICK)
    killed = make(screen)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        killed.train(max_epochs=4, steps_per_epoch=3, checkpoint_dir=tmp_path / "b", callbacks=[Kill(8)], **QUICK)
    resumed = make(screen)
    resumed.train(max_epochs=4, steps_per_epoch=3, ckpt_path=tmp_path / "b" / "last.ckpt", **QUICK)
    expected = whole.module.state_dict()
    for name, value in resumed.module.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=0, rtol=0, msg=name)


def test_save_in_one_process_load_in_another(trained: pc.PerturbDiff, screen: Any, tmp_path: Path) -> None:
    controls = controls_of(screen, "type_0")
    here: Any = trained.predict(controls, ["pert_0"], seed=7, progressbar=False)
    trained.save(tmp_path / "model", overwrite=True)
    controls.write_h5ad(tmp_path / "controls.h5ad")
    code = (
        "import sys, anndata as ad, pertcast as pc\n"
        "model = pc.PerturbDiff.load(sys.argv[1] + '/model', accelerator='cpu')\n"
        "controls = ad.read_h5ad(sys.argv[1] + '/controls.h5ad')\n"
        "model.predict(controls, ['pert_0'], seed=7, progressbar=False).write_h5ad(sys.argv[1] + '/there.h5ad')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env={**os.environ})
    there: Any = ad.read_h5ad(tmp_path / "there.h5ad")
    np.testing.assert_array_equal(here.X.toarray(), there.X.toarray())
    assert list(there.obs["source_cell"]) == list(here.obs["source_cell"])


def test_saved_folder_holds_no_cell(trained: pc.PerturbDiff, tmp_path: Path) -> None:
    trained.save(tmp_path / "model", overwrite=True)
    assert [path.name for path in Path(tmp_path / "model").iterdir()] == ["model.pt"]
    adata: Any = trained.adata
    saved = (tmp_path / "model" / "model.pt").read_bytes()
    assert not any(name.encode() in saved for name in adata.obs_names[:50])
    stored = torch.load(tmp_path / "model" / "model.pt", weights_only=False, map_location="cpu")
    arrays = [value for value in _arrays(stored) if value.dtype.kind in "fiu"]
    cells = adata.X.toarray()
    of_genes = [value for value in arrays if adata.n_vars in value.shape]
    assert len(of_genes) > 10  # weights, axes and means
    assert _cells_among(arrays, cells) == 0
    assert _cells_among([*arrays, cells[:3].astype(np.float64)], cells) == 3
    assert _cells_among([*arrays, cells[3:5].T], cells) == 2
    assert all(adata.n_obs not in value.shape for value in arrays)  # nor anything else for each cell


def _cells_among(arrays: list[np.ndarray], cells: np.ndarray) -> int:
    """How many rows or columns of arrays, or vectors, are one of the cells."""
    known = {row.tobytes() for row in np.ascontiguousarray(cells, dtype=np.float32)}
    n_genes, found = cells.shape[1], 0
    for array in arrays:
        for axis in np.flatnonzero(np.array(array.shape) == n_genes):
            rows = np.moveaxis(array, axis, -1).reshape(-1, n_genes).astype(np.float32)
            found += sum(row.tobytes() in known for row in rows)
    return found


def _arrays(thing: Any) -> list[np.ndarray]:
    if isinstance(thing, np.ndarray):
        return [thing]
    if isinstance(thing, torch.Tensor):
        return [thing.detach().numpy()]
    if isinstance(thing, pd.DataFrame | pd.Series):
        return [thing.to_numpy()]
    if sp.issparse(thing):
        return [thing.toarray()]
    if isinstance(thing, dict):
        return [a for value in thing.values() for a in _arrays(value)]
    if isinstance(thing, list | tuple):
        return [a for value in thing for a in _arrays(value)]
    if hasattr(thing, "__dict__"):
        return _arrays(vars(thing))
    return []


def test_load_with_controls_of_a_new_context(trained: pc.PerturbDiff, screen: Any, tmp_path: Path) -> None:
    trained.save(tmp_path / "model", overwrite=True)
    controls = controls_of(screen, "type_0")
    controls.obs["cell_type"] = pd.Categorical(["a new type"] * controls.n_obs)
    model = pc.PerturbDiff.load(tmp_path / "model", adata=controls, accelerator="cpu")
    predicted = model.predict(perturbations=["pert_0"], progressbar=False)
    assert set(predicted.obs["cell_type"]) == {"a new type"}


def test_forecaster_survives_pickling(trained: pc.PerturbDiff) -> None:
    forecaster: Any = trained.forecaster_
    mean = np.ones(trained.module.representation.n_genes)
    arguments = (("pert_0",), 1.0, mean, "new", "new")
    again = pickle.loads(pickle.dumps(forecaster))
    np.testing.assert_array_equal(again.shift(*arguments, n_control=50), forecaster.shift(*arguments, n_control=50))


@pytest.mark.parametrize("name", ["PerturbDiff", "ConditionalMonge", "PopulationEncoder"])
def test_trained_models_pickle_and_leave_the_global_state_alone(screen: Any, name: str) -> None:
    cls = getattr(pc, name)
    cls.setup_anndata(screen, cell_type_key="cell_type")
    model = cls(screen, n_hidden=16, seed=0)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    assert torch.equal(torch.get_rng_state(), before)
    again = pickle.loads(pickle.dumps(model))
    for key, value in model.module.state_dict().items():
        torch.testing.assert_close(again.module.state_dict()[key], value, atol=0, rtol=0)


def test_training_again_goes_on(screen: Any) -> None:
    model = make(screen)
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    updates = int(model.module.average.n_updates)
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    assert int(model.module.average.n_updates) == updates + 2
    assert model._model_summary_string.count("trained on") == 1


def test_embeddings(trained: pc.PerturbDiff, screen: Any) -> None:
    latent = trained.get_latent_representation(screen)
    module = trained.module
    expected = module.input.clean(torch.from_numpy(screen.X.toarray().astype(np.float32)), module.scale).numpy()
    np.testing.assert_allclose(latent, expected, atol=1e-5)
    populations = trained.get_population_embedding(screen)
    assert len(populations) == screen.obs.groupby(["perturbation", "cell_type", "donor"], observed=True).ngroups
    shuffled = screen[np.random.default_rng(0).permutation(screen.n_obs)].copy()
    again = trained.get_population_embedding(shuffled).loc[populations.index]
    np.testing.assert_allclose(again, populations, atol=1e-5)
    spelled = screen.copy()
    combined = np.flatnonzero(spelled.obs["perturbation"].str.contains("+", regex=False))
    spelled.obs["perturbation"] = spelled.obs["perturbation"].astype(str)
    first, second = spelled.obs["perturbation"].iloc[combined[0]].split("+")
    spelled.obs.iloc[combined[::2], spelled.obs.columns.get_loc("perturbation")] = f"{second} + {first}"
    pd.testing.assert_frame_equal(trained.get_population_embedding(spelled), populations, atol=1e-5)
    assert len(trained.get_population_embedding(spelled, groupby="perturbation")) == 5
    table = trained.get_perturbation_embedding()
    assert list(table.index) == ["pert_0", "pert_1", "pert_2"]
    assert np.isfinite(table.to_numpy()).all()


def test_one_context_and_no_batches(screen: Any) -> None:
    adata = screen[(screen.obs["cell_type"] == "type_1").to_numpy()].copy()
    pc.PerturbDiff.setup_anndata(adata)
    model = pc.PerturbDiff(adata, **SMALL)
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    predicted = model.predict(perturbations=["pert_0"], progressbar=False)
    assert predicted.n_obs == (adata.obs["perturbation"] == "control").sum()


def test_dosages_and_vectors_of_unseen_perturbations() -> None:
    adata = pc.data.simulate_screen(
        12, n_genes=40, n_cell_types=3, n_donors=1, n_perturbations=3, combinations=0, dosages=[0.1, 1.0], seed=2
    )
    rng = np.random.default_rng(0)
    adata.uns["vectors"] = {f"pert_{i}": rng.normal(size=4) for i in range(5)}
    pc.PerturbDiff.setup_anndata(
        adata, cell_type_key="cell_type", dosage_key="dosage", perturbation_embedding_key="vectors"
    )
    model = pc.PerturbDiff(adata, **SMALL)
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    model.module.gate.set(1.0)
    controls = controls_of(adata)
    both = model.predict(controls, ["pert_0"], dosages={"pert_0": [0.1, 1.0]}, progressbar=False)
    assert sorted(set(both.obs["dosage"].astype(float))) == [0.1, 1.0]
    low, high = (both[(both.obs["dosage"].astype(float) == dose).to_numpy()].to_df().mean() for dose in (0.1, 1.0))
    assert np.abs(low - high).max() > 1e-2
    one, other = (
        model.predict(controls, [name], dosages=1.0, progressbar=False).to_df().mean() for name in ("pert_3", "pert_4")
    )
    assert np.abs(one - other).max() > 1e-2


def test_neighbours_speak_for_a_perturbation_that_was_never_measured() -> None:
    adata = pc.data.simulate_screen(12, n_genes=40, n_cell_types=3, n_donors=1, n_perturbations=7, combinations=0)
    rng = np.random.default_rng(0)
    adata.uns["vectors"] = {f"pert_{i}": rng.normal(size=4) for i in range(8)}
    pc.PerturbDiff.setup_anndata(adata, cell_type_key="cell_type", perturbation_embedding_key="vectors")
    model = pc.PerturbDiff(adata, zeros="relu", **SMALL)
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    model.module.gate.set(0.0)
    controls: Any = controls_of(adata, "type_0")
    controls.obs["cell_type"] = "new"
    predicted: Any = model.predict(controls, ["pert_7"], unseen="neighbours", progressbar=False)
    params = predicted.uns["pertcast"]["params"]
    names = params["stand_ins"][0].split(" | ")
    assert (params["unseen"], list(params["unseen_perturbations"]), len(names)) == ("neighbours", ["pert_7"], 5)
    forecaster = model.forecaster_
    assert forecaster is not None
    mean = np.asarray(controls.X.mean(0)).ravel()
    n_control = controls.n_obs
    shifts = [forecaster.shift((name,), 1.0, mean, "new", "all", n_control=n_control) for name in names]
    moved = np.maximum(controls.X.toarray() + np.mean(shifts, axis=0), 0)
    rows = controls.obs_names.get_indexer(predicted.obs["source_cell"])
    np.testing.assert_allclose(predicted.X.toarray(), moved[rows], atol=1e-5)
    model.module.gate.set(1.0)
    alike: Any = [model.predict(controls, ["pert_7"], unseen=u, progressbar=False).X for u in ("error", "neighbours")]
    assert abs(alike[0] - alike[1]).max() > 0.01


def test_a_perturbation_of_the_test_part_is_unknown_without_a_vector(screen: Any) -> None:
    screen.obs["split"] = np.where(screen.obs["perturbation"].astype(str).str.contains("pert_2"), "test", "train")
    pc.PerturbDiff.setup_anndata(screen, cell_type_key="cell_type", split_key="split")
    model = pc.PerturbDiff(screen, **SMALL)
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    with pytest.raises(ValueError, match="'pert_2' has no cells in the training part"):
        model.predict(perturbations=["pert_2"], progressbar=False)
    filled = model.predict(perturbations=["pert_2"], unseen="mean", progressbar=False)
    assert list(filled.uns["pertcast"]["params"]["stand_ins"]) == ["pert_0 | pert_1"]


def test_mudata(screen: Any) -> None:
    import mudata

    mdata = mudata.MuData({"rna": screen})
    for column in ("perturbation", "cell_type", "donor"):
        mdata.obs[column] = screen.obs[column].to_numpy()
    pc.PerturbDiff.setup_mudata(
        mdata,
        perturbation_key="perturbation",
        cell_type_key="cell_type",
        batch_key="donor",
        modalities={"layer": "rna"},
    )
    model = pc.PerturbDiff(mdata, **SMALL)
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    assert model.predict(perturbations=["pert_0"], progressbar=False).n_vars == screen.n_vars


def test_predict_before_train(screen: Any) -> None:
    with pytest.raises(RuntimeError, match=r"model.train\(\)"):
        make(screen).predict(perturbations=["pert_0"])


def test_view_and_repr(screen: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = make(screen)
    model.view_anndata_setup()
    assert "PerturbDiff.setup_anndata" in capsys.readouterr().out
    text = " ".join(repr(model).split())
    assert not capsys.readouterr().out
    index = model.screen.index
    assert text.startswith("PerturbDiff (default) with n_perturbations: ")
    assert "Training status: Not Trained" in text
    assert f"{index.n_cells[index.is_control].sum()} control cells; {len(index.perturbed)} conditions" in text


def test_embeddings_before_train(screen: Any) -> None:
    model = make(screen)
    for method in (model.get_latent_representation, model.get_population_embedding, model.get_perturbation_embedding):
        with pytest.raises(RuntimeError, match=r"not trained, so it has no embeddings.*model\.train\(\)"):
            method()


@pytest.mark.parametrize("name", ["max_epochs", "steps_per_epoch"])
def test_training_needs_a_length(screen: Any, name: str) -> None:
    arguments: Any = {name: 0}
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, but found 0"):
        make(screen).train(**arguments)


def test_a_model_of_ones_own_needs_a_constructor() -> None:
    class Mine(pc.model.PopulationModel): ...

    with pytest.raises(TypeError, match="abstract"):
        Mine()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"n_heads": 3}, "multiple of"),
        ({"set_size": 1}, "set_size is 1"),
        ({"representation": "umap"}, "one of"),
        ({"preset": "huge"}, "Unknown preset"),
        ({"ema_decay": 1.0}, "decay"),
        ({"min_cells": 10_000}, "min_cells"),
    ],
)
def test_bad_hyperparameters(screen: Any, option: dict[str, Any], message: str) -> None:
    pc.PerturbDiff.setup_anndata(screen, cell_type_key="cell_type")
    with pytest.raises(ValueError, match=message):
        pc.PerturbDiff(screen, **option)
