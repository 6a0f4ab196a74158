"""What a prediction holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import pertcast as pc

from .conftest import Jitter, assert_untouched, snapshot, spy, table, trained

if TYPE_CHECKING:
    from pathlib import Path


class TestResult:
    def test_one_cell_for_each_control_cell_and_perturbation(self, model: Jitter, controls: Any) -> None:
        controls.var["symbol"] = [f"s{i}" for i in range(12)]
        before = snapshot(controls)
        predicted = model.predict(controls, ["A", "A+B/x"], n_populations=2)
        assert_untouched(controls, before)
        assert predicted.n_obs == 2 * 2 * controls.n_obs
        assert predicted.obs_names.is_unique
        assert predicted.var["symbol"].tolist() == controls.var["symbol"].tolist()
        assert sp.issparse(predicted.X)
        assert predicted.X.dtype == np.float32
        counts = predicted.obs.groupby(["perturbation", "population", "source_cell"], observed=True).size()
        assert (counts == 1).all()
        assert len(counts) == predicted.n_obs
        source = controls.obs.loc[predicted.obs["source_cell"]]
        for column in ("cell_type", "donor", "sex"):
            assert predicted.obs[column].dtype == "category"
            assert predicted.obs[column].tolist() == source[column].tolist()
        np.testing.assert_allclose(predicted.obs["age"], source["age"], rtol=1e-6)
        shift = predicted.X.toarray() - controls[predicted.obs["source_cell"]].X.toarray()
        parts = predicted.obs["perturbation"].astype(str).map({"A": 1, "A+B/x": 2}).to_numpy()
        np.testing.assert_allclose(np.floor(shift - 1 + 1e-4), np.repeat(parts[:, None], 12, axis=1))
        rows = predicted.obs.assign(shift=shift[:, 0])
        per_task = rows.groupby(["perturbation", "population", "cell_type", "sex", "donor"], observed=True)["shift"]
        assert (per_task.max() - per_task.min()).max() < 1e-5
        assert len(per_task) == 2 * 2 * 18
        assert np.diff(np.sort(per_task.first())).min() > 1e-5

    @pytest.mark.parametrize(
        ("column", "labels"),
        [
            ("donor", [3, 10, 20]),
            ("donor", np.array([0.5, 2.0, 1.0], dtype=np.float32)),
            ("cell_type", [True, False, True]),
            ("sex", pd.Categorical(["z", "a", "k"], ["z", "k", "a"], ordered=True)),
            ("cell_type", pd.Categorical([7, 1, 3], [7, 1, 3])),
            ("cell_type", pd.array([1, 2, 2], dtype="Int64")),
        ],
    )
    def test_columns_come_back_as_they_were_given(
        self, adata: Any, controls: Any, column: str, labels: Any, tmp_path: Path
    ) -> None:
        for cells in (adata, controls):
            cells.obs[column] = pd.Series(labels).iloc[np.arange(cells.n_obs) % 3].array
        model = trained(adata)
        predicted = model.predict(controls, ["A"])
        source = controls.obs.loc[predicted.obs["source_cell"]]
        assert predicted.obs[column].dtype == controls.obs[column].dtype
        assert predicted.obs[column].tolist() == source[column].tolist()
        assert len(predicted.obs.merge(controls.obs, on=column, how="left")) > predicted.n_obs
        some = model.predict(adata, ["A"], contexts=str(labels[0]) if column == "cell_type" else None)
        assert set(some.obs[column]) == ({labels[0]} if column == "cell_type" else set(labels))
        some.write_h5ad(tmp_path / "some.h5ad")
        assert anndata.read_h5ad(tmp_path / "some.h5ad").obs[column].tolist() == some.obs[column].tolist()

    def test_text_comes_back_as_sorted_categories(self, model: Jitter, adata: Any) -> None:
        predicted = model.predict(adata, ["A"], contexts=["T", "B"])
        assert predicted.obs["cell_type"].cat.categories.tolist() == ["B", "T"]
        assert not predicted.obs["cell_type"].cat.ordered

    def test_covariates_are_not_rounded(self, model: Jitter, controls: Any) -> None:
        controls.obs["age"] = np.arange(controls.n_obs) / 3
        predicted = model.predict(controls, ["A"])
        assert predicted.obs["age"].tolist() == controls.obs["age"].loc[predicted.obs["source_cell"]].tolist()

    def test_var_is_that_of_the_training_data_as_far_as_it_is_known(self, adata: Any, controls: Any) -> None:
        adata.var["symbol"] = [f"s{i}" for i in range(12)]
        model = trained(adata)
        controls.var["symbol"], controls.var["length"] = "other", np.arange(12)
        mixed = controls[:, ::-1].copy()
        predicted = model.predict(mixed, ["A"])
        pd.testing.assert_frame_equal(predicted.var, adata.var.assign(length=np.arange(12)))
        pd.testing.assert_frame_equal(model.predict(adata, ["A"]).var, adata.var)
        bare = Jitter(registry=model.registry)
        bare.dosages_, bare.is_trained_ = model.dosages_, True
        pd.testing.assert_frame_equal(bare.predict(mixed, ["A"]).var, controls.var)

    def test_dosage_is_filled_in(self, dosed: Jitter, controls: Any) -> None:
        predicted = dosed.predict(controls, ["A"], dosages=[2.5])
        assert predicted.obs["dose"].tolist() == [2.5] * controls.n_obs
        shift = predicted.X.toarray()[:, 0] - controls[predicted.obs["source_cell"]].X.toarray()[:, 0]
        assert shift.min() > 3.5
        assert shift.max() < 4.5

    def test_provenance(self, model: Jitter, controls: Any) -> None:
        predicted = model.predict(controls, "B/x+A", seed=3, n_cells=7, contexts=["B"], batch_size=5)
        entry = predicted.uns["pertcast"]
        assert (entry["model"], entry["version"], entry["seed"]) == ("Jitter", pc.__version__, 3)
        params = {name: np.asarray(value).tolist() for name, value in entry["params"].items()}
        assert params == {
            "perturbations": ["B/x+A"],
            "n_populations": 1,
            "n_cells": 7,
            "contexts": ["B"],
            "batch_size": 5,
        }

    def test_options_are_recorded_unless_none(self, model: Jitter, controls: Any) -> None:
        predicted = model.predict(controls, "A", options={"steps": 4, "guidance_scale": None})
        assert predicted.uns["pertcast"]["steps"] == 4
        assert "guidance_scale" not in predicted.uns["pertcast"]

    @pytest.mark.parametrize("kind", ["h5ad", "zarr"])
    def test_files_keep_it(self, dosed: Jitter, controls: Any, tmp_path: Path, kind: str) -> None:
        predicted = dosed.predict(controls, ["A", "A+B/x"], n_populations=2, key_added="k")
        for cells in (predicted, controls):
            file = tmp_path / f"cells.{kind}"
            getattr(cells, f"write_{kind}")(file)
            back = getattr(anndata, f"read_{kind}")(file)
            np.testing.assert_array_equal(back.X.toarray(), cells.X.toarray())
            assert back.obs.astype(str).equals(cells.obs.astype(str))
            for key in ("k", "pertcast"):
                if key in cells.uns:
                    assert back.uns[key].keys() == cells.uns[key].keys()
        assert back.uns["k"]["params"]["params"]["dosages"].tolist() == [0.5, 10.0, 0.5, 10.0]
        assert list(back.uns["k"]["perturbations"]) == ["A", "A", "A+B/x", "A+B/x"]
        frame, original = back.uns["k"]["effects"], controls.uns["k"]["effects"]
        pd.testing.assert_frame_equal(frame.astype(original.dtypes.to_dict()), original, check_index_type=False)

    def test_dense_and_sparse_agree(self, model: Jitter, controls: Any) -> None:
        sparse = model.predict(controls, ["A"], key_added="k")
        dense_controls = controls.copy()
        dense_controls.X = controls.X.toarray()
        del dense_controls.obsm["k_0"], dense_controls.uns["k"]
        dense = model.predict(dense_controls, ["A"], key_added="k")
        assert isinstance(dense.X, np.ndarray)
        assert dense.X.dtype == np.float32
        np.testing.assert_array_equal(dense.X, sparse.X.toarray())
        np.testing.assert_array_equal(dense_controls.obsm["k_0"], controls.obsm["k_0"].toarray())


class TestReproducibility:
    def test_nothing_but_seed_and_names_matters(self, model: Jitter, adata: Any, controls: Any) -> None:
        expected = table(model.predict(controls, ["A"], n_populations=2, seed=5))
        more = model.predict(adata, ["B/x", "A", "A+B/x"], n_populations=3, seed=5, batch_size=3)
        more = more[(more.obs["perturbation"] == "A") & (more.obs["population"] < 2)]
        pd.testing.assert_frame_equal(table(more), expected)
        shuffled = controls[np.random.default_rng(0).permutation(controls.n_obs)].copy()
        pd.testing.assert_frame_equal(table(model.predict(shuffled, ["A"], n_populations=2, seed=5)), expected)
        some = model.predict(controls, ["A"], n_populations=2, seed=5, contexts=["B"])
        assert set(some.obs["cell_type"]) == {"B"}
        pd.testing.assert_frame_equal(table(some), expected.loc[table(some).index])

    def test_seeds_and_draws_differ(self, model: Jitter, controls: Any) -> None:
        one = table(model.predict(controls, ["A"], n_populations=2, seed=0))
        two = table(model.predict(controls, ["A"], n_populations=2, seed=1))
        assert (np.abs(one - two) > 1e-6).all(axis=None)
        assert (np.abs(one.xs("0", level="population") - one.xs("1", level="population")) > 1e-6).all(axis=None)

    def test_global_random_state_is_untouched(self, model: Jitter, controls: Any) -> None:
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        model.predict(controls, ["A"], n_cells=5)
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002

    def test_torch_seeds_differ_between_tasks(self, model: Jitter, controls: Any) -> None:
        tasks = spy(model)
        model.predict(controls, ["A", "B/x"], n_populations=2)
        seeds = [(task.torch_seed(), task.torch_seed()) for task in tasks]
        assert all(one == two and 0 <= one < 2**63 for one, two in seeds)
        assert len(set(seeds)) == len(seeds) == 2 * 2 * 18


class TestNumberOfCells:
    def test_cells_are_spread_over_batches_in_proportion(self, model: Jitter, controls: Any) -> None:
        predicted = model.predict(controls, ["A"], n_cells=10)
        context = ["cell_type", "sex"]
        assert (predicted.obs.groupby(context, observed=True).size() == 10).all()
        found = predicted.obs.groupby([*context, "donor"], observed=True).size()
        sizes = controls.obs.groupby([*context, "donor"]).size()
        exact = 10 * sizes / sizes.groupby(context).transform("sum")
        assert (np.abs(found.reindex(exact.index, fill_value=0) - exact) < 1).all()

    def test_sources_repeat_only_when_they_run_out(self, model: Jitter, controls: Any) -> None:
        few = model.predict(controls, ["A"], n_cells=6, contexts=["B"])
        assert few.obs["source_cell"].is_unique
        many = model.predict(controls, ["A"], n_cells=200, contexts=["B"])
        sizes = controls.obs.groupby(["cell_type", "sex", "donor"]).size()
        for key, cells in many.obs.groupby(["cell_type", "sex", "donor"], observed=True):
            times = cells["source_cell"].value_counts()
            assert len(times) == sizes[key]
            assert times.max() - times.min() <= 1

    def test_draws_take_other_cells_and_perturbations_the_same(self, model: Jitter, controls: Any) -> None:
        predicted = model.predict(controls, ["A", "B/x"], n_cells=6, n_populations=2).obs
        sources = predicted.groupby(["perturbation", "population"], observed=True)["source_cell"].agg(list)
        assert sources["A", 0] == sources["B/x", 0]
        assert sources["A", 0] != sources["A", 1]
