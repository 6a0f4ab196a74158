"""Predictions in the hands of cell-eval."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import pertcast as pc
from pertcast.tl._bridges_cell_eval import run_cell_eval, to_cell_eval

from .conftest import PAIRS, SINGLES, Setting, cells, cells_of, dense, in_order, seen


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
