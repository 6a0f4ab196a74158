"""Predictions beside controls, and tables of shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import pertcast as pc
from pertcast.tl._bridges import delta_table, with_controls

from .conftest import PAIRS, SINGLES, Setting, cells, dense

if TYPE_CHECKING:
    from pathlib import Path


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
