from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import pertcast as pc
from pertcast.tl._labelled import LabelledCells, ScreenColumns
from pertcast.tl._truth import Truth

if TYPE_CHECKING:
    from pathlib import Path

QUICK: dict[str, Any] = {"max_epochs": 1, "steps_per_epoch": 2, "enable_progress_bar": False, "accelerator": "cpu"}
SMALL: dict[str, Any] = {"n_hidden": 16, "n_layers": 1, "set_size": 8, "n_controls": 8}
SETUP = {"cell_type_key": "cell_type", "batch_key": "donor"}


@pytest.fixture(scope="module")
def screen() -> Any:
    adata = pc.data.simulate_screen(
        20, n_genes=50, n_cell_types=3, n_donors=2, n_perturbations=3, combinations=1, seed=1
    )
    pc.pp.split(adata, "context", cell_type_key="cell_type", batch_key="donor", hold_out=["type_2"])
    return adata


def run(models: Any, adata: Any, **options: Any) -> Any:
    defaults: dict[str, Any] = {
        "setup": SETUP,
        "baselines": ["PerturbationShift"],
        "metrics": "shift",
        "progressbar": False,
    }
    return pc.tl.benchmark(models, adata, **defaults | options)


def test_a_class_is_trained_and_scored_beside_baselines(screen: Any) -> None:
    before = (set(screen.obs), set(screen.uns), screen.X.sum())
    predictions: dict[str, Any] = {}
    scores = run({"small": partial(pc.PerturbDiff, **SMALL)}, screen, train_kwargs=QUICK, predictions=predictions)
    assert (set(screen.obs), set(screen.uns), screen.X.sum()) == before
    assert set(scores["model"]) == {"small", "NoEffect", "PerturbationShift", "ceiling"}
    assert set(scores["context"]) == {"type_2"}
    assert set(scores["perturbation"]) == set(screen.obs["perturbation"].unique()) - {"control"}
    assert (scores["task"] == "context").all()
    predicted = predictions["small"]
    controls = (screen.obs["cell_type"] == "type_2") & (screen.obs["perturbation"] == "control")
    assert predicted.n_obs == 4 * controls.sum()
    assert predicted.obs_names.is_unique
    assert predicted.uns["pertcast"]["model"] == "PerturbDiff"
    again = pc.tl.evaluate(
        screen[(screen.obs["split"] == "test").to_numpy()], predicted, control=screen[
            (screen.obs["perturbation"] == "control").to_numpy()], groupby="cell_type", batch_key="donor",
        metrics="mean_squared_error", progressbar=False,
    )  # fmt: skip
    values: list[Any] = [
        table[table["model"] == name].set_index(["condition", "metric"])["value"].rename(None)
        for table, name in ((again, "predicted"), (scores[scores["metric"] == "mean_squared_error"], "small"))
    ]
    pd.testing.assert_series_equal(values[0], values[1], rtol=1e-4)


def test_a_trained_model_is_used_as_it_is(screen: Any) -> None:
    pc.PerturbDiff.setup_anndata(adata := screen.copy(), split_key="split", **SETUP)
    model = pc.PerturbDiff(adata, **SMALL)
    model.train(**QUICK)
    weights = {name: value.clone() for name, value in model.module.state_dict().items()}
    scores = run([model], adata, setup=None)  # columns are those that the model was set up with
    assert set(scores["model"]) >= {"PerturbDiff", "PerturbationShift"}
    assert all((value == weights[name]).all() for name, value in model.module.state_dict().items())


def test_a_model_that_trains_on_the_test_part_is_refused(screen: Any) -> None:
    pc.PerturbDiff.setup_anndata(adata := screen.copy(), **SETUP)
    with pytest.raises(ValueError, match="would be trained on .* cells of the test part.* `split_key='split'`"):
        run([pc.PerturbDiff(adata, **SMALL)], adata, setup=None)


def test_samples_may_use_the_same_barcodes(screen: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Cells of the training and the test part with one name are not the same cells."""
    adata = screen.copy()
    adata.obs_names = [f"cell{number % 50}" for number in range(adata.n_obs)]
    train = adata[(adata.obs["split"] != "test").to_numpy()].copy()
    pc.baselines.PerturbedMean.setup_anndata(train, **SETUP)
    model = pc.baselines.PerturbedMean(train)
    model.train()
    run([model], adata, setup=None, baselines=[])
    tested = adata[(adata.obs["split"] == "test").to_numpy()].copy()
    controls = adata[(adata.obs["perturbation"] == "control").to_numpy()].copy()
    predicted = model.predict(controls, progressbar=False)
    pc.tl.evaluate(tested, predicted, control=controls, train=train, groupby="cell_type", metrics="shift",
                   baselines=[], progressbar=False)  # fmt: skip
    assert "have the names of cells in `train`" not in caplog.text
    pc.tl.evaluate(tested, predicted, control=controls, train=adata, groupby="cell_type", metrics="shift",
                   baselines=[], progressbar=False)  # fmt: skip
    assert "have the names of cells in `train`" in caplog.text


def test_held_out_cells_change_no_prediction(screen: Any) -> None:
    changed = screen.copy()
    test = (changed.obs["split"] == "test").to_numpy()
    X = changed.X.toarray()
    X[test] = X[test][:, ::-1]
    changed.X = X
    dense = screen.copy()
    dense.X = screen.X.toarray()
    model = {"small": partial(pc.PerturbDiff, **SMALL)}
    found: list[Any] = []
    for adata in (dense, changed):
        predictions: dict[str, Any] = {}
        run(model, adata, train_kwargs=QUICK, predictions=predictions)
        found.append(predictions["small"].X)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("kind", ["perturbation", "combination", "donor"])
def test_every_kind_of_split_with_every_baseline(kind: Any) -> None:
    adata = pc.data.simulate_screen(
        12, n_genes=40, n_cell_types=3, n_donors=2, n_perturbations=4, combinations=2, seed=2
    )
    pc.pp.split(adata, kind, cell_type_key="cell_type", batch_key="donor", seed=0)
    scores = run([], adata, baselines="all", metrics=["shift", "energy_distance"])
    assert set(scores["model"]) == {*pc.baselines.__all__, "ceiling"} - {"Baseline"}
    defined = scores[(scores["metric"] == "mean_squared_error")].groupby("model")["value"].count()
    n_conditions = scores["condition"].nunique()
    for name in ("NoEffect", "PerturbedMean", "ContextMean", "ceiling"):
        assert defined[name] == n_conditions, name
    missing = scores[scores["value"].isna()]
    assert (missing["reason"] != "").all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"split_key": "fold"}, KeyError, "fold"),
        ({"baselines": ["PerturbationShit"]}, ValueError, "Did you mean 'PerturbationShift'"),
        ({"models": [3]}, TypeError, "model class"),
        ({"models": pc.PopulationEncoder}, TypeError, "'PopulationEncoder' is .*, which has no 'predict'"),
        (
            {"models": [pc.PerturbDiff, pc.baselines.PerturbedMean], "train_kwargs": QUICK},
            TypeError,
            "'steps_per_epoch', .* which the `train` of the model 'PerturbedMean' does not take.*`baselines`",
        ),
        ({"metrics": []}, ValueError, "`metrics` is empty"),
        ({"max_cells": 0}, ValueError, "`max_cells` must be at least 1"),
        ({"seed": None}, TypeError, "`seed` must be a whole number"),
    ],
)
def test_bad_requests(
    screen: Any, options: dict[str, Any], error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pertcast.tl._benchmark.fit_models", None)  # nothing is trained
    with pytest.raises(error, match=message):
        run(options.pop("models", []), screen, **options)


def test_models_of_one_class_need_names(screen: Any) -> None:
    shift = pc.baselines.PerturbationShift
    small = partial(shift)
    with pytest.raises(
        ValueError, match=r"several models of the class 'PerturbationShift'.*'PerturbationShift 2': \.\.\."
    ):
        run([shift, small], screen)
    scores = run({"one": shift, "two": small}, screen)
    assert set(scores["model"]) >= {"one", "two"}
    assert "PerturbationShift" in set(run([small], screen, baselines=[])["model"])  # not "partial"


def test_trained_baselines_need_no_arguments_of_training(screen: Any) -> None:
    pc.baselines.PerturbedMean.setup_anndata(adata := screen.copy(), split_key="split", **SETUP)
    model = pc.baselines.PerturbedMean(adata)
    model.train()
    scores = run([model], adata, train_kwargs={"steps_per_epoch": 2}, baselines=[])
    assert "PerturbedMean" in set(scores["model"])


@pytest.mark.parametrize("stored", [False, True])
def test_columns_are_those_of_the_split(screen: Any, stored: bool, tmp_path: Path) -> None:
    adata = screen.copy()
    adata.obs["sex"] = np.where(np.arange(adata.n_obs) % 2, "f", "m")
    columns: dict[str, Any] = SETUP | {"categorical_covariate_keys": ["sex"]}
    pc.pp.split(adata, "context", hold_out=["type_2 | f"], key_added="fold", **columns)
    expected = run([], adata, split_key="fold", setup=columns)
    if stored:
        adata.write_h5ad(tmp_path / "screen.h5ad")
        adata = ad.read_h5ad(tmp_path / "screen.h5ad")
    found = run([], adata, split_key="fold", setup=None)
    pd.testing.assert_frame_equal(found, expected)
    assert set(found["context"]) == {"type_2 | f"}


def test_unknown_columns_are_asked_for(screen: Any, caplog: pytest.LogCaptureFixture) -> None:
    adata = screen.copy()
    del adata.uns["split"]
    expected = run([], adata, setup={})
    assert set(expected["context"]) == {"all"}
    assert "give `setup=" not in caplog.text
    pd.testing.assert_frame_equal(run([], adata, setup=None), expected)
    assert "give `setup=" in caplog.text


def test_predictions_keep_ordered_categories(screen: Any) -> None:
    adata = screen.copy()
    pc.pp.split(adata, "context", cell_type_key="cell_type", hold_out=["type_1", "type_2"])
    adata.obs["cell_type"] = pd.Categorical(adata.obs["cell_type"], ["type_2", "type_0", "type_1"], ordered=True)
    predictions: dict[str, Any] = {}
    run({"shift": pc.baselines.PerturbationShift}, adata, predictions=predictions)
    dtype = predictions["shift"].obs["cell_type"].dtype
    assert (list(dtype.categories), dtype.ordered) == (["type_2", "type_1"], True)


def test_nothing_to_test(screen: Any) -> None:
    adata = screen.copy()
    adata.obs["split"] = "train"
    with pytest.raises(ValueError, match="No perturbed cell is labelled 'test'"):
        run([], adata)


def test_cells_among_others_are_those_of_a_view_without_a_copy(screen: Any) -> None:
    adata = screen.copy()
    adata.obs_names = adata.obs_names[::-1]  # so that the order of names is another
    among = np.random.default_rng(0).random(adata.n_obs) < 0.5
    columns = ScreenColumns("perturbation", "control", ("cell_type",), None, "donor")
    found = LabelledCells(adata, columns, "adata", among=among)
    expected = LabelledCells(adata[among], columns, "view")
    assert np.shares_memory(found._X.data, adata.X.data)  # type: ignore[union-attr]
    assert list(found.rows) == list(expected.rows)
    for own, other in ((found.rows, expected.rows), (found.control_rows, expected.control_rows)):
        for key, rows in other.items():
            np.testing.assert_array_equal(found.gather(own[key]), expected.gather(rows))  # type: ignore[index]
            for row, same in zip(own[key], rows, strict=True):  # type: ignore[index]
                assert found.batches(np.array([row])).tolist() == expected.batches(np.array([same])).tolist()
    with pytest.raises(ValueError, match="`none` has no cells"):
        LabelledCells(adata, columns, "none", among=np.zeros(adata.n_obs, dtype=bool))


def test_predictions_and_tables_spell_combinations_as_the_data(screen: Any) -> None:
    adata = screen.copy()
    (combination,) = (name for name in adata.obs["perturbation"].unique() if "+" in name)
    spelled = "+".join(reversed(combination.split("+")))
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace(combination, spelled)
    predictions: dict[str, Any] = {}
    scores = run(pc.baselines.PerturbationShift, adata, predictions=predictions, baselines=[])
    assert spelled in set(predictions["PerturbationShift"].obs["perturbation"])
    assert combination not in set(predictions["PerturbationShift"].obs["perturbation"])
    expected = run(pc.baselines.PerturbationShift, screen, baselines=[])
    pd.testing.assert_frame_equal(scores, expected)
    tables: list[Any] = [pc.tl.delta_table(each, groupby="cell_type") for each in (adata, screen)]
    assert set(tables[0].obs["perturbation"]) - set(tables[1].obs["perturbation"]) == {spelled}
    assert tables[0].obs_names.equals(tables[1].obs_names)
    np.testing.assert_allclose(tables[0].X, tables[1].X)


def test_the_matrix_of_a_view_is_made_once(screen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view makes its matrix anew at every access; truth and training cells read one copy."""
    read: list[Any] = []

    def recorded(real: Any, *arguments: Any, **options: Any) -> Truth:
        read.extend([real, options["train"], options["controls"][0][1]])
        return Truth(real, *arguments, **options)

    monkeypatch.setattr("pertcast.tl._benchmark.Truth", recorded)
    part = screen[:, :30]
    scores = run(pc.baselines.PerturbedMean, part, baselines=[])
    assert not read[0].is_view
    assert all(each is read[0] for each in read)
    pd.testing.assert_frame_equal(run(pc.baselines.PerturbedMean, part.copy(), baselines=[]), scores)


def test_a_partial_keeps_its_own_seed(screen: Any) -> None:
    model = partial(pc.PerturbDiff, **SMALL)
    models = {f"seed {seed}": partial(model, seed=seed) for seed in (1, 2)}
    scores = run(models | {"of the benchmark": model}, screen, train_kwargs=QUICK, seed=1, baselines=[])
    first, second, third = (
        scores[(scores["model"] == name) & (scores["metric"] == "mean_squared_error")]["value"].to_numpy()
        for name in ("seed 1", "seed 2", "of the benchmark")
    )
    assert (first != second).all()
    np.testing.assert_array_equal(first, third)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_kept_predictions_have_their_names_and_order(screen: Any, n_jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = pc.baselines.PerturbedMean.predict

    def slow_at_first(self: Any, *args: Any, **options: Any) -> Any:
        if not self.__dict__.get("asked"):
            self.asked = True
            time.sleep(0.5)
        return predict(self, *args, **options)

    monkeypatch.setattr(pc.baselines.PerturbedMean, "predict", slow_at_first)
    predictions: dict[str, Any] = {}
    run({"mean": pc.baselines.PerturbedMean}, screen, predictions=predictions, baselines=[], n_jobs=n_jobs)
    predicted, names = predictions["mean"], sorted(set(screen.obs["perturbation"]) - {"control"})
    assert list(dict.fromkeys(predicted.obs["perturbation"])) == names
    assert predicted.uns["pertcast"]["params"]["perturbations"].tolist() == names
    assert (predicted.obs["perturbation"].value_counts() == predicted.n_obs / len(names)).all()


@pytest.mark.parametrize("model", [pc.baselines.ContextMean, partial(pc.PerturbDiff, **SMALL)])
def test_a_model_of_another_split_is_refused(screen: Any, model: Any) -> None:
    adata = screen.copy()
    getattr(model, "func", model).setup_anndata(adata, split_key="split", **SETUP)
    trained, untrained = model(adata), model(adata)
    trained.train(**({} if model is pc.baselines.ContextMean else QUICK))
    run([trained], adata, setup=None, baselines=[])
    pc.pp.split(adata, "context", cell_type_key="cell_type", batch_key="donor", hold_out=["type_1"])
    with pytest.raises(ValueError, match="was trained on .* cells of the test part"):
        run([trained], adata, setup=None, baselines=[])
    with pytest.raises(ValueError, match="would be trained on .* cells of the test part"):  # it is set up with the old
        run([untrained], adata, setup=None, baselines=[])
    others = screen.copy()
    others.obs_names = "other " + others.obs_names  # the same conditions, but other cells
    pc.pp.split(others, "context", cell_type_key="cell_type", batch_key="donor", hold_out=["type_1"])
    run([trained], others, setup=None, baselines=[])
