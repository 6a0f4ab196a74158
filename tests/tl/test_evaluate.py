"""The judge: does it order predictions whose quality is known?"""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import pertcast as pc

MEANS = ["shift", "ranking"]


@pytest.fixture(scope="module")
def screen() -> Any:
    return pc.data.simulate_screen(
        160, n_genes=120, n_cell_types=2, n_donors=1, n_perturbations=4, combinations=0, effect_size=3,
        median_counts=3000, seed=3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def halves(screen: Any) -> tuple[Any, Any]:
    """Measured cells with all controls, and as many fresh perturbed cells that nobody measured."""
    control = (screen.obs["perturbation"] == "control").to_numpy()
    first = np.random.default_rng(0).random(screen.n_obs) < 0.5
    return screen[control | first].copy(), screen[~control & ~first].copy()


def constant(real: Any, fresh: Any, noise: float = 0.0) -> Any:
    """The mean over all perturbed cells of a cell type, for every perturbation; with or without noise."""
    predicted = fresh.copy()
    X = predicted.X.toarray()
    for cell_type in fresh.obs["cell_type"].unique():
        here = (fresh.obs["cell_type"] == cell_type).to_numpy()
        kept = ((real.obs["cell_type"] == cell_type) & (real.obs["perturbation"] != "control")).to_numpy()
        X[here] = np.asarray(real.X[kept].mean(0)).ravel()
    X += noise * np.random.default_rng(1).standard_normal(X.shape).astype(np.float32)
    predicted.X = X
    return predicted


def shuffled(fresh: Any) -> Any:
    """Real cells under the name of the next perturbation."""
    predicted = fresh.copy()
    names = sorted(fresh.obs["perturbation"].unique())
    following = dict(zip(names, names[1:] + names[:1], strict=True))
    predicted.obs["perturbation"] = predicted.obs["perturbation"].astype(str).map(following)
    return predicted


@pytest.fixture(scope="module")
def scores(halves: tuple[Any, Any]) -> Any:
    real, fresh = halves
    predicted = {
        "oracle": fresh,
        "constant": constant(real, fresh),
        "constant and noise": constant(real, fresh, 0.3),
        "shuffled": shuffled(fresh),
    }
    return pc.tl.evaluate(real, predicted, groupby="cell_type", seed=1, progressbar=False)


def mean(scores: Any, metric: str) -> Any:
    return scores[scores["metric"] == metric].groupby("model")["value"].mean()


HEADLINE = ["energy_distance", "mmd", "shift_pearson_specific", "discrimination_score", "centroid_accuracy"]


@pytest.mark.parametrize("metric", HEADLINE)
def test_headline_metrics_see_through_impostors(scores: Any, metric: str) -> None:
    value = mean(scores, metric) * (1 if pc.tl.metrics().loc[metric, "better"] == "higher" else -1)
    rivals = [name for name in ("NoEffect", "constant", "constant and noise", "shuffled") if np.isfinite(value[name])]
    assert len(rivals) >= 3
    for rival in rivals:
        assert value["oracle"] > value[rival] + 0.1 * abs(value["oracle"] - value[rivals].min())
    assert value["ceiling"] > value[rivals].max()


@pytest.mark.parametrize("metric", ["variance_agreement", "correlation_agreement", "de_overlap", "sliced_wasserstein"])
def test_the_oracle_beats_a_constant_with_noise_on_distributions(scores: Any, metric: str) -> None:
    value = mean(scores, metric) * (1 if pc.tl.metrics().loc[metric, "better"] == "higher" else -1)
    assert value["oracle"] > value["constant and noise"]


def test_a_constant_scores_as_chance_does_where_it_should(scores: Any) -> None:
    assert mean(scores, "centroid_accuracy")["constant"] == pytest.approx(0.5)
    assert abs(mean(scores, "shift_pearson_specific")).get("constant", 0) < 0.2 or np.isnan(
        mean(scores, "shift_pearson_specific")["constant"]
    )
    assert mean(scores, "shift_pearson")["constant"] > 0.3  # which is why it is not a headline metric


def test_every_metric_of_every_model_has_a_row_and_nan_has_a_reason(scores: Any) -> None:
    keys = ["condition", "model", "metric"]
    assert len(scores) == 8 * 6 * len(pc.tl.metrics())
    assert not scores.duplicated(keys).any()
    assert (scores["value"].isna() == (scores["reason"] != "")).all()
    points = scores[(scores["model"] == "constant") & scores["metric"].isin(["energy_distance", "de_recall"])]
    assert points["reason"].str.contains("point prediction").all()
    assert set(scores["role"]) == {"model", "baseline", "ceiling"}


def test_counts_are_those_of_the_cells(scores: Any, halves: tuple[Any, Any]) -> None:
    real, fresh = halves
    for row in scores[scores["metric"] == "mmd"].itertuples():
        n = {}
        for name, cells in (("real", real), ("fresh", fresh)):
            here = (cells.obs["perturbation"] == row.perturbation) & (cells.obs["cell_type"] == row.context)
            n[name] = int(here.sum())
        if row.model == "oracle":
            assert (row.n_real, row.n_predicted) == (n["real"], n["fresh"])
        if row.model == "ceiling":
            assert row.n_real + row.n_predicted == n["real"]


def test_values_are_those_of_the_functions(scores: Any, halves: tuple[Any, Any]) -> None:
    real, fresh = halves

    def cells(adata: Any, perturbation: str) -> np.ndarray:
        here = (adata.obs["perturbation"] == perturbation) & (adata.obs["cell_type"] == "type_1")
        return adata[here.to_numpy()].X.toarray()

    table = scores[(scores["model"] == "oracle") & (scores["condition"] == "pert_2 | type_1")].set_index("metric")
    predicted, measured, control = cells(fresh, "pert_2"), cells(real, "pert_2"), cells(real, "control")
    expected = {
        "energy_distance": pc.tl.energy_distance(predicted, measured),
        "mmd": pc.tl.mmd_rbf(predicted, measured),
        "shift_pearson": pc.tl.shift_pearson(predicted, measured, control),
        "mean_squared_error": pc.tl.mean_squared_error(predicted, measured),
        "variance_agreement": pc.tl.variance_agreement(predicted, measured),
    }
    for metric, value in expected.items():
        assert table.loc[metric, "value"] == pytest.approx(value, rel=1e-4), metric
    names = [f"pert_{i}" for i in range(4)]
    means = [np.stack([cells(adata, name).mean(0) for name in names]) for adata in (fresh, real)]
    assert table.loc["centroid_accuracy", "value"] == pytest.approx(pc.tl.centroid_accuracy(means[0], means[1])[2])
    ranks = pc.tl.discrimination_score(means[0], means[1], control)
    assert table.loc["discrimination_score", "value"] == pytest.approx(ranks[2])


def test_controls_of_a_prediction_are_never_read(halves: tuple[Any, Any]) -> None:
    real, fresh = halves
    controls = real[(real.obs["perturbation"] == "control").to_numpy()].copy()
    controls.obs_names = [f"tampered_{name}" for name in controls.obs_names]
    controls.X = controls.X * 5
    import anndata as ad

    tampered = ad.concat([fresh, controls])
    options: dict[str, Any] = {"groupby": "cell_type", "metrics": [*MEANS, "de"], "progressbar": False}
    first, second = (pc.tl.evaluate(real, each, **options) for each in (fresh, tampered))
    pd.testing.assert_frame_equal(first, second)


def test_neither_order_nor_threads_nor_company_matter(halves: tuple[Any, Any]) -> None:
    real, fresh = halves
    options: dict[str, Any] = {"groupby": "cell_type", "max_cells": 40, "progressbar": False}
    first = pc.tl.evaluate(real, fresh, **options)
    rng = np.random.default_rng(0)
    mixed: list[Any] = [adata[rng.permutation(adata.n_obs)].copy() for adata in (real, fresh)]
    mixed[1] = mixed[1][:, rng.permutation(fresh.n_vars)].copy()
    second = pc.tl.evaluate(mixed[0], mixed[1], n_jobs=2, **options)
    pd.testing.assert_frame_equal(first, second, rtol=1e-5)
    one = (real.obs["perturbation"].isin(["control", "pert_1"])).to_numpy()
    alone = pc.tl.evaluate(real[one], fresh, metrics="distribution", **options)
    both = first[first["metric"].isin(alone["metric"]) & (first["perturbation"] == "pert_1")].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, both, rtol=1e-5)


def test_names_of_predictions_do_not_matter(halves: tuple[Any, Any]) -> None:
    """Differential expression is measured on subsamples, which are those of the condition."""
    real, fresh = halves
    cells = (fresh.obs["perturbation"] == "pert_1").to_numpy()
    options: dict[str, Any] = {"groupby": "cell_type", "baselines": [], "progressbar": False}
    scores = pc.tl.evaluate(real[:, :60], {"a": fresh[cells, :60], "b": fresh[cells, :60]}, metrics="de", **options)
    a, b = (scores.loc[scores["model"] == name, "value"].reset_index(drop=True) for name in "ab")
    pd.testing.assert_series_equal(a, b)
    assert a.notna().any()


def test_a_missing_condition_has_its_reason(halves: tuple[Any, Any]) -> None:
    real, fresh = halves
    part = fresh[(fresh.obs["perturbation"] != "pert_0").to_numpy()].copy()
    scores = pc.tl.evaluate(real, part, groupby="cell_type", metrics="shift", progressbar=False)
    lost = scores[(scores["model"] == "predicted") & (scores["perturbation"] == "pert_0")]
    assert lost["value"].isna().all()
    assert lost["reason"].str.contains("no predicted cells").all()
    assert (lost["n_predicted"] == 0).all()


def test_baselines_are_trained_on_the_training_cells_alone(screen: Any) -> None:
    held = ((screen.obs["cell_type"] == "type_0") & (screen.obs["perturbation"] != "control")).to_numpy()
    train, real = screen[~held].copy(), screen[held].copy()
    keys = (set(train.obs), set(train.uns), set(real.obs))
    scores = pc.tl.evaluate(
        real, {}, train=train, groupby="cell_type", baselines=["PerturbationShift", "ContextMean"], metrics="shift",
        progressbar=False,
    )  # fmt: skip
    assert (set(train.obs), set(train.uns), set(real.obs)) == keys
    assert set(scores["model"]) == {"NoEffect", "PerturbationShift", "ContextMean", "ceiling"}
    value = scores[scores["metric"] == "mean_squared_error"].set_index(["model", "perturbation"])["value"]

    def average(perturbation: str, cell_type: str) -> np.ndarray:
        here = (screen.obs["perturbation"] == perturbation) & (screen.obs["cell_type"] == cell_type)
        return np.asarray(screen.X[here.to_numpy()].mean(0)).ravel()

    for name in ("pert_0", "pert_3"):
        shift = average(name, "type_1") - average("control", "type_1")
        error = average("control", "type_0") + shift - average(name, "type_0")
        assert value["PerturbationShift", name] == pytest.approx(np.square(error).mean(), rel=1e-3)


def test_the_order_of_the_training_cells_does_not_matter(screen: Any) -> None:
    held = ((screen.obs["cell_type"] == "type_0") & (screen.obs["perturbation"] != "control")).to_numpy()
    train, real = screen[~held].copy(), screen[held].copy()
    mixed = train[np.random.default_rng(0).permutation(train.n_obs)].copy()
    options: dict[str, Any] = {"groupby": "cell_type", "metrics": "mean_squared_error", "progressbar": False}
    one, two = (pc.tl.evaluate(real, {}, train=each, **options) for each in (train, mixed))
    assert {"LatentShift", "LatentAdditive"} < set(one["model"])
    pd.testing.assert_frame_equal(one, two, rtol=1e-3)


def test_what_all_baselines_say_of_the_controls_is_said_once(screen: Any, caplog: pytest.LogCaptureFixture) -> None:
    control = (screen.obs["perturbation"] == "control").to_numpy()
    batches = np.where(control, "none", "treated")  # no condition has controls in its batch
    screen = screen.copy()
    screen.obs["batch"] = batches
    held = (screen.obs["cell_type"] == "type_0").to_numpy() & ~control
    for _ in range(2):  # nothing is remembered between calls
        caplog.clear()
        pc.tl.evaluate(
            screen[held].copy(), {}, train=screen[~held].copy(), groupby="cell_type", batch_key="batch",
            baselines=["PerturbationShift", "ContextMean", "PerturbedMean"], metrics="shift", progressbar=False,
        )  # fmt: skip
        said = [record.getMessage() for record in caplog.records if record.name == "pertcast.data._controls"]
        assert len(said) == 1
        assert "not from the same context and batch" in said[0]


@pytest.mark.parametrize("n_own", [0, 1, 4, 5])
def test_controls_are_those_of_the_own_batches_if_there_are_five(screen: Any, n_own: int) -> None:
    screen = screen[(screen.obs["cell_type"] == "type_0").to_numpy()].copy()
    control = (screen.obs["perturbation"] == "control").to_numpy()
    batch = np.where(control, "others", "own")
    batch[np.flatnonzero(control)[:n_own]] = "own"
    screen.obs["batch"] = batch
    scores = pc.tl.evaluate(
        screen, screen[~control].copy(), batch_key="batch", metrics="mean_squared_error", progressbar=False
    )
    X = screen.X.toarray()
    counted = control & (batch == "own") if n_own == 5 else control
    for name, value in scores[scores["model"] == "NoEffect"].set_index("perturbation")["value"].items():
        real = X[(screen.obs["perturbation"] == name).to_numpy()].mean(0)
        assert value == pytest.approx(np.square(X[counted].mean(0) - real).mean(), rel=1e-5)
        n_predicted = scores.loc[(scores["model"] == "NoEffect") & (scores["perturbation"] == name), "n_predicted"]
        assert n_predicted.tolist() == [counted.sum()]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"groupby": "celltype"}, KeyError, "'celltype'.*Did you mean 'cell_type'.*Columns: 'perturbation'"),
        ({"metrics": "energy_distanc"}, ValueError, "Did you mean 'energy_distance'"),
        ({"control": "contrl"}, ValueError, "no control cells.*Did you mean 'control'.*Labels present: 'control'"),
        ({"predicted": {"ceiling": None}}, ValueError, "taken by"),
        ({"control": 3}, TypeError, "label or an AnnData"),
        ({"metrics": []}, ValueError, "`metrics` is empty"),
        ({"predicted": None}, TypeError, "`predicted` must be an AnnData, or a mapping.* is a NoneType"),
        ({"predicted": []}, TypeError, "`predicted` must be an AnnData, or a mapping.* is a list"),
        ({"predicted": {"mine": 3}}, TypeError, r"`predicted\['mine'\]` must be an AnnData, but it is a int"),
        ({"real": pd.DataFrame()}, TypeError, "`real` must be an AnnData, but it is a DataFrame"),
        ({"max_cells": 0}, ValueError, "`max_cells` must be at least 1, but found 0"),
        ({"max_cells": None}, TypeError, "`max_cells` must be a whole number"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0"),
        ({"seed": "a"}, TypeError, "`seed` must be a whole number"),
    ],
)
def test_bad_requests(halves: tuple[Any, Any], change: Any, error: type[Exception], message: str) -> None:
    real, fresh = halves
    options: dict[str, Any] = {"real": real, "predicted": fresh, "groupby": "cell_type", "progressbar": False} | change
    if "ceiling" in (options["predicted"] if isinstance(options["predicted"], dict) else ()):
        options["predicted"] = {"ceiling": fresh}
    with pytest.raises(error, match=message):
        pc.tl.evaluate(**options)


@pytest.mark.parametrize("name", ["real", "predicted", "train", "control"])
def test_an_anndata_without_cells_is_refused(halves: tuple[Any, Any], name: str) -> None:
    real, fresh = halves
    cells: dict[str, Any] = {"real": real, "predicted": fresh, "train": real} | {name: real[:0]}
    with pytest.raises(ValueError, match=f"`{name}` has no cells"):
        pc.tl.evaluate(**cells, groupby="cell_type", baselines=[], metrics="shift", progressbar=False)


def test_genes_must_be_there(halves: tuple[Any, Any]) -> None:
    real, fresh = halves
    few = fresh[:, 1:].copy()
    with pytest.raises(ValueError, match="1 of the 120 genes of `real` are missing from predicted.var_names") as found:
        pc.tl.evaluate(real, few, groupby="cell_type", progressbar=False)
    assert "model" not in str(found.value)
    with pytest.raises(ValueError, match=r"from predicted\['mine'\].var_names.* all genes of `real`, in any order"):
        pc.tl.evaluate(real, {"mine": few}, groupby="cell_type", progressbar=False)


def test_shared_cells_and_dosages(screen: Any, caplog: pytest.LogCaptureFixture) -> None:
    real, predicted = screen.copy(), screen.copy()
    real.obs["dosage"] = 1 / 3
    predicted.obs["dosage"] = float(np.float32(1 / 3))  # what a file or a model in float32 gives back
    options: dict[str, Any] = {"groupby": "cell_type", "dosage_key": "dosage", "metrics": "mean_squared_error"}
    scores = pc.tl.evaluate(real, predicted, train=real, baselines=[], progressbar=False, **options)
    assert (scores.loc[scores["model"] == "predicted", "value"] == 0).all()
    assert "Leave the held-out conditions out of `train`" in caplog.text
    assert "dosage_key" not in caplog.text
    predicted.uns["pertcast"] = {"params": {"dosages": np.array([1 / 3])}}
    pc.tl.evaluate(real, predicted, progressbar=False, **options)
    assert "dosage_key" not in caplog.text
    pc.tl.evaluate(real, predicted, progressbar=False, **options | {"dosage_key": None})
    assert "`predicted` was predicted at dosage 0.333" in caplog.text


def test_baselines_know_the_layer_and_all_columns_of_a_context(screen: Any) -> None:
    """A context is a type and a half; X is not expression. The mean of a context is that of its own layer."""
    data = screen.copy()
    data.layers["log"], data.X = data.X.copy(), 0 * data.X
    data.obs["half"] = np.where(np.arange(data.n_obs) % 2, "odd", "even")
    data.layers["log"] = data.layers["log"].toarray() + (np.arange(data.n_obs) % 2)[:, None] * np.arange(120)
    held = (data.obs["perturbation"] == "pert_3").to_numpy()
    scores = pc.tl.evaluate(
        data[held].copy(), {}, train=data[~held].copy(), groupby=["cell_type", "half"], layer="log",
        metrics="mean_squared_error", baselines=["ContextMean"], progressbar=False,
    )  # fmt: skip
    value = scores[scores["model"] == "ContextMean"].set_index("context")["value"]
    assert len(value) == 4
    values = data.layers["log"]
    for context, found in value.items():
        cell_type, half = str(context).split(" | ")
        here = ((data.obs["cell_type"] == cell_type) & (data.obs["half"] == half)).to_numpy()
        names = data.obs["perturbation"].to_numpy()
        means = [values[here & (names == name)].mean(0) for name in ("pert_0", "pert_1", "pert_2")]
        truth = values[here & (names == "pert_3")].mean(0)
        assert found == pytest.approx(np.square(np.mean(means, axis=0) - truth).mean(), rel=1e-3)


def test_the_seed_changes_halves_and_networks(screen: Any) -> None:
    held = ((screen.obs["cell_type"] == "type_0") & (screen.obs["perturbation"] != "control")).to_numpy()
    options: dict[str, Any] = {"train": screen[~held].copy(), "groupby": "cell_type", "baselines": ["LatentShift"]}
    options |= {"metrics": "mean_squared_error", "progressbar": False}
    found = [
        pc.tl.evaluate(screen[held].copy(), {}, seed=seed, **options).set_index(["model", "perturbation"])["value"]
        for seed in (0, 1, 1)
    ]
    pd.testing.assert_series_equal(found[1], found[2])
    for model in ("ceiling", "LatentShift"):
        assert (found[0][model] != found[1][model]).all()
    pd.testing.assert_series_equal(found[0]["NoEffect"], found[1]["NoEffect"])


def test_halves_of_the_ceiling_are_random() -> None:
    """Cells in the order of their expression: the means of ordered halves would be 0.5 apart."""
    n, rng = 401, np.random.default_rng(0)
    X = np.concatenate([np.linspace(0, 1, n)[:, None] + np.zeros((n, 3)), rng.random((50, 3))])
    obs = pd.DataFrame({"perturbation": ["a"] * n + ["control"] * 50}, index=[f"cell{i}" for i in range(n + 50)])
    scores = pc.tl.evaluate(ad.AnnData(X, obs=obs), {}, metrics="mean_squared_error", progressbar=False)
    ceiling = scores[scores["model"] == "ceiling"].iloc[0]
    assert ceiling["value"] < 0.1**2
    assert (ceiling["n_predicted"], ceiling["n_real"]) == (200, 201)


@pytest.mark.parametrize("own", [True, False])
def test_the_specific_shift_is_that_from_the_centroid_of_training(screen: Any, *, own: bool) -> None:
    """Without perturbed cells in a context: its controls plus the mean shift of all training conditions."""
    names, types = (screen.obs[each].to_numpy() for each in ("perturbation", "cell_type"))
    held = (types == "type_0") & (names == "pert_3" if own else names != "control")
    train, real = screen[~held].copy(), screen[held].copy()
    predicted = screen[(types == "type_1") & (names == "pert_3")].copy()
    predicted.obs["cell_type"] = "type_0"
    scores = pc.tl.evaluate(
        real, predicted, train=train, groupby="cell_type", metrics="shift_pearson_specific", baselines=[],
        progressbar=False,
    )  # fmt: skip

    def average(name: str, cell_type: str) -> np.ndarray:
        return np.asarray(screen.X[(names == name) & (types == cell_type)].mean(0)).ravel()

    perturbed = [f"pert_{i}" for i in range(4)]
    if own:
        centroid = np.mean([average(name, "type_0") for name in perturbed[:3]], axis=0)
    else:
        shifts = [average(name, "type_1") - average("control", "type_1") for name in perturbed]
        centroid = average("control", "type_0") + np.mean(shifts, axis=0)
    expected = np.corrcoef(average("pert_3", "type_1") - centroid, average("pert_3", "type_0") - centroid)[0, 1]
    found = scores[(scores["model"] == "predicted") & (scores["perturbation"] == "pert_3")]["value"]
    assert found.tolist() == pytest.approx([expected], rel=1e-4)


def test_means_are_scored_on_perturbations_that_training_never_saw(screen: Any) -> None:
    new = (screen.obs["perturbation"] == "pert_3").to_numpy()
    scores = pc.tl.evaluate(
        screen[new], {}, train=screen[~new].copy(), groupby="cell_type", metrics="mean_squared_error",
        baselines=["PerturbedMean", "ContextMean", "PerturbationShift"], progressbar=False,
    )  # fmt: skip
    value = scores.set_index(["model", "context"])["value"]
    here, train = screen[new], screen[~new]
    for cell_type in ("type_0", "type_1"):
        in_type = train.obs["cell_type"] == cell_type
        names = [name for name in train.obs["perturbation"].unique() if name != "control"]
        means = [train[(in_type & (train.obs["perturbation"] == name)).to_numpy()].X.mean(0) for name in names]
        truth = here[(here.obs["cell_type"] == cell_type).to_numpy()].X.mean(0)
        expected = np.square(np.mean(means, axis=0) - truth).mean()
        assert value["ContextMean", cell_type] == pytest.approx(expected, rel=1e-3)
        assert np.isfinite(value["PerturbedMean", cell_type])
        assert np.isnan(value["PerturbationShift", cell_type])


def test_controls_in_an_anndata_of_their_own_must_be_labelled(halves: Any) -> None:
    real, fresh = halves
    control = real[real.obs["perturbation"] == "control"].copy()
    unlabelled = control.copy()
    del unlabelled.obs["perturbation"]
    with pytest.raises(KeyError, match="control.obs has no column 'perturbation'.*`perturbation_key`"):
        pc.tl.evaluate(real, fresh, control=unlabelled, metrics=MEANS)
    with pytest.raises(ValueError, match="must hold control cells only, but its column 'perturbation' holds"):
        pc.tl.evaluate(real, fresh, control=real, metrics=MEANS)
    with pytest.raises(TypeError, match="must be a label or an AnnData, but it is a int"):
        pc.tl.evaluate(real, fresh, control=3, metrics=MEANS)  # type: ignore[arg-type]
