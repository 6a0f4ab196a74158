"""Predictions of pertcast in the hands of pertpy, scanpy and cell-eval."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

import pertcast as pc
from pertcast.tl._bridges import delta_table, with_controls
from pertcast.tl._bridges_cell_eval import run_cell_eval, to_cell_eval

if TYPE_CHECKING:
    from pathlib import Path

SINGLES = ["pert_0", "pert_1", "pert_2"]
PAIRS = ["pert_0+pert_1", "pert_0+pert_2", "pert_1+pert_2"]


class Setting(NamedTuple):
    """A screen, and what a model that never saw perturbed cells of type_1 predicts for them."""

    screen: Any
    controls: Any
    real: Any
    predicted: Any
    positive: Any  # the same, cut at 0


@pytest.fixture(scope="module")
def setting() -> Setting:
    screen = pc.data.simulate_screen(
        40, n_genes=60, n_cell_types=2, n_donors=1, n_perturbations=3, combinations=True, effect_size=3,
        median_counts=3000, seed=3,
    )  # fmt: skip
    is_control = (screen.obs["perturbation"] == "control").to_numpy()
    in_target = (screen.obs["cell_type"] == "type_1").to_numpy()
    train = screen[is_control | ~in_target].copy()
    controls, real = screen[is_control & in_target].copy(), screen[~is_control & in_target].copy()
    pc.baselines.PerturbationShift.setup_anndata(
        train, perturbation_key="perturbation", cell_type_key="cell_type", batch_key="batch"
    )
    model = pc.baselines.PerturbationShift(train)
    model.train()
    predicted = model.predict(controls, progressbar=False)
    positive: Any = predicted.copy()
    positive.X = positive.X.maximum(0)
    return Setting(screen, controls, real, predicted, positive)


def cells(adata: Any, perturbation: str, cell_type: str = "type_1") -> np.ndarray:
    here = (adata.obs["perturbation"] == perturbation) & (adata.obs["cell_type"] == cell_type)
    return dense(adata[here.to_numpy()].X)


def cells_of(side: Any, perturbation: str) -> np.ndarray:
    return dense(side[(side.obs["perturbation"] == perturbation).to_numpy()].X)


def dense(X: Any) -> np.ndarray:
    return X.toarray() if sp.issparse(X) else np.asarray(X)


def in_order(X: np.ndarray) -> np.ndarray:
    """Rows in an order of their own, so that two matrices with the same cells are equal."""
    return X[np.lexsort(X.T)]


class TestWithControls:
    def test_holds_both_populations_and_the_provenance(self, setting: Setting) -> None:
        joined: Any = with_controls(
            setting.predicted, setting.screen[:, ::-1]
        )  # a whole screen, genes in another order
        every = dense(setting.screen[(setting.screen.obs["perturbation"] == "control").to_numpy()].X)
        np.testing.assert_array_equal(dense(joined.X), np.vstack([every, dense(setting.predicted.X)]))
        assert joined.var_names.equals(setting.predicted.var_names)
        assert list(joined.var.columns) == list(setting.predicted.var.columns)
        assert joined.X.dtype == np.float32
        assert sp.issparse(joined.X) == sp.issparse(setting.predicted.X)
        assert joined.uns["pertcast"]["model"] == "PerturbationShift"
        assert joined.uns["pertcast"] is not setting.predicted.uns["pertcast"]

    def test_dosages_may_be_whole_or_missing(self, setting: Setting, tmp_path: Path) -> None:
        predicted, controls = setting.predicted.copy(), setting.controls.copy()
        predicted.obs["dosage"] = 2.5
        controls.obs["dosage"] = pd.array([0, None] * (controls.n_obs // 2), dtype="Int64")
        joined: Any = with_controls(predicted, controls)
        joined.write_h5ad(tmp_path / "joined.h5ad")
        values = ad.read_h5ad(tmp_path / "joined.h5ad").obs["dosage"]
        assert values.dtype == np.float64
        assert (values.iloc[controls.n_obs :] == 2.5).all()
        assert values.iloc[: controls.n_obs].isna().sum() == controls.n_obs // 2

    def test_columns_are_those_of_the_prediction(self, setting: Setting) -> None:
        joined: Any = with_controls(setting.predicted, setting.controls)
        n = setting.controls.n_obs
        assert list(joined.obs.columns) == list(setting.predicted.obs.columns)
        pd.testing.assert_frame_equal(
            joined.obs.iloc[n:].astype(str), setting.predicted.obs.astype(str), check_categorical=False
        )
        assert (joined.obs["perturbation"].iloc[:n] == "control").all()
        assert joined.obs["perturbation"].dtype == "category"
        assert list(joined.obs["batch"].iloc[:n]) == list(setting.controls.obs["batch"])
        assert (
            list(joined.obs["source_cell"].iloc[:n]) == list(joined.obs_names[:n]) == list(setting.controls.obs_names)
        )
        assert joined.obs["population"].dtype == "Int64"
        assert joined.obs["population"].isna().tolist() == [True] * n + [False] * setting.predicted.n_obs

    def test_can_be_written_and_read(self, setting: Setting, tmp_path: Path) -> None:
        joined: Any = with_controls(setting.predicted, setting.controls)
        joined.write_h5ad(tmp_path / "joined.h5ad")
        back: Any = ad.read_h5ad(tmp_path / "joined.h5ad")
        np.testing.assert_array_equal(dense(back.X), dense(joined.X))
        pd.testing.assert_frame_equal(back.obs.astype(str), joined.obs.astype(str), check_categorical=False)

    def test_uses_the_measured_controls_and_not_those_of_a_prediction(self, setting: Setting) -> None:
        forged = setting.controls.copy()
        forged.X = forged.X * 3
        joined: Any = with_controls(ad.concat([forged, setting.predicted]), setting.controls)
        expected: Any = with_controls(setting.predicted, setting.controls)
        np.testing.assert_array_equal(dense(joined.X), dense(expected.X))

    def test_reads_a_layer_and_a_dense_prediction(self, setting: Setting) -> None:
        predicted, controls = setting.predicted.copy(), setting.controls.copy()
        predicted.X = np.asfortranarray(dense(predicted.X))
        controls.layers["lognorm"] = controls.X
        controls.X = controls.layers["counts"]
        joined: Any = with_controls(predicted, controls, layer="lognorm")
        assert isinstance(joined.X, np.ndarray)
        expected: Any = with_controls(setting.predicted, setting.controls)
        np.testing.assert_array_equal(joined.X, dense(expected.X))
        with pytest.raises(ValueError, match="raw counts"):
            with_controls(predicted, controls)

    def test_names_stay_unique(self, setting: Setting) -> None:
        predicted = setting.predicted[:3].copy()
        predicted.obs_names = [setting.controls.obs_names[0], "a", "b"]
        joined: Any = with_controls(predicted, setting.controls)
        assert joined.obs_names.is_unique
        assert list(joined.obs_names[: setting.controls.n_obs]) == list(setting.controls.obs_names)
        assert list(joined.obs_names[-2:]) == ["a", "b"]

    def test_changes_nothing(self, setting: Setting) -> None:
        before = setting.predicted.copy(), setting.controls.copy()
        with_controls(setting.predicted, setting.controls)
        for old, new in zip(before, (setting.predicted, setting.controls), strict=True):
            pd.testing.assert_frame_equal(old.obs, new.obs)
            np.testing.assert_array_equal(dense(old.X), dense(new.X))

    def test_says_what_is_missing(self, setting: Setting) -> None:
        with pytest.raises(ValueError, match="`controls` has no control cells .*'ctrl'"):
            with_controls(setting.predicted, setting.controls, control="ctrl")
        with pytest.raises(ValueError, match="`predicted` has no predicted cells"):
            with_controls(setting.controls, setting.controls)
        with pytest.raises(KeyError, match="predicted.obs has no column 'label'"):
            with_controls(setting.predicted, setting.controls, perturbation_key="label")
        with pytest.raises(ValueError, match="of the other cells are missing from controls.var_names"):
            with_controls(setting.predicted, setting.controls[:, 1:])


class TestDeltaTable:
    def test_rows_are_mean_shifts(self, setting: Setting) -> None:
        table: Any = delta_table(setting.screen, groupby="cell_type")
        assert len(table) == 2 * len(SINGLES + PAIRS)
        for row in range(len(table)):
            perturbation, cell_type = table.obs["perturbation"].iloc[row], table.obs["cell_type"].iloc[row]
            assert table.obs_names[row] == f"{perturbation} | {cell_type}"
            population = cells(setting.screen, perturbation, cell_type)
            control = cells(setting.screen, "control", cell_type)
            np.testing.assert_allclose(table.X[row], pc.tl.mean_shift(population, control), rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(table.layers["mean"][row], population.mean(axis=0, dtype=np.float64), rtol=1e-12)
        assert (table.obs[["n_cells", "n_control"]] == 40).all(axis=None)

    def test_takes_given_controls_and_never_those_of_a_prediction(self, setting: Setting) -> None:
        forged = setting.controls.copy()
        forged.X = forged.X * 3
        forged.obs_names = [f"forged_{name}" for name in forged.obs_names]
        first: Any = delta_table(setting.predicted, control=setting.controls[:, ::-1])
        second: Any = delta_table(ad.concat([forged, setting.predicted]), control=setting.controls)
        third: Any = delta_table(with_controls(setting.predicted, setting.controls))
        assert list(first.obs_names) == sorted(SINGLES + PAIRS)
        for other in (second, third):
            np.testing.assert_allclose(first.X, other.X, rtol=1e-12)
            pd.testing.assert_frame_equal(first.obs, other.obs)

    def test_one_spelling_of_a_combination(self, setting: Setting) -> None:
        turned = setting.screen.copy()
        labels = turned.obs["perturbation"].astype(str).to_numpy(dtype=object)
        labels[::2] = ["+".join(reversed(label.split("+"))) for label in labels[::2]]
        turned.obs["perturbation"] = labels
        first: Any = delta_table(turned, groupby="cell_type")
        second: Any = delta_table(setting.screen, groupby="cell_type")
        assert first.obs_names.equals(second.obs_names)
        np.testing.assert_allclose(first.X, second.X, rtol=1e-12)

    def test_dosages_are_rows_of_their_own(self) -> None:
        screen = pc.data.simulate_screen(
            20, n_genes=40, n_cell_types=1, n_donors=1, n_perturbations=1, combinations=0, dosages=[0.5, 10]
        )
        table: Any = delta_table(screen, dosage_key="dosage")
        assert list(table.obs_names) == ["pert_0 | 0.5", "pert_0 | 10"]
        assert table.obs["dosage"].tolist() == [0.5, 10]
        close = screen.copy()
        close.obs["dosage"] = close.obs["dosage"].replace({0.5: 1234567, 10: 1234568})
        assert list(delta_table(close, dosage_key="dosage").obs_names) == ["pert_0 | 1234567", "pert_0 | 1234568"]
        here = (screen.obs["dosage"] == 10).to_numpy()
        control = dense(screen[(screen.obs["perturbation"] == "control").to_numpy()].X)
        np.testing.assert_allclose(table.X[1], pc.tl.mean_shift(dense(screen[here].X), control), rtol=1e-12, atol=1e-14)

    def test_contexts_whose_joined_names_are_equal_are_refused(self, setting: Setting) -> None:
        screen = setting.screen.copy()
        screen.obs["cell_type"] = screen.obs["cell_type"].astype(str).replace({"type_1": "type_0 | a"})
        assert set(delta_table(screen, groupby="cell_type").obs["cell_type"]) == {"type_0", "type_0 | a"}
        with pytest.raises(ValueError, match=r"'cell_type' holds the label 'type_0 \| a'"):
            delta_table(screen, groupby=["cell_type", "donor"])

    def test_says_what_is_missing(self, setting: Setting) -> None:
        with pytest.raises(ValueError, match="no control cells"):
            delta_table(setting.predicted)
        with pytest.raises(ValueError, match="`control` has no control cells .* for 'type_0'"):
            delta_table(setting.screen, control=setting.controls, groupby="cell_type")
        with pytest.raises(ValueError, match="no perturbed cells"):
            delta_table(setting.controls)


class TestToCellEval:
    def test_both_sides_share_genes_perturbations_and_controls(self, setting: Setting) -> None:
        forged = setting.controls.copy()
        forged.X = forged.X * 3
        predicted = ad.concat([forged, setting.positive])[:, ::-1].copy()
        real, guess = to_cell_eval(setting.screen, predicted, groupby="cell_type", context="type_1")
        measured = cells(setting.screen, "control")
        side: Any
        for side in (real, guess):
            assert side.var_names.equals(setting.screen.var_names)
            assert set(side.obs["perturbation"]) == {"control", *SINGLES, *PAIRS}
            assert set(side.obs["cell_type"]) == {"type_1"}
            assert side.X.dtype == np.float32
            assert isinstance(side.X, sp.csr_matrix)
            assert side.obs_names.is_unique
            np.testing.assert_array_equal(in_order(cells(side, "control")), in_order(measured))
        for perturbation in SINGLES + PAIRS:
            for side, source in ((real, setting.screen), (guess, setting.positive)):
                found = in_order(cells(side, perturbation))
                np.testing.assert_array_equal(found, in_order(cells(source, perturbation)))

    def test_controls_may_be_given(self, setting: Setting) -> None:
        first = to_cell_eval(setting.real, setting.positive, control=setting.controls)
        second = to_cell_eval(setting.screen, setting.positive, groupby="cell_type", context="type_1")
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(dense(a.X), dense(b.X))
        with pytest.raises(ValueError, match="`real` has no control cells"):
            to_cell_eval(setting.real, setting.positive)

    def test_perturbations_are_those_that_were_measured(self, setting: Setting) -> None:
        fewer = setting.real[setting.real.obs["perturbation"].isin(["pert_1", "pert_0+pert_2"]).to_numpy()].copy()
        fewer.obs["perturbation"] = fewer.obs["perturbation"].astype(str).replace("pert_0+pert_2", "pert_2 + pert_0")
        real, guess = to_cell_eval(fewer, setting.positive, control=setting.controls)
        for side in (real, guess):
            assert set(side.obs["perturbation"]) == {"control", "pert_1", "pert_0+pert_2"}
        lost = setting.positive[(setting.positive.obs["perturbation"] != "pert_1").to_numpy()]
        with pytest.raises(ValueError, match=r"no predicted cells of 'pert_1 \| all'"):
            to_cell_eval(fewer, lost, control=setting.controls)

    def test_negative_predictions_need_a_decision(self, setting: Setting) -> None:
        predicted = setting.positive.copy()
        predicted.X = dense(predicted.X) - np.float32(0.1)
        with pytest.raises(ValueError, match=r"`predicted` holds -0\.1 for gene .*`clip=True`"):
            to_cell_eval(setting.real, predicted, control=setting.controls)
        real, guess = to_cell_eval(setting.real, predicted, control=setting.controls, clip=True)
        expected = np.maximum(cells(predicted, "pert_2"), 0)
        np.testing.assert_array_equal(in_order(cells_of(guess, "pert_2")), in_order(expected))
        np.testing.assert_array_equal(in_order(cells_of(real, "pert_2")), in_order(cells(setting.real, "pert_2")))
        assert dense(predicted.X).min() < 0

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda X: X - 0.5, "`real` holds -0.5 .* cannot be scored by cell-eval"),
            (lambda X: X + 15, r"in \[0, 15\), but `real` holds"),
        ],
    )
    def test_measurements_must_be_log1p(self, setting: Setting, change: Any, message: str) -> None:
        real = setting.real.copy()
        real.X = change(dense(real.X)).astype(np.float32)
        with pytest.raises(ValueError, match=message):
            to_cell_eval(real, setting.positive, control=setting.controls, clip=True)

    def test_whole_numbers_would_be_taken_for_counts(self, setting: Setting) -> None:
        sides = [each.copy() for each in (setting.real, setting.positive, setting.controls)]
        for side in sides:
            side.X = (dense(side.X) > 0).astype(np.float32)
        with pytest.raises(ValueError, match="whole numbers"):
            to_cell_eval(sides[0], sides[1], control=sides[2])

    def test_one_context_at_a_time(self, setting: Setting) -> None:
        with pytest.raises(ValueError, match="2 contexts .* Name it with `context=`"):
            to_cell_eval(setting.screen, setting.positive, groupby="cell_type")
        with pytest.raises(ValueError, match="no perturbed cells of the context 'type1'. Did you mean 'type_1'"):
            to_cell_eval(setting.screen, setting.positive, groupby="cell_type", context="type1")

    def test_warns_of_point_predictions(self, setting: Setting, caplog: pytest.LogCaptureFixture) -> None:
        to_cell_eval(setting.real, setting.positive, control=setting.controls)
        assert not caplog.records
        point = setting.positive.copy()
        point.uns["pertcast"] = {**point.uns["pertcast"], "is_point": True}
        to_cell_eval(setting.real, point, control=setting.controls)
        assert "metrics of means only" in caplog.text

    def test_dosages_become_perturbations(self) -> None:
        screen = pc.data.simulate_screen(
            20, n_genes=40, n_cell_types=1, n_donors=1, n_perturbations=1, combinations=0, dosages=[0.5, 10]
        )
        real, guess = to_cell_eval(screen[::2], screen[1::2], dosage_key="dosage")
        for side in (real, guess):
            counts = side.obs["perturbation"].value_counts().to_dict()
            assert counts == {"control": 10, "pert_0 | 0.5": 10, "pert_0 | 10": 10}


class TestRunCellEval:
    @pytest.mark.filterwarnings("ignore")
    def test_agrees_with_our_own_metrics(self, setting: Setting) -> None:
        pytest.importorskip("cell_eval", reason="cell-eval is not installed: pip install cell-eval")
        predicted = ad.concat([setting.positive, seen(setting, "type_0")])
        scores = run_cell_eval(setting.screen, predicted, groupby="cell_type", profile="anndata")
        value = scores.set_index(["context", "perturbation", "metric"])["value"]
        for cell_type in ("type_0", "type_1"):
            control = cells(setting.screen, "control", cell_type)
            means: dict[str, list[np.ndarray]] = {"guess": [], "real": []}
            for name in sorted(SINGLES + PAIRS):
                guess, real = cells(predicted, name, cell_type), cells(setting.screen, name, cell_type)
                means["guess"].append(guess.mean(0))
                means["real"].append(real.mean(0))
                expected = {
                    "pearson_delta": pc.tl.shift_pearson(guess, real, control),
                    "mse": pc.tl.mean_squared_error(guess, real),
                    "mse_delta": pc.tl.mean_squared_error(guess, real),
                    "mae": pc.tl.mean_absolute_error(guess, real),
                }
                for metric, number in expected.items():
                    assert value[cell_type, name, metric] == pytest.approx(number, rel=1e-4), (cell_type, name, metric)
            ours = pc.tl.discrimination_score(np.stack(means["guess"]), np.stack(means["real"]), control)
            theirs = [value[cell_type, name, "discrimination_score_l1"] for name in sorted(SINGLES + PAIRS)]
            assert theirs == pytest.approx(ours.tolist())
            distances = {
                side: [
                    pc.tl.energy_distance(cells(source, name, cell_type), control, unbiased=False)
                    for name in sorted(SINGLES + PAIRS)
                ]
                for side, source in (("real", setting.screen), ("guess", predicted))
            }
            correlation = np.corrcoef(distances["real"], distances["guess"])[0, 1]
            assert value[cell_type, "pert_0", "pearson_edistance"] == pytest.approx(correlation, rel=1e-4)

    @pytest.mark.filterwarnings("ignore")
    def test_scores_do_not_change_with_the_controls_of_a_prediction(self, setting: Setting) -> None:
        pytest.importorskip("cell_eval", reason="cell-eval is not installed: pip install cell-eval")
        forged = setting.controls.copy()
        forged.X = forged.X * 3
        options: dict[str, Any] = {"control": setting.controls, "profile": "full"}
        first = run_cell_eval(setting.real, setting.positive, **options)
        second = run_cell_eval(setting.real, ad.concat([forged, setting.positive]), **options)
        pd.testing.assert_frame_equal(first, second)
        assert {"overlap_at_N", "roc_auc", "clustering_agreement"} <= set(first["metric"])

    def test_gives_cell_eval_what_it_needs(self, setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[dict[str, Any]] = []

        class MetricsEvaluator:
            def __init__(self, **options: Any) -> None:
                calls.append(options)

            def compute(self, **options: Any) -> tuple[Any, None]:
                calls[-1].update(options)
                context = calls[-1]["adata_real"].obs["cell_type"].iloc[0]
                return Frame({"perturbation": ["pert_1", "pert_0"], "mse": [0.2, 0.1], context: [None, 4.0]}), None

        class Frame(dict):
            def to_dict(self, *, as_series: bool) -> dict[str, Any]:
                assert not as_series
                return dict(self)

        module = SimpleNamespace(MetricsEvaluator=MetricsEvaluator)
        monkeypatch.setitem(sys.modules, "cell_eval", cast("ModuleType", module))
        predicted = ad.concat([setting.positive, seen(setting, "type_0")])
        scores = run_cell_eval(setting.screen, predicted, groupby="cell_type", profile="pds", skip_metrics=["mae"])
        assert list(scores.columns) == ["context", "perturbation", "metric", "value"]
        assert scores["context"].tolist() == ["type_0"] * 4 + ["type_1"] * 4
        assert scores["metric"].tolist() == ["mse", "type_0"] * 2 + ["mse", "type_1"] * 2
        np.testing.assert_array_equal(scores["value"], [0.1, 4, 0.2, np.nan] * 2)
        assert [each["break_on_error"] and not each["write_csv"] for each in calls] == [True, True]
        assert [each["skip_metrics"] for each in calls] == [["mae"]] * 2
        assert [(each["control_pert"], each["pert_col"]) for each in calls] == [("control", "perturbation")] * 2
        for each in calls:
            first, second = (cells_of(each[side], "control") for side in ("adata_real", "adata_pred"))
            np.testing.assert_array_equal(first, second)

    def test_says_how_to_install_it(self, setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cell_eval", None)  # makes the import fail
        with pytest.raises(ImportError, match="pip install cell-eval"):
            run_cell_eval(setting.real, setting.positive, control=setting.controls)


def seen(setting: Setting, cell_type: str) -> Any:
    """Perturbed cells of a cell type with other noise, in the place of predictions."""
    screen = setting.screen
    here = ((screen.obs["cell_type"] == cell_type) & (screen.obs["perturbation"] != "control")).to_numpy()
    found = screen[here].copy()
    found.X = dense(found.X) * np.random.default_rng(0).uniform(0.5, 1.5, found.shape).astype(np.float32)
    found.X = sp.csr_matrix(found.X)
    return found


@pytest.mark.filterwarnings("ignore")
class TestPertpy:
    """pertpy's tools read predictions as they are; pertpy is slow to import, hence inside the tests."""

    def test_energy_distances_of_predicted_real_and_control_cells(self, setting: Setting) -> None:
        import pertpy as pt

        sides = {"predicted": with_controls(setting.predicted, setting.controls), "real": setting.real}
        joined = ad.concat(sides, label="side")
        named = joined.obs["perturbation"].astype(str) + " " + joined.obs["side"].astype(str)
        joined.obs["group"] = named.replace("control predicted", "control")
        sc.pp.pca(joined, n_comps=5)
        joined.layers["dense"] = dense(joined.X)
        groups = ["control", "pert_0 predicted", "pert_0 real", "pert_1+pert_2 predicted", "pert_1+pert_2 real"]
        members = {group: (joined.obs["group"] == group).to_numpy() for group in groups}
        spaces = {"X_pca": joined.obsm["X_pca"], "dense": joined.layers["dense"]}
        for tool, space in (
            (pt.tl.Distance("edistance", obsm_key="X_pca"), spaces["X_pca"]),
            (pt.tl.Distance("edistance", layer_key="dense"), spaces["dense"]),
        ):
            pairwise: Any = tool.pairwise(joined, groupby="group", groups=groups, show_progressbar=False, n_jobs=1)
            onesided: Any = tool.onesided_distances(
                joined, groupby="group", selected_group="control", groups=groups, show_progressbar=False, n_jobs=1
            )
            for first in groups:
                for second in groups:
                    ours = pc.tl.energy_distance(space[members[first]], space[members[second]], unbiased=False)
                    assert pairwise.loc[first, second] == pytest.approx(ours, rel=1e-4, abs=1e-4)
                ours = pc.tl.energy_distance(space[members[first]], space[members["control"]], unbiased=False)
                assert onesided[first] == pytest.approx(ours, rel=1e-4, abs=1e-4)
            assert pairwise.loc["pert_1+pert_2 predicted", "control"] > 0.1

    def test_pseudobulks_equal_the_table_of_shifts(self, setting: Setting) -> None:
        import pertpy as pt

        joined = with_controls(setting.predicted, setting.controls)
        table: Any = delta_table(setting.predicted, control=setting.controls)
        space = pt.tl.PseudobulkSpace()
        bulks: Any = space.compute(joined, target_col="perturbation", mode="mean")
        shifts: Any = space.compute_control_diff(bulks, target_col="perturbation", reference_key="control")
        np.testing.assert_allclose(bulks[table.obs_names].X, table.layers["mean"], rtol=1e-6)
        np.testing.assert_allclose(shifts[table.obs_names].X, table.X, rtol=1e-6, atol=1e-6)
        assert not shifts["control"].X.any()

        assert list(space.nearest_perturbations(table, "pert_0").index) == [
            name for name in space.nearest_perturbations(shifts, "pert_0").index if name != "control"
        ]
        additive = space.evaluate_combinations(table)
        assert set(additive.index) == set(PAIRS)
        pd.testing.assert_frame_equal(additive, space.evaluate_combinations(bulks), rtol=1e-4)

    def test_pseudobulks_by_context(self, setting: Setting) -> None:
        import pertpy as pt

        table: Any = delta_table(setting.screen, groupby="cell_type")
        space = pt.tl.PseudobulkSpace()
        bulks: Any = space.compute(setting.screen, target_col="perturbation", groups_col="cell_type", mode="mean")
        shifts: Any = space.compute_control_diff(bulks, target_col="perturbation", group_col="cell_type")
        order = [f"{row.perturbation}_{row.cell_type}" for row in table.obs.itertuples()]
        np.testing.assert_allclose(shifts[order].X, table.X, rtol=1e-5, atol=1e-6)

    def test_centroids_are_cells_next_to_the_means(self, setting: Setting) -> None:
        import pertpy as pt

        joined: Any = with_controls(setting.predicted, setting.controls)
        means = delta_table(setting.predicted, control=setting.controls)
        centroids = pt.tl.CentroidSpace().compute(joined, target_col="perturbation", embedding_key=None)
        assert set(centroids.obs_names) == {"control", *SINGLES, *PAIRS}
        for name in means.obs_names:
            population, mean = cells(setting.predicted, name), means[name].layers["mean"].ravel()
            nearest = population[np.argmin(np.linalg.norm(population - mean, axis=1))]
            np.testing.assert_array_equal(centroids[name].X.ravel(), nearest)

    def test_a_classifier_compares_predicted_with_real_cells(self, setting: Setting) -> None:
        import pertpy as pt

        joined: Any = with_controls(setting.predicted, setting.controls)
        control, guess = cells(joined, "control"), cells(joined, "pert_2")
        real = cells(setting.real, "pert_2")
        compare = pt.tl.PerturbationComparison().compare_classification
        judge = LogisticRegression().fit(np.vstack([real, control]), [1] * len(real) + [0] * len(control))
        expected = min(1.0, judge.predict(guess).mean() / judge.predict(real).mean())
        assert compare(real=real, simulated=guess, control=control) == pytest.approx(expected)
        assert compare(real=real, simulated=control, control=control) < expected
