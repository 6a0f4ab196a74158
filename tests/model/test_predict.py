from __future__ import annotations

from dataclasses import replace
from itertools import combinations
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


def dense(x: Any) -> np.ndarray:
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x)


def by_source(predicted: Any) -> np.ndarray:
    """Predicted matrix, rows sorted by perturbation and source cell."""
    order = predicted.obs.reset_index(drop=True).sort_values(["perturbation", "population", "source_cell"]).index
    return dense(predicted.X)[order.to_numpy()]


def test_unseen_context_from_controls_alone(trained: pc.PerturbDiff, screen: Any) -> None:
    controls = controls_of(screen, "type_0")
    columns, keys = list(controls.obs), list(controls.uns)
    predicted = trained.predict(controls, ["pert_0", "pert_1"], progressbar=False)
    assert predicted.n_obs == 2 * controls.n_obs
    assert list(predicted.var_names) == list(screen.var_names)
    assert set(predicted.obs["perturbation"]) == {"pert_0", "pert_1"}
    assert set(predicted.obs["cell_type"]) == {"type_0"}
    assert sorted(predicted.obs["source_cell"]) == sorted([*controls.obs_names, *controls.obs_names])
    assert dense(predicted.X).min() >= 0
    assert predicted.uns["pertcast"]["model"] == "PerturbDiff"
    assert predicted.uns["pertcast"]["steps"] == 1
    assert list(controls.obs) == columns
    assert list(controls.uns) == keys


def test_a_whole_screen_gives_the_same_as_its_controls(trained: pc.PerturbDiff, screen: Any) -> None:
    whole = trained.predict(screen, "pert_0", progressbar=False)
    alone = trained.predict(controls_of(screen), "pert_0", progressbar=False)
    np.testing.assert_array_equal(by_source(whole), by_source(alone))


def test_prediction_ignores_order_batch_size_and_company(trained: pc.PerturbDiff, screen: Any) -> None:
    controls = controls_of(screen, "type_0")
    expected = by_source(trained.predict(controls, ["pert_0"], progressbar=False))
    shuffled = controls[np.random.default_rng(0).permutation(controls.n_obs)].copy()
    np.testing.assert_allclose(by_source(trained.predict(shuffled, ["pert_0"], progressbar=False)), expected, atol=1e-5)
    small = trained.predict(controls, ["pert_0"], batch_size=1, progressbar=False)
    np.testing.assert_allclose(by_source(small), expected, atol=1e-5)
    genes = controls[:, np.random.default_rng(1).permutation(controls.n_vars)].copy()
    np.testing.assert_allclose(by_source(trained.predict(genes, ["pert_0"], progressbar=False)), expected, atol=1e-5)
    more = trained.predict(screen, ["pert_1", "pert_0"], progressbar=False)
    more = more[((more.obs["perturbation"] == "pert_0") & (more.obs["cell_type"] == "type_0")).to_numpy()]
    np.testing.assert_allclose(by_source(more.copy()), expected, atol=1e-5)


def test_seed_repeats_and_matters(trained: pc.PerturbDiff, screen: Any) -> None:
    controls = controls_of(screen, "type_0")
    first, again, other = (
        dense(trained.predict(controls, ["pert_0"], seed=seed, progressbar=False).X) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_closed_gate_is_the_anchor(trained: pc.PerturbDiff, screen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the gate at 0, cells are control cells plus the forecast shift of their population, cut at 0.

    With zeros restored, the population has the mean of the anchor without the cut.
    """
    controls = controls_of(screen, "type_0")
    controls = controls[(controls.obs["donor"] == controls.obs["donor"].iloc[0]).to_numpy()].copy()
    trained.module.gate.set(0.0)
    try:
        sparse = trained.predict(controls, ["pert_2"], progressbar=False)
        with monkeypatch.context() as patch:
            patch.setattr(trained.module, "config", replace(trained.module.config, zeros="relu"))
            predicted = trained.predict(controls, ["pert_2"], progressbar=False)
    finally:
        trained.module.gate.set(1.0)
    mean = dense(controls.X).mean(0, dtype=float)
    forecaster = trained.forecaster_
    assert forecaster is not None
    batch = str(controls.obs["donor"].iloc[0])
    shift = forecaster.shift(("pert_2",), 1.0, mean, "type_0", batch, n_control=controls.n_obs)
    expected = np.maximum(dense(controls[predicted.obs["source_cell"].to_numpy()].X) + shift, 0)
    np.testing.assert_allclose(dense(predicted.X), expected, atol=1e-4)
    wanted = np.maximum(mean + shift, 0)
    error = np.abs(dense(sparse.X).mean(0) - wanted)
    assert np.median(error) < 0.02
    assert error.mean() < np.abs(expected.mean(0) - wanted).mean()
    share = [(dense(x) == 0).mean() for x in (controls.X, sparse.X, predicted.X)]
    assert abs(share[1] - share[0]) < 0.05 < share[0] - share[2]


def test_combinations_in_any_order(trained: pc.PerturbDiff, screen: Any) -> None:
    controls = controls_of(screen, "type_0")
    one, two = (trained.predict(controls, [name], progressbar=False) for name in ("pert_0+pert_2", "pert_2+pert_0"))
    np.testing.assert_array_equal(dense(one.X), dense(two.X))


def test_n_cells_and_populations(trained: pc.PerturbDiff, screen: Any) -> None:
    controls = controls_of(screen, "type_0")
    predicted = trained.predict(controls, ["pert_0"], n_cells=50, n_populations=2, progressbar=False)
    assert predicted.n_obs == 100
    assert predicted.obs["population"].astype(int).value_counts().to_dict() == {0: 50, 1: 50}
    a, b = (dense(predicted[(predicted.obs["population"] == i).to_numpy()].X) for i in (0, 1))
    assert not np.allclose(a.mean(0), b.mean(0))


def test_key_added(trained: pc.PerturbDiff, screen: Any, tmp_path: Path) -> None:
    controls = controls_of(screen, "type_0")
    names = ["pert_1", "pert_0"]
    predicted = trained.predict(controls, names, key_added="fc", progressbar=False)
    assert list(controls.uns["fc"]["perturbations"]) == names
    for number, name in enumerate(names):
        part = predicted[(predicted.obs["perturbation"] == name).to_numpy()]
        aligned = dense(part.X)[part.obs["source_cell"].argsort().to_numpy()]
        found = dense(controls.obsm[f"fc_{number}"])[controls.obs_names.argsort()]
        np.testing.assert_allclose(found, aligned, atol=1e-6)
    assert {"perturbation", "gene", "shift"} <= set(controls.uns["fc"]["effects"].columns)
    controls.write_h5ad(tmp_path / "controls.h5ad")
    predicted.write_h5ad(tmp_path / "predicted.h5ad")
    assert ad.read_h5ad(tmp_path / "predicted.h5ad").n_obs == predicted.n_obs


def test_more_steps_and_samplers_give_cells(screen: Any) -> None:
    pc.PerturbDiff.setup_anndata(screen, cell_type_key="cell_type", batch_key="donor")
    options: dict[str, Any] = {"condition_dropout": 0.5, "self_conditioning": 0.5, "learning_rate": 0.01, "seed": 0}
    found: list[np.ndarray] = []
    for sampler in ("ddim", "ancestral", "dpmpp_2m"):
        model = pc.PerturbDiff(screen, n_hidden=16, n_layers=1, sampler=sampler, zeros="relu", **options)
        model.train(max_epochs=2, steps_per_epoch=10, plan_kwargs={"warmup": 0}, **QUICK)
        model.module.gate.set(1.0)
        predicted = model.predict(
            controls_of(screen, "type_1"), ["pert_0"], n_steps=4, guidance_scale=0.5, seed=0, progressbar=False
        )
        assert predicted.uns["pertcast"]["steps"] == 4
        found.append(dense(predicted.X))
    # The same weights and the same noise at the start: three ways through the same steps end near each other.
    for one, other in combinations(found, 2):
        assert np.abs(one - other).max() > 1e-3
        np.testing.assert_allclose(one.mean(0), other.mean(0), atol=0.1)


def test_pca_representation_and_reference_preset(screen: Any) -> None:
    pc.PerturbDiff.setup_anndata(screen, cell_type_key="cell_type", batch_key="donor")
    controls = controls_of(screen, "type_1")
    model = pc.PerturbDiff(screen, representation="pca", n_latent=12, n_hidden=16, n_layers=1)
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    assert dense(model.predict(controls, ["pert_0"], progressbar=False).X).min() >= 0
    space: Any = model.module.representation
    axes = space.axes
    kept = axes[:, axes.norm(dim=0) > 0]
    torch.testing.assert_close(kept.T @ kept, torch.eye(kept.shape[1]), atol=1e-4, rtol=0)

    reference = pc.PerturbDiff(screen, preset="reference", n_hidden=16, n_layers=1, set_size=8, n_steps=3)
    reference.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    predicted = reference.predict(controls, ["pert_0"], progressbar=False)
    assert predicted.uns["pertcast"]["guidance_scale"] == 1.0
    stranger = controls.copy()
    stranger.obs["cell_type"] = "unheard of"
    with pytest.raises(ValueError, match="embeds the identity of every context"):
        reference.predict(stranger, ["pert_0"], progressbar=False)


def test_unseen_perturbations_are_errors_unless_asked_for(trained: pc.PerturbDiff, screen: Any) -> None:
    controls = controls_of(screen, "type_0")
    with pytest.raises(ValueError, match="Unknown perturbation 'pert_9'"):
        trained.predict(controls, ["pert_9"], progressbar=False)
    filled = trained.predict(controls, ["pert_9"], unseen="mean", progressbar=False)
    assert list(filled.uns["pertcast"]["params"]["unseen_perturbations"]) == ["pert_9"]
    with pytest.raises(ValueError, match="needs vectors"):
        trained.predict(controls, ["pert_0"], unseen="neighbours", progressbar=False)
    with pytest.raises(ValueError, match="condition_dropout"):
        trained.predict(controls, ["pert_0"], guidance_scale=1.0, progressbar=False)
    with pytest.raises(ValueError, match="n_steps"):
        trained.predict(controls, ["pert_0"], n_steps=0, progressbar=False)


def test_by_default_what_was_trained_on_is_predicted(screen: Any) -> None:
    rare = np.flatnonzero(screen.obs["perturbation"] == "pert_0")[1:]
    screen = screen[np.setdiff1d(np.arange(screen.n_obs), rare)].copy()
    screen.obs["split"] = np.where(screen.obs["perturbation"] == "pert_2", "test", "train")
    pc.PerturbDiff.setup_anndata(screen, cell_type_key="cell_type", split_key="split")
    model = pc.PerturbDiff(screen, n_hidden=16, n_layers=1, set_size=8, min_cells=2, seed=0)
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    predicted = model.predict(controls_of(screen), progressbar=False)
    assert set(predicted.obs["perturbation"]) == {"pert_1", *(n for n in screen.obs["perturbation"] if "+" in n)}


@pytest.mark.parametrize("n_controls", [1, 3, 9])
def test_zeros_of_the_smallest_populations(screen: Any, n_controls: int) -> None:
    pc.PerturbDiff.setup_anndata(screen, cell_type_key="cell_type")
    model = pc.PerturbDiff(screen, n_hidden=16, n_layers=1, set_size=8, seed=0)
    model.train(max_epochs=1, steps_per_epoch=2, **QUICK)
    controls = controls_of(screen, "type_0")[:n_controls].copy()
    predicted = model.predict(controls, ["pert_0"], n_cells=200, progressbar=False).to_df().to_numpy()
    real = (screen.obs["cell_type"] == "type_0") & (screen.obs["perturbation"] == "pert_0")
    measured = screen[real.to_numpy()].to_df().to_numpy()
    assert abs((predicted == 0).mean() - (measured == 0).mean()) < 0.15


def test_the_noise_of_the_controls_counts_once(screen: Any) -> None:
    """Neighbours that stand in for a part share the controls of the other part."""
    rows = np.random.default_rng(0).normal(size=(4, 3))
    screen.uns["vectors"] = pd.DataFrame(rows, index=["pert_0", "pert_1", "pert_2", "pert_9"])
    pc.PerturbDiff.setup_anndata(screen, cell_type_key="cell_type", perturbation_embedding_key="vectors")
    model: Any = pc.PerturbDiff(screen, n_hidden=16, n_layers=1, set_size=8, seed=0)
    model.train(max_epochs=1, steps_per_epoch=1, **QUICK)
    mean = controls_of(screen, "type_1").X.toarray().mean(0)

    def shift(*parts: str, n_control: int = 32, **options: Any) -> np.ndarray:
        found = model.forecaster_.shift(parts, 1.0, mean, "type_1", "all", n_control=n_control, **options)
        return found.astype(float)

    noise = shift("pert_0") - shift("pert_0", n_control=2**62)
    assert np.abs(noise).max() > 0.02
    names = ("pert_1", "pert_2")
    others = np.mean([shift(name, n_control=2**62) for name in names], axis=0)
    both = shift("pert_0", "pert_9", stand_ins=[("pert_0",), names])
    np.testing.assert_allclose(both, shift("pert_0") + others, atol=1e-5)
    with_noise = np.mean([shift(name) for name in names], axis=0)
    np.testing.assert_allclose(shift("pert_9", stand_ins=[names]), with_noise, atol=1e-6)
