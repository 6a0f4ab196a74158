"""Predictions that are written into the AnnData of the controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest

from .conftest import Jitter, assert_untouched, snapshot, table

if TYPE_CHECKING:
    from pathlib import Path


class TestKeyAdded:
    def test_contents(self, dosed: Jitter, controls: Any) -> None:
        before = snapshot(controls)
        predicted = dosed.predict(controls, ["A", "B/x"], dosages=[1, 2], n_populations=3, key_added="k")
        np.testing.assert_array_equal(controls.X.toarray(), before[0])
        pd.testing.assert_frame_equal(controls.obs, before[1])
        assert set(controls.obsm) - before[3] == {"k_0", "k_1"}
        assert set(controls.uns) - before[4] == {"k"}
        entry = controls.uns["k"]
        assert entry["perturbations"].tolist() == ["A", "B/x"]
        assert entry["dosages"].tolist() == [1.0, 2.0]
        assert entry["params"]["model"] == "Jitter"

        cells = table(predicted[(predicted.obs["population"] == 0).to_numpy()])
        cells = cells.groupby(level=["perturbation", "source_cell"]).mean()
        for n, name in enumerate(["A", "B/x"]):
            matrix = controls.obsm[f"k_{n}"]
            assert matrix.shape == (controls.n_obs, 12)
            assert matrix.dtype == np.float32
            np.testing.assert_allclose(matrix.toarray(), cells.loc[name].loc[controls.obs_names], rtol=1e-5)

        effects = entry["effects"]
        assert effects.columns.tolist() == ["perturbation", "dosage", "context", "gene", "shift", "sd"]
        assert len(effects) == 2 * 6 * 12
        context = predicted.obs["cell_type"].astype(str) + " | " + predicted.obs["sex"].astype(str)
        frame = pd.DataFrame(predicted.X.toarray(), columns=predicted.var_names)
        means = frame.groupby(
            [predicted.obs["perturbation"].to_numpy(), context.to_numpy(), predicted.obs["population"].to_numpy()]
        ).mean()
        baseline = pd.DataFrame(controls.X.toarray(), columns=controls.var_names)
        baseline = baseline.groupby((controls.obs["cell_type"] + " | " + controls.obs["sex"]).to_numpy()).mean()
        wide = effects.pivot_table(index=["perturbation", "context"], columns="gene", values="shift", observed=True)
        for (name, where), row in wide.iterrows():
            expected = means.loc[(name, where)] - baseline.loc[where]
            np.testing.assert_allclose(row[controls.var_names], expected.mean(), rtol=1e-4)
            here = effects[(effects["perturbation"] == name) & (effects["context"] == where)].set_index("gene")
            np.testing.assert_allclose(here.loc[controls.var_names, "sd"], expected.std(ddof=1), rtol=1e-3)

    def test_the_sd_of_one_population_is_missing(self, model: Jitter, controls: Any, tmp_path: Path) -> None:
        model.predict(controls, ["A"], key_added="k")
        controls.write_h5ad(tmp_path / "controls.h5ad")
        for adata in (controls, anndata.read_h5ad(tmp_path / "controls.h5ad")):
            effects = adata.uns["k"]["effects"]
            assert effects.columns.tolist() == ["perturbation", "context", "gene", "shift", "sd"]
            assert effects["sd"].dtype == float
            assert effects["sd"].isna().all()
            assert not effects.drop(columns="sd").isna().any(axis=None)
            assert "dosages" not in adata.uns["k"]

    def test_rows_are_those_of_the_annadata_in_any_order(self, model: Jitter, controls: Any) -> None:
        shuffled = controls[np.random.default_rng(0).permutation(controls.n_obs)].copy()
        predicted = model.predict(shuffled, ["A"], key_added="k")
        cells = table(predicted, columns=("source_cell",)).loc[shuffled.obs_names]
        np.testing.assert_array_equal(shuffled.obsm["k_0"].toarray(), cells)

    def test_an_earlier_prediction_is_replaced(self, model: Jitter, controls: Any) -> None:
        model.predict(controls, ["A", "B/x"], key_added="k")
        controls.obsm["k_other"] = np.zeros((controls.n_obs, 1))
        model.predict(controls, ["A+B/x"], key_added="k")
        assert set(controls.obsm) == {"k_0", "k_other"}
        assert controls.uns["k"]["perturbations"].tolist() == ["A+B/x"]

    @pytest.mark.parametrize(
        ("key", "options", "error", "message"),
        [
            ("a/b", {}, ValueError, "without '/'"),
            ("", {}, ValueError, "without '/'"),
            (3, {}, TypeError, "must be a string"),
            ("k", {"n_cells": 5}, ValueError, "cannot be combined with `n_cells`"),
            ("k", {"contexts": ["B"]}, ValueError, "of which all cells are predicted, but only 36 of its 120"),
            ("mine", {}, ValueError, r"overwrite adata.obsm\['mine_0'\]"),
            ("notes", {}, ValueError, r"overwrite adata.uns\['notes'\]"),
        ],
    )
    def test_errors_leave_no_trace(
        self, model: Jitter, controls: Any, key: Any, options: Any, error: type[Exception], message: str
    ) -> None:
        controls.obsm["mine_0"] = np.zeros((controls.n_obs, 2))
        controls.uns["notes"] = {"text": "mine"}
        before = snapshot(controls)
        with pytest.raises(error, match=message):
            model.predict(controls, ["A"], key_added=key, **options)
        assert_untouched(controls, before)

    def test_whole_screen_and_view_are_refused(self, model: Jitter, adata: Any) -> None:
        with pytest.raises(ValueError, match=r"adata\[adata.obs\['perturbation'\] == 'control'\].copy\(\)"):
            model.predict(adata, ["A"], key_added="k")
        with pytest.raises(ValueError, match="cannot write into a view"):
            model.predict(adata[adata.obs["perturbation"] == "control"], ["A"], key_added="k")
