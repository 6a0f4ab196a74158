from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scvi.model.base import BaseModelClass

import pertcast as pc
from pertcast.data import screen_from_manager
from pertcast.data._prediction import PredictMixin
from pertcast.data._request import trained_dosages
from pertcast.data._setup import ScreenSetupMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SETUP: dict[str, Any] = {
    "cell_type_key": "cell_type",
    "batch_key": "donor",
    "categorical_covariate_keys": ["sex"],
    "continuous_covariate_keys": ["age"],
}


class Jitter(ScreenSetupMixin, PredictMixin, BaseModelClass):
    """Adds to control cells the number of parts, the dosage, and one random number for each task."""

    def __init__(self, adata: Any = None, registry: Any = None) -> None:
        super().__init__(adata, registry)
        self.init_params_ = self._get_init_params(locals())
        self.noise = 1.0

    def train(self) -> None:
        self.dosages_ = trained_dosages(screen_from_manager(self.adata_manager).index)
        self.is_trained_ = True

    def predict(self, adata: Any = None, perturbations: Any = None, **options: Any) -> Any:
        shared: dict[str, Any] = {
            "n_cells": None,
            "n_populations": 1,
            "dosages": None,
            "contexts": None,
            "seed": 0,
            "batch_size": None,
            "key_added": None,
            "progressbar": False,
        }
        return self._predict(adata, perturbations, **shared | options)

    def _predict_tasks(self, query: Any, tasks: Any, *, batch_size: Any, options: Any) -> Iterator[np.ndarray]:
        for task in tasks:
            yield self._predict_task(query, task, batch_size=batch_size, options=options)

    def _predict_task(self, query: Any, task: Any, *, batch_size: Any, options: Any) -> np.ndarray:
        shift = len(task.part_names) + task.dosage + self.noise * task.rng().random()
        return query.gather(task.sources) + np.float32(shift)


@pytest.fixture
def adata(make_screen: Callable[..., Any]) -> Any:
    return make_screen()


@pytest.fixture
def controls(adata: Any) -> Any:
    return adata[adata.obs["perturbation"] == "control"].copy()


def trained(adata: Any, **setup: Any) -> Jitter:
    adata = adata.copy()
    Jitter.setup_anndata(adata, **SETUP | setup)
    model = Jitter(adata)
    model.train()
    return model


@pytest.fixture
def model(adata: Any) -> Jitter:
    return trained(adata)


@pytest.fixture
def dosed(adata: Any) -> Jitter:
    return trained(adata, dosage_key="dose")


def spy(model: Jitter) -> list[Any]:
    """Collect the tasks that a model is given."""
    tasks: list[Any] = []
    original = model._predict_task

    def predict_task(query: Any, task: Any, **rest: Any) -> np.ndarray:
        tasks.append(task)
        return original(query, task, **rest)

    model._predict_task = predict_task  # type: ignore[method-assign]
    return tasks


def table(predicted: Any, *, columns: tuple[str, ...] = ("perturbation", "source_cell", "population")) -> pd.DataFrame:
    """Expression by the names of the cells, in an order of its own."""
    X = predicted.X.toarray() if sp.issparse(predicted.X) else predicted.X
    index = pd.MultiIndex.from_frame(predicted.obs[list(columns)].astype(str))
    return pd.DataFrame(X, index=index).sort_index()


def snapshot(adata: Any) -> tuple[Any, ...]:
    return adata.X.toarray().copy(), adata.obs.copy(), adata.var.copy(), set(adata.obsm), set(adata.uns)


def assert_untouched(adata: Any, before: tuple[Any, ...]) -> None:
    np.testing.assert_array_equal(adata.X.toarray(), before[0])
    pd.testing.assert_frame_equal(adata.obs, before[1])
    pd.testing.assert_frame_equal(adata.var, before[2])
    assert (set(adata.obsm), set(adata.uns)) == before[3:]


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
