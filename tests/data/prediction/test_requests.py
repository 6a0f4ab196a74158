"""What may be asked for."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest

from .conftest import SETUP, Jitter, spy, table, trained


class TestPerturbations:
    def test_all_of_the_training_data_by_default(self, model: Jitter) -> None:
        predicted = model.predict()
        assert predicted.obs["perturbation"].cat.categories.tolist() == ["A", "A+B/x", "B/x"]
        assert predicted.n_obs == 3 * 120

    def test_spellings_are_one(self, model: Jitter, controls: Any, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="pertcast"):
            predicted = model.predict(controls, ["B/x + A", "A+B/x", "A+control"])
        assert "1 repeated perturbations are predicted once" in caplog.text
        assert predicted.obs["perturbation"].unique().tolist() == ["B/x + A", "A+control"]  # as it was asked for
        expected = model.predict(controls, ["A+B/x", "A"])
        np.testing.assert_array_equal(predicted.X.toarray(), expected.X.toarray())

    @pytest.mark.parametrize("kind", [tuple, iter, pd.Index, np.array, lambda names: pd.Series(names, index=[7, 3])])
    def test_names_may_come_in_any_collection(self, model: Jitter, controls: Any, kind: Any) -> None:
        expected = model.predict(controls, ["B/x+A", "A"])
        found = model.predict(controls, kind(["B/x+A", "A"]))
        pd.testing.assert_frame_equal(found.obs, expected.obs)
        np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
        assert set(model.predict(controls, {"B/x+A", "A"}).obs["perturbation"]) == {"B/x+A", "A"}
        some = model.predict(controls, ["A"], contexts=kind(["mono", "B"]))
        expected = model.predict(controls, ["A"], contexts=["mono", "B"])
        pd.testing.assert_frame_equal(some.obs, expected.obs)
        assert some.uns["pertcast"]["params"]["contexts"].tolist() == ["mono", "B"]

    def test_combinations_are_spelled_as_in_the_training_data(self, make_screen: Any, controls: Any) -> None:
        adata = make_screen()
        adata.obs["perturbation"] = adata.obs["perturbation"].replace({"A+B/x": "B/x+A", "A": "A+control"})
        Jitter.setup_anndata(adata, cell_type_key="cell_type")
        model = Jitter(adata)
        model.train()
        controls = controls.copy()
        predicted = model.predict(controls, key_added="k")
        assert predicted.obs["perturbation"].unique().tolist() == ["A+control", "B/x+A", "B/x"]
        assert controls.uns["k"]["perturbations"].tolist() == ["A+control", "B/x+A", "B/x"]
        assert set(controls.uns["k"]["effects"]["perturbation"]) == {"A+control", "B/x+A", "B/x"}
        asked = model.predict(controls, ["A+B/x"])
        assert asked.obs["perturbation"].unique().tolist() == ["A+B/x"]

    @pytest.mark.parametrize(
        ("perturbations", "error", "message"),
        [
            (["A", "control"], ValueError, "`perturbations` holds the control 'control'"),
            ([], ValueError, "`perturbations` is empty"),
            (["A", "B/y"], ValueError, "Unknown perturbation 'B/y'.*Did you mean 'B/x'"),
            ([3], TypeError, "must be a string, but found 3"),
            (3, TypeError, "must be a name or a list of names, but found 3.*: '3'"),
            ("A+", ValueError, "empty part"),
        ],
    )
    def test_errors(
        self, model: Jitter, controls: Any, perturbations: Any, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            model.predict(controls, perturbations)

    def test_unknown_ones_by_choice(self, model: Jitter, controls: Any) -> None:
        tasks = spy(model)
        predicted = model.predict(controls, ["new+A"], unseen="mean")
        assert tasks[0].part_names == ("A", "new")
        assert tasks[0].stand_ins == (("A",), ("A", "B/x"))
        params = predicted.uns["pertcast"]["params"]
        assert (params["unseen"], params["unseen_perturbations"].tolist()) == ("mean", ["new"])
        assert params["stand_ins"].tolist() == ["A | B/x"]


class TestDosages:
    @pytest.mark.parametrize(
        ("perturbations", "dosages", "expected"),
        [
            (["A"], None, [("A", 0.5), ("A", 10.0)]),
            (["B/x", "A"], 3, [("B/x", 3.0), ("A", 3.0)]),
            (["A", "A"], [1, 2.0], [("A", 1.0), ("A", 2.0)]),
            (["A", "A"], [1, 1], [("A", 1.0)]),
            (["B/x+A", "A"], {"A+B/x": [1, 4], "A": 0.1}, [("B/x+A", 1.0), ("B/x+A", 4.0), ("A", 0.1)]),
            (["A", "B/x"], pd.Series({"B/x": 10.0, "A": 0.1}), [("A", 0.1), ("B/x", 10.0)]),
            (None, pd.Series({"B/x": 3, "B/x+A": 2, "A": 1}), [("A", 1.0), ("A+B/x", 2.0), ("B/x", 3.0)]),
            (["A", "B/x"], pd.Series([10.0, 0.1], index=[7, 3]), [("A", 10.0), ("B/x", 0.1)]),
            (["A"], {"A": [0.1, np.float32(0.1)]}, [("A", 0.1)]),
        ],
    )
    def test_pairs(self, dosed: Jitter, controls: Any, perturbations: Any, dosages: Any, expected: Any) -> None:
        obs = dosed.predict(controls, perturbations, dosages=dosages, contexts="B").obs
        assert list(dict.fromkeys(zip(obs["perturbation"], obs["dose"], strict=True))) == expected

    def test_type_of_the_number_makes_no_difference(self, dosed: Jitter, controls: Any) -> None:
        expected = dosed.predict(controls, ["A"], dosages=0.1)
        for dosages in (np.float32(0.1), pd.Series({"A": 0.1}, dtype=np.float32), np.array([0.1], dtype=np.float32)):
            found = dosed.predict(controls, ["A"], dosages=dosages)
            np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
            pd.testing.assert_frame_equal(found.obs, expected.obs)

    def test_trained_dosages(self, dosed: Jitter) -> None:
        assert dosed.dosages_ == {"A": (0.5, 10.0), "A+B/x": (0.5, 10.0), "B/x": (0.5, 10.0)}

    @pytest.mark.parametrize(
        ("perturbations", "dosages", "error", "message"),
        [
            (["A"], [1, 2], ValueError, r"lists 2 numbers for 1 perturbations.*dosages=\{'A': \[1, 2\]\}"),
            (None, [1, 2, 3], ValueError, "it must hold one for each of `perturbations`"),
            (["A", "B/x"], {"A": 1}, ValueError, "`dosages` holds none for 'B/x'"),
            (["A"], {"A": 1, "B": 1}, ValueError, "`dosages` names 'B', which is not among"),
            (["A"], {"A": []}, ValueError, "empty list for 'A'"),
            (["A", "B/x"], pd.Series({"A": 1}), ValueError, "`dosages` holds none for 'B/x'"),
            (["A"], pd.Series([1, 2], index=["A", "A"]), ValueError, "`dosages` names 'A' more than once"),
            (["B/x+A"], {"A+B/x": 1, "B/x+A": 2}, ValueError, r"`dosages` names 'A\+B/x' more than once"),
            (["A"], 1e39, ValueError, "finite"),
            (["A"], -1, ValueError, "at least 0, but found -1"),
            (["A"], np.nan, ValueError, "finite"),
            (["A"], ["much"], TypeError, "must be a number, but found 'much'"),
        ],
    )
    def test_errors(
        self, dosed: Jitter, controls: Any, perturbations: Any, dosages: Any, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            dosed.predict(controls, perturbations, dosages=dosages)

    def test_unmeasured_combination_needs_one(self, adata: Any) -> None:
        adata = adata[~adata.obs["perturbation"].isin(["A+B/x", "B/x+A"])].copy()
        model = trained(adata, dosage_key="dose")
        with pytest.raises(ValueError, match="no dosage for 'A\\+B/x', so `dosages` must name one"):
            model.predict(None, ["A+B/x"])
        assert set(model.predict(None, ["A+B/x"], dosages=2).obs["dose"]) == {2.0}

    def test_screen_without_dosage_takes_none(self, model: Jitter, controls: Any) -> None:
        with pytest.raises(ValueError, match="`dosages` are given, but the model was set up without `dosage_key`"):
            model.predict(controls, ["A"], dosages=1)


class TestModelState:
    def test_untrained(self, adata: Any, controls: Any) -> None:
        Jitter.setup_anndata(adata, **SETUP)
        with pytest.raises(RuntimeError, match="This Jitter is not trained.*`model.train\\(\\)` first"):
            Jitter(adata).predict(controls, ["A"])

    def test_without_training_data(self, model: Jitter, controls: Any) -> None:
        bare = Jitter(registry=model.registry)
        bare.dosages_, bare.is_trained_ = model.dosages_, True
        with pytest.raises(ValueError, match="no control cells to predict from. Give them"):
            bare.predict(None, ["A"])
        pd.testing.assert_frame_equal(table(bare.predict(controls, ["A"])), table(model.predict(controls, ["A"])))

    def test_other_data_can_be_attached(self, model: Jitter, controls: Any) -> None:
        expected = table(model.predict(controls, ["A"]))
        model.adata = controls
        pd.testing.assert_frame_equal(table(model.predict(None, ["A"])), expected)

    def test_values_that_are_not_finite_are_an_error(self, model: Jitter, controls: Any) -> None:
        model.noise = np.inf
        with pytest.raises(RuntimeError, match="predicted NaN or infinite values for 'A'"):
            model.predict(controls, ["A"], key_added="k")
        assert "k" not in controls.uns

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"n_cells": 0}, ValueError),
            ({"n_cells": 2.5}, TypeError),
            ({"n_populations": 0}, ValueError),
            ({"n_populations": True}, TypeError),
            ({"batch_size": 0}, ValueError),
            ({"seed": -1}, ValueError),
            ({"seed": None}, TypeError),
        ],
    )
    def test_numbers_are_checked(
        self, model: Jitter, controls: Any, options: dict[str, Any], error: type[Exception]
    ) -> None:
        with pytest.raises(error, match=f"`{next(iter(options))}` must be"):
            model.predict(controls, ["A"], **options)

    def test_progress_bar_names_the_perturbation(
        self, model: Jitter, controls: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        model.predict(controls, ["A"], progressbar=False)
        assert capsys.readouterr().out == ""
        model.predict(controls, ["A"], progressbar=True)
        assert "Predicting A: 100%" in capsys.readouterr().out
