"""A prediction goes, as it is, into the tools of pertpy and scanpy, and they find in it what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import anndata as ad
import matplotlib as mpl
import numpy as np
import pandas as pd
import pertpy as pt
import pytest
import scanpy as sc
from matplotlib import pyplot as plt
from scipy.stats import hypergeom, ranksums
from sklearn.linear_model import LogisticRegression

import pertcast as pc

if TYPE_CHECKING:
    from collections.abc import Iterator

PERTURBATIONS = ["pert_0", "pert_1", "pert_2"]


class Setting(NamedTuple):
    """What PerturbDiff predicts for the perturbed cells of type_2, which it never saw."""

    screen: Any
    controls: Any
    real: Any
    predicted: Any


@pytest.fixture(scope="module")
def trained() -> Setting:
    screen = pc.data.simulate_screen(
        30, n_genes=60, n_cell_types=3, n_donors=2, n_perturbations=3, combinations=0, effect_size=3, seed=3
    )
    is_control = (screen.obs["perturbation"] == "control").to_numpy()
    in_target = (screen.obs["cell_type"] == "type_2").to_numpy()
    train, controls = screen[is_control | ~in_target].copy(), screen[is_control & in_target].copy()
    pc.PerturbDiff.setup_anndata(train, cell_type_key="cell_type", batch_key="donor")
    model = pc.PerturbDiff(train, seed=0)
    model.train(max_epochs=1, steps_per_epoch=5, enable_progress_bar=False)
    predicted = model.predict(controls, PERTURBATIONS, progressbar=False)
    return Setting(screen, controls, screen[~is_control & in_target].copy(), predicted)


@pytest.fixture
def setting(trained: Setting) -> Setting:
    """Copies, because scanpy and pertpy write into what they are given."""
    return Setting(*(adata.copy() for adata in trained))


@pytest.fixture(autouse=True)
def _figures() -> Iterator[None]:
    with mpl.rc_context():
        plt.switch_backend("agg")
        yield
        plt.close("all")


def cells(adata: Any, perturbation: str) -> np.ndarray:
    return adata[(adata.obs["perturbation"] == perturbation).to_numpy()].X.toarray().astype(np.float64)


class TestScanpy:
    def test_rank_genes_groups_ranks_the_shifts_of_the_prediction(self, setting: Setting) -> None:
        joined: Any = pc.tl.with_controls(setting.predicted, setting.controls)
        sc.tl.rank_genes_groups(joined, "perturbation", reference="control", method="wilcoxon")
        control = cells(setting.controls, "control")
        for name in PERTURBATIONS:
            table = sc.get.rank_genes_groups_df(joined, name).set_index("names").loc[joined.var_names]
            predicted = cells(setting.predicted, name)
            expected = ranksums(predicted, control).statistic  # without a correction for ties, as scanpy's default
            np.testing.assert_allclose(table["scores"], expected, atol=1e-4)
            means = predicted.mean(0), control.mean(0)
            fold = np.log2((np.expm1(means[0]) + 1e-9) / (np.expm1(means[1]) + 1e-9))
            np.testing.assert_allclose(table["logfoldchanges"], fold, rtol=1e-4, atol=1e-4)

    def test_rank_genes_groups_without_controls(self, setting: Setting) -> None:
        sc.tl.rank_genes_groups(setting.predicted, "perturbation", method="t-test")
        assert list(setting.predicted.uns["rank_genes_groups"]["names"].dtype.names) == PERTURBATIONS
        assert setting.predicted.uns["pertcast"]["model"] == "PerturbDiff"

    def test_preprocessing_and_embedding(self, setting: Setting) -> None:
        sc.pp.pca(setting.predicted, n_comps=5)
        X = setting.predicted.X.toarray()
        centred = X - X.mean(0)
        variance = np.linalg.svd(centred, compute_uv=False)[:5] ** 2 / (len(X) - 1)
        np.testing.assert_allclose(setting.predicted.uns["pca"]["variance"], variance, rtol=1e-3)
        ax = sc.pl.pca(setting.predicted, color="perturbation", show=False)
        assert len(ax.collections[0].get_offsets()) == setting.predicted.n_obs

    def test_plots(self, setting: Setting) -> None:
        joined: Any = pc.tl.with_controls(setting.predicted, setting.controls)
        genes = list(joined.var_names[:4])
        sc.tl.rank_genes_groups(joined, "perturbation", reference="control", method="t-test")
        dots = sc.pl.dotplot(joined, genes, "perturbation", return_fig=True, show=False)
        means = dots.dot_color_df.loc["pert_0", genes]
        np.testing.assert_allclose(means, cells(setting.predicted, "pert_0")[:, :4].mean(0), rtol=1e-5)
        matrix = sc.pl.matrixplot(joined, genes, "perturbation", return_fig=True, show=False)
        np.testing.assert_allclose(
            matrix.values_df.loc["control", genes], cells(setting.controls, "control")[:, :4].mean(0), rtol=1e-5
        )
        sc.pl.violin(joined, genes[0], "perturbation", show=False)
        sc.pl.heatmap(joined, genes, "perturbation", show=False)
        sc.pl.rank_genes_groups(joined, show=False)
        sc.pl.rank_genes_groups_dotplot(joined, n_genes=2, show=False)

    def test_concatenation_with_measured_cells_and_files(self, setting: Setting, tmp_path: Any) -> None:
        both = ad.concat({"predicted": setting.predicted, "observed": setting.real}, label="source", join="inner")
        both.write_h5ad(tmp_path / "both.h5ad")
        again = ad.read_h5ad(tmp_path / "both.h5ad")
        assert again.obs["source"].value_counts().to_dict() == {
            "observed": setting.real.n_obs,
            "predicted": setting.predicted.n_obs,
        }
        assert {"perturbation", "cell_type", "donor"} <= set(again.obs)
        assert (again[: setting.predicted.n_obs].X != setting.predicted.X).sum() == 0


class TestPertpy:
    def test_distance_of_predictions_alone(self, setting: Setting) -> None:
        sc.pp.pca(setting.predicted, n_comps=5)
        table: Any = pt.tl.Distance("edistance", obsm_key="X_pca").pairwise(
            setting.predicted, groupby="perturbation", show_progressbar=False, n_jobs=1
        )
        pcs = {
            name: setting.predicted.obsm["X_pca"][(setting.predicted.obs["perturbation"] == name).to_numpy()]
            for name in PERTURBATIONS
        }
        for one in PERTURBATIONS:
            for other in PERTURBATIONS:
                expected = 0 if one == other else pc.tl.energy_distance(pcs[one], pcs[other], unbiased=False)
                assert table.loc[one, other] == pytest.approx(expected, rel=1e-4, abs=1e-5)

    def test_distance_to_controls(self, setting: Setting) -> None:
        joined: Any = pc.tl.with_controls(setting.predicted, setting.controls)
        joined.layers["dense"] = joined.X.toarray()
        distance = pt.tl.Distance("euclidean", layer_key="dense")
        found: Any = distance.onesided_distances(
            joined, groupby="perturbation", selected_group="control", show_progressbar=False, n_jobs=1
        )
        for name in PERTURBATIONS:
            shift = pc.tl.mean_shift(cells(setting.predicted, name), cells(setting.controls, "control"))
            assert found[name] == pytest.approx(np.linalg.norm(shift), rel=1e-4)

    def test_classification_takes_sparse_predictions(self, setting: Setting) -> None:
        name = PERTURBATIONS[0]
        here = [data[(data.obs["perturbation"] == name).to_numpy()] for data in (setting.real, setting.predicted)]
        real, predicted = (data.X for data in here)
        found = pt.tl.PerturbationComparison().compare_classification(real, predicted, setting.controls.X)
        X = np.concatenate([real.toarray(), setting.controls.X.toarray()])
        y = np.repeat([1, 0], [real.shape[0], setting.controls.n_obs])
        fitted = LogisticRegression().fit(X, y)
        expected = min(1, fitted.predict(predicted.toarray()).mean() / fitted.predict(real.toarray()).mean())
        assert found == pytest.approx(expected, abs=0.02)

    @pytest.mark.slow
    def test_neighbours(self, setting: Setting) -> None:
        name = PERTURBATIONS[0]
        real, predicted = cells(setting.real, name), cells(setting.predicted, name)
        control = cells(setting.controls, "control")
        compare = pt.tl.PerturbationComparison().compare_knn
        shares = compare(real, predicted, control=control, n_neighbors=10)
        assert shares["comp"] + shares["ctrl"] == pytest.approx(1)
        assert compare(real, real, control=control, n_neighbors=1)["comp"] == 1
        assert compare(real, control, control=control, n_neighbors=1)["ctrl"] == 1

    def test_perturbation_space(self, setting: Setting) -> None:
        joined: Any = pc.tl.with_controls(setting.predicted, setting.controls)
        space: Any = pt.tl.PseudobulkSpace()
        points: Any = space.compute(joined, target_col="perturbation", mode="mean")
        points = space.compute_control_diff(points, target_col="perturbation", reference_key="control")
        expected: Any = pc.tl.delta_table(joined)
        found = points[[*expected.obs["perturbation"]]]
        np.testing.assert_allclose(found.X, expected.X, atol=1e-4)

    def test_differential_expression(self, setting: Setting) -> None:
        joined: Any = pc.tl.with_controls(setting.predicted, setting.controls)
        table = pt.tl.WilcoxonTest.compare_groups(
            joined, column="perturbation", baseline="control", groups_to_compare="pert_0"
        )
        table = table.set_index("variable").loc[joined.var_names]
        ours = pc.tl.rank_genes(cells(setting.predicted, "pert_0"), cells(setting.controls, "control"))
        silent = ~(cells(joined, "pert_0").any(0) | cells(joined, "control").any(0))
        np.testing.assert_array_equal(table["p_value"].isna(), silent)  # pertpy has no p value for them, we have 1
        np.testing.assert_allclose(table["p_value"].fillna(1), ours.p_value, atol=1e-6)

    def test_enrichment(self, setting: Setting) -> None:
        joined: Any = pc.tl.with_controls(setting.predicted, setting.controls)
        sets = {"first": list(joined.var_names[:15]), "last": list(joined.var_names[-15:])}
        enrichment: Any = pt.tl.Enrichment()
        enrichment.score(joined, targets=sets)
        scores = pd.DataFrame(
            np.asarray(joined.uns["pertpy_enrichment_score"]), columns=joined.uns["pertpy_enrichment_variables"]
        )
        np.testing.assert_allclose(scores["first"], joined.X.toarray()[:, :15].mean(1), rtol=1e-4)
        sc.tl.rank_genes_groups(joined, "perturbation", reference="control", method="wilcoxon")
        found = enrichment.hypergeometric(joined, targets=sets, direction="both")["pert_0"]
        ranked = sc.get.rank_genes_groups_df(joined, "pert_0")
        markers = set(ranked.loc[ranked["pvals_adj"] < 0.05, "names"])
        for name, genes in sets.items():
            expected = hypergeom.sf(len(markers & set(genes)) - 1, joined.n_vars, len(markers), len(genes))
            assert found.loc[name, "pvals"] == pytest.approx(expected, rel=1e-6)
