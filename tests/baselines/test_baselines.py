from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import mudata
import numpy as np
import pytest
import scipy.sparse as sp

from pertcast.baselines import (
    AdditiveShift,
    BilinearRidge,
    ContextMean,
    ContextWeightedShift,
    LatentAdditive,
    LatentShift,
    MatchingMean,
    NearestNeighbours,
    NoEffect,
    PerturbationShift,
    PerturbedMean,
)
from pertcast.data._query import ControlQuery

if TYPE_CHECKING:
    from pathlib import Path

    from pertcast.baselines._base import Baseline

SHIFTING = [PerturbationShift, ContextWeightedShift, AdditiveShift, NearestNeighbours]
CLOSED = [NoEffect, *SHIFTING, PerturbedMean, ContextMean, MatchingMean, BilinearRidge]
NETWORKS = [LatentAdditive, LatentShift]
ALL = [*CLOSED, *NETWORKS]
VECTORS = {"A": [0.0, 1.0], "B": [1.0, 0.5]}
ARGUMENTS: dict[Any, dict[str, Any]] = {
    ContextWeightedShift: {"bandwidth": 0.7},
    PerturbedMean: {"residuals": True},
    BilinearRidge: {"ridge": 0.01, "n_components": 2},
    NearestNeighbours: {"n_neighbours": 1},
    LatentAdditive: {"n_latent": 5, "seed": 3},
    LatentShift: {"n_hidden": 20, "residuals": False},
}


def train_arguments(cls: Any) -> dict[str, Any]:
    return {"max_steps": 5} if cls in NETWORKS else {}


def mean_over_donors(true_shift: Any, perturbation: str, cell_type: str, dosage: float = 1.0) -> np.ndarray:
    return np.mean([true_shift(perturbation, cell_type, donor, dosage) for donor in ("d1", "d2")], axis=0)


@pytest.mark.parametrize("sparse", [True, False])
def test_no_effect_returns_the_controls(make_screen: Any, sparse: bool, fit: Any) -> None:
    adata = make_screen()
    if sparse:
        adata.X = sp.csr_matrix(adata.X)
    model = fit(NoEffect, adata)
    predicted = model.predict(perturbations=["A", "A+B"], progressbar=False)
    assert sp.issparse(predicted.X) is sparse
    difference = predicted.X - adata[predicted.obs["source_cell"]].X
    assert abs(difference).max() == 0
    assert predicted.n_obs == 2 * 36


def test_shift_is_the_mean_over_contexts(
    make_screen: Any, true_shift: Any, fit: Any, controls_of: Any, shift_in: Any
) -> None:
    adata = make_screen()
    model = fit(PerturbationShift, adata[adata.obs["cell_type"] != "NK"])
    controls = controls_of(adata, "NK")
    for name in ("A", "B"):
        predicted = model.predict(controls, [name], progressbar=False)
        expected = np.mean([mean_over_donors(true_shift, name, each) for each in ("T", "B")], axis=0)
        np.testing.assert_allclose(shift_in(predicted, controls), expected, atol=1e-6)
    np.testing.assert_allclose(
        shift_in(model.predict(controls, ["A"], progressbar=False), controls), [1.5, 0.375, -0.375], atol=1e-6
    )


def test_contexts_and_populations_weigh_the_same_whatever_their_size(
    make_screen: Any, fit: Any, controls_of: Any
) -> None:
    adata = make_screen()
    adata = adata[adata.obs["cell_type"] != "NK"].copy()
    copies = adata[(adata.obs["cell_type"] == "T") & (adata.obs["donor"] == "d1")].copy()
    copies.obs_names = [f"copy-{name}" for name in copies.obs_names]
    larger = anndata.concat([adata, copies])
    controls = controls_of(make_screen(), "NK")
    expected = fit(PerturbationShift, adata).predict(controls, ["A"], progressbar=False).X
    found = fit(PerturbationShift, larger).predict(controls, ["A"], progressbar=False).X
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_weights_of_contexts_follow_the_distance_of_their_controls(
    make_screen: Any, true_shift: Any, fit: Any, controls_of: Any, shift_in: Any
) -> None:
    adata = make_screen()
    model = fit(ContextWeightedShift, adata[adata.obs["cell_type"] != "NK"], bandwidth=0.3)
    controls = controls_of(adata, "NK")
    d = [np.linalg.norm(controls.X.mean(0) - controls_of(adata, each).X.mean(0)) for each in ("T", "B")]
    weights = np.exp(-np.array(d) / (0.3 * np.median(d)))
    weights /= weights.sum()
    expected = weights @ [mean_over_donors(true_shift, "B", each) for each in ("T", "B")]
    found = shift_in(model.predict(controls, ["B"], progressbar=False), controls)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert abs(weights[0] - 0.5) > 0.01


def test_a_large_bandwidth_is_the_plain_shift(make_screen: Any, fit: Any) -> None:
    adata = make_screen()
    plain = fit(PerturbationShift, adata).predict(perturbations=["A"], progressbar=False)
    wide = fit(ContextWeightedShift, adata, bandwidth=1e9).predict(perturbations=["A"], progressbar=False)
    np.testing.assert_allclose(wide.X, plain.X, atol=1e-6)


def test_a_context_of_the_training_data_is_used(
    make_screen: Any, true_shift: Any, fit: Any, controls_of: Any, shift_in: Any
) -> None:
    adata = make_screen()
    controls = controls_of(adata, "NK")
    plain = shift_in(fit(PerturbationShift, adata).predict(controls, ["A"], progressbar=False), controls)
    own = mean_over_donors(true_shift, "A", "NK")
    np.testing.assert_allclose(
        plain, np.mean([mean_over_donors(true_shift, "A", each) for each in ("T", "B", "NK")], axis=0), atol=1e-6
    )
    near = fit(ContextWeightedShift, adata, bandwidth=0.01).predict(controls, ["A"], progressbar=False)
    np.testing.assert_allclose(shift_in(near, controls), own, atol=1e-6)


@pytest.mark.parametrize("cls", SHIFTING)
def test_combinations_add_the_shifts_of_their_parts(
    make_screen: Any, cls: type[Baseline], fit: Any, controls_of: Any, shift_in: Any
) -> None:
    adata = make_screen()
    model = fit(cls, adata)
    controls = controls_of(adata, "B")
    single = [shift_in(model.predict(controls, [name], progressbar=False), controls) for name in ("A", "B")]
    both = model.predict(controls, ["B+A"], progressbar=False)
    assert both.obs["perturbation"].unique().tolist() == ["B+A"]
    np.testing.assert_allclose(shift_in(both, controls), single[0] + single[1], atol=1e-6)


@pytest.mark.parametrize("cls", [PerturbationShift, ContextWeightedShift, NearestNeighbours])
def test_a_measured_combination_has_its_own_shift(
    make_screen: Any, cls: type[Baseline], fit: Any, controls_of: Any
) -> None:
    adata = make_screen()
    combined = adata[adata.obs["perturbation"] == "B"].copy()
    combined.obs["perturbation"] = "B+A"
    combined.obs_names = [f"both-{name}" for name in combined.obs_names]
    model = fit(cls, anndata.concat([adata, combined]))
    controls = controls_of(adata, "T")
    both, single = (model.predict(controls, [name], progressbar=False).X for name in ("A+B", "B"))
    np.testing.assert_allclose(both, single, atol=1e-6)


def test_dosages_are_kept_apart(make_screen: Any, true_shift: Any, fit: Any, controls_of: Any, shift_in: Any) -> None:
    adata = make_screen(dosages=(1.0, 0.1))
    model = fit(PerturbationShift, adata, setup={"dosage_key": "dose"})
    controls = controls_of(adata, "T")
    predicted = model.predict(controls, ["A"], progressbar=False)
    assert predicted.obs["dose"].unique().tolist() == [0.1, 1.0]
    for dosage in (0.1, 1.0):
        found = shift_in(predicted[predicted.obs["dose"] == dosage], controls)
        expected = np.mean([mean_over_donors(true_shift, "A", each, dosage) for each in ("T", "B", "NK")], axis=0)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("cls", SHIFTING)
def test_the_shift_of_the_nearest_dosage_is_taken(
    make_screen: Any, cls: type[Baseline], fit: Any, controls_of: Any
) -> None:
    """Half of 0.1 is added before logarithms are taken: halfway between 0.1 and 1 is 0.347."""
    adata = make_screen(dosages=(1.0, 0.1))
    adata.uns["emb"] = VECTORS
    adata = adata[~((adata.obs["perturbation"] == "B") & (adata.obs["dose"] == 1.0))].copy()
    model = fit(cls, adata, setup={"dosage_key": "dose", "perturbation_embedding_key": "emb"})
    controls = controls_of(adata, "T")

    def at(name: str, dosage: float) -> np.ndarray:
        return np.asarray(model.predict(controls, [name], dosages=dosage, progressbar=False).X)

    nearest_of = {("A", 0.34): 0.1, ("A", 0.35): 1.0, ("A", 50.0): 1.0, ("A", 0.0): 0.1, ("B", 1.0): 0.1}
    for (name, dosage), nearest in nearest_of.items():
        np.testing.assert_array_equal(at(name, dosage), at(name, nearest))
    np.testing.assert_allclose(at("A+B", 1.0) - controls.X, at("A", 1.0) + at("B", 0.1) - 2 * controls.X, atol=1e-5)
    assert np.abs(at("A", 0.1) - at("A", 1.0)).max() > 0.01


@pytest.mark.parametrize("cls", SHIFTING)
def test_test_conditions_are_never_used(make_screen: Any, cls: type[Baseline], fit: Any, controls_of: Any) -> None:
    adata = make_screen()
    held_out = ((adata.obs["cell_type"] == "NK") & (adata.obs["perturbation"] != "control")).to_numpy()
    adata.obs["split"] = np.where(held_out, "test", "train")
    controls = controls_of(adata, "NK")
    expected = fit(cls, adata[~held_out]).predict(controls, ["A"], progressbar=False).X
    spoiled = adata.copy()
    spoiled.X[held_out] += 100
    for screen in (adata, spoiled):
        found = fit(cls, screen, setup={"split_key": "split"}).predict(controls, ["A"], progressbar=False).X
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("cls", [PerturbationShift, ContextWeightedShift, AdditiveShift])
def test_what_was_not_trained_on_is_an_error(make_screen: Any, cls: type[Baseline], fit: Any) -> None:
    adata = make_screen()
    adata.obs["split"] = np.where(adata.obs["perturbation"] == "B", "test", "train")
    adata.uns["emb"] = {"A": [0.0], "B": [1.0], "C": [2.0]}
    model = fit(cls, adata, setup={"split_key": "split", "perturbation_embedding_key": "emb"})
    for name, part in (("B", "B"), ("C", "C"), ("A+C", "C")):
        with pytest.raises(ValueError, match=f"{cls.__name__} knows no shift of '{part}'"):
            model.predict(perturbations=[name], progressbar=False)
    with pytest.raises(ValueError, match="Unknown perturbation 'D'"):
        model.predict(perturbations=["D"], progressbar=False)


def test_no_effect_predicts_what_is_held_out_but_no_typing_errors(make_screen: Any, fit: Any) -> None:
    adata = make_screen()
    adata.obs["split"] = np.where(adata.obs["perturbation"] == "B", "test", "train")
    model = fit(NoEffect, adata, setup={"split_key": "split"})
    assert model.predict(perturbations=["B"], progressbar=False).n_obs == 36
    with pytest.raises(ValueError, match="Unknown perturbation 'b'.*Did you mean 'B'"):
        model.predict(perturbations=["b"], progressbar=False)


@pytest.mark.parametrize("cls", ALL)
def test_save_and_load(make_screen: Any, tmp_path: Path, cls: type[Baseline], fit: Any, controls_of: Any) -> None:
    adata = make_screen(dosages=(1.0, 2.0))
    adata.uns["emb"] = VECTORS
    setup = {"dosage_key": "dose", "perturbation_embedding_key": "emb"}
    model = fit(cls, adata, setup=setup, train=train_arguments(cls), **ARGUMENTS.get(cls, {}))
    controls = controls_of(adata, "NK")
    expected = model.predict(controls, progressbar=False)
    model.save(tmp_path / "model")
    for data in (False, adata.copy()):
        loaded = cls.load(tmp_path / "model", adata=data)
        assert loaded.is_trained
        found = loaded.predict(controls, progressbar=False)
        np.testing.assert_array_equal(found.X, expected.X)
        assert found.obs.equals(expected.obs)


@pytest.mark.parametrize("cls", ALL)
def test_batch_size_bounds_what_is_read_and_makes_no_difference(
    make_screen: Any, cls: type[Baseline], fit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    adata = make_screen()
    adata.uns["emb"] = VECTORS
    model = fit(cls, adata, setup={"perturbation_embedding_key": "emb"}, train=train_arguments(cls))
    one, two = (model.predict(perturbations=["A"], batch_size=size, progressbar=False).X for size in (None, 5))
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-5 if cls in NETWORKS else 0)
    read, gather = [], ControlQuery.gather

    def counted(self: ControlQuery, rows: np.ndarray) -> np.ndarray:
        read.append(len(rows))
        return gather(self, rows)

    monkeypatch.setattr(ControlQuery, "gather", counted)
    model.predict(perturbations=["A"], batch_size=5, progressbar=False)
    assert max(read) == 5


@pytest.mark.parametrize("cls", ALL)
def test_registered_screen_keeps_its_values(make_screen: Any, cls: type[Baseline], fit: Any) -> None:
    adata = make_screen()
    adata.uns["emb"] = VECTORS
    before = adata.X.copy()
    cls.setup_anndata(adata, cell_type_key="cell_type", perturbation_embedding_key="emb")
    model = cls(adata)
    model.train(**train_arguments(cls))
    model.predict(perturbations=["A"], progressbar=False)
    np.testing.assert_array_equal(adata.X, before)


@pytest.mark.parametrize("cls", CLOSED)
def test_order_of_the_cells_makes_no_difference(make_screen: Any, cls: type[Baseline], fit: Any) -> None:
    adata = make_screen()
    adata.uns["emb"] = VECTORS
    shuffled = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    first, second = (
        fit(cls, each, setup={"perturbation_embedding_key": "emb"}).predict(progressbar=False)
        for each in (adata, shuffled)
    )
    assert first.obs.equals(second.obs)
    np.testing.assert_allclose(first.X, second.X, atol=1e-6)


@pytest.mark.parametrize("cls", NETWORKS)
def test_order_of_the_controls_makes_no_difference(
    make_screen: Any, cls: type[Baseline], fit: Any, controls_of: Any
) -> None:
    adata = make_screen()
    model = fit(cls, adata, train=train_arguments(cls))
    controls = controls_of(adata, "NK")
    first, second = (model.predict(each, ["A"], progressbar=False) for each in (controls, controls[::-1].copy()))
    assert first.obs.equals(second.obs)
    np.testing.assert_allclose(first.X, second.X, atol=1e-6)


@pytest.mark.parametrize("cls", ALL)
def test_point_predictions_are_marked(
    make_screen: Any, cls: type[Baseline], fit: Any, controls_of: Any, tmp_path: Path
) -> None:
    adata = make_screen()
    adata.uns["emb"] = VECTORS
    model = fit(cls, adata, setup={"perturbation_embedding_key": "emb"}, train=train_arguments(cls))
    predicted = model.predict(controls_of(adata, "NK"), ["A"], progressbar=False)
    is_point = cls in (PerturbedMean, ContextMean, MatchingMean)
    assert model.is_point is is_point
    assert bool((predicted.X == predicted.X[0]).all()) is is_point
    predicted.write_h5ad(tmp_path / "predicted.h5ad")
    stored = anndata.read_h5ad(tmp_path / "predicted.h5ad").uns["pertcast"]
    assert ("is_point" in stored) is is_point
    assert bool(stored.get("is_point", is_point)) is is_point


@pytest.mark.parametrize("cls", [PerturbationShift, PerturbedMean, BilinearRidge])
def test_validation_conditions_are_learned_from(make_screen: Any, cls: type[Baseline], fit: Any) -> None:
    adata = make_screen()
    adata.uns["emb"] = VECTORS
    setup = {"perturbation_embedding_key": "emb"}
    expected = fit(cls, adata, setup=setup).predict(perturbations=["A"], progressbar=False).X
    held_out = (adata.obs["cell_type"] == "NK") & (adata.obs["perturbation"] == "A")
    adata.obs["split"] = np.where(held_out, "validation", "train")
    labelled = fit(cls, adata, setup=setup | {"split_key": "split"}).predict(perturbations=["A"], progressbar=False).X
    np.testing.assert_allclose(labelled, expected, atol=1e-6)


def test_errors(make_screen: Any) -> None:
    adata = make_screen()
    ContextWeightedShift.setup_anndata(adata)
    for bandwidth, error, message in (
        (0, ValueError, "above 0, but found 0"),
        (float("inf"), ValueError, "finite, but found inf"),
        (True, TypeError, "a number, but found True"),
        ("x", TypeError, "a number, but found 'x'"),
    ):
        with pytest.raises(error, match=f"`bandwidth` must be {message}"):
            ContextWeightedShift(adata, bandwidth=bandwidth)  # type: ignore[arg-type]
    model = ContextWeightedShift(adata)
    with pytest.raises(RuntimeError, match="is not trained"):
        model.predict(perturbations=["A"])
    with pytest.raises(ValueError, match="no data to train on"):
        ContextWeightedShift(registry=model.registry).train()


def test_mudata(make_screen: Any, fit: Any) -> None:
    adata = make_screen()
    rna = adata.copy()
    rna.obs = rna.obs[[]]
    mdata = mudata.MuData({"rna": rna})
    mdata.obs = adata.obs.copy()
    PerturbationShift.setup_mudata(mdata, cell_type_key="cell_type", batch_key="donor", modalities={"layer": "rna"})
    model = PerturbationShift(mdata)
    model.train()
    expected = fit(PerturbationShift, adata).predict(perturbations=["A"], progressbar=False)
    np.testing.assert_array_equal(model.predict(perturbations=["A"], progressbar=False).X, expected.X)


@pytest.mark.parametrize("cls", [PerturbationShift, ContextMean])
def test_new_perturbations_cannot_be_learned_by_a_loaded_model(
    make_screen: Any, tmp_path: Path, cls: type[Baseline], fit: Any
) -> None:
    adata = make_screen()
    fit(cls, adata[(adata.obs["perturbation"] != "B").to_numpy()].copy()).save(tmp_path / "model")
    model = cls.load(tmp_path / "model", adata=adata)
    with pytest.raises(ValueError, match="hold cells of 'B', which the model was not set up with"):
        model.train()
