"""Predictions in the hands of pertpy and scanpy."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from sklearn.linear_model import LogisticRegression

import pertcast as pc
from pertcast.tl._bridges import delta_table, with_controls

from .conftest import PAIRS, SINGLES, Setting, cells, dense


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
