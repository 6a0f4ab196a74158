from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from pertcast.data import REGISTRY_KEYS, align_genes, screen_from_manager, screen_metadata_from_registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pertcast.data import Screen

FULL: dict[str, Any] = {
    "batch_key": "donor",
    "dosage_key": "dose",
    "counts_layer": "counts",
    "perturbation_embedding_key": "emb",
    "categorical_covariate_keys": ["sex"],
    "continuous_covariate_keys": ["age"],
    "split_key": "split",
}
VECTORS = {"A": [1.0, 2.0], "B/x": [3.0, 4.0], "other": [5.0, 6.0]}


@pytest.fixture
def adata(make_screen: Callable[..., Any]) -> Any:
    """A screen with every optional part."""
    adata = make_screen()
    adata.layers["counts"] = adata.X.ceil()
    adata.uns["emb"] = pd.DataFrame(VECTORS).T
    adata.obs["split"] = np.where(adata.obs["cell_type"] == "B", "test", "train")
    return adata


def dense(X: Any) -> np.ndarray:
    return X.toarray()


def screen_of(toy_model: Any, adata: Any, **arguments: Any) -> Screen:
    toy_model.setup_anndata(adata, **arguments)
    return screen_from_manager(toy_model(adata).adata_manager)


def assert_conditions(screen: Screen, obs: pd.DataFrame, columns: list[str]) -> None:
    """Conditions are the groups of the original columns, whatever was registered."""
    canonical = obs.assign(perturbation=obs["perturbation"].replace("B/x+A", "A+B/x"))
    expected = {
        key: set(rows) for key, rows in canonical.groupby(["perturbation", *columns], observed=True).indices.items()
    }
    found: dict[Any, set[int]] = {}
    for condition in range(len(screen.index)):
        rows = screen.index.rows(condition)
        key = tuple(canonical.iloc[rows[0]][["perturbation", *columns]])
        found[key if columns else key[0]] = set(rows)
    if not columns:
        expected = {key[0] if isinstance(key, tuple) else key: rows for key, rows in expected.items()}
    assert found == expected


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [
        ({"cell_type_key": None}, []),
        ({}, ["cell_type"]),
        ({"batch_key": "donor"}, ["cell_type", "donor"]),
        ({"cell_type_key": None, "categorical_covariate_keys": ["sex"]}, ["sex"]),
        ({"batch_key": "donor", "categorical_covariate_keys": ["sex"]}, ["cell_type", "sex", "donor"]),
    ],
)
def test_index_of_a_registered_screen(
    adata: Any, toy_model: Any, arguments: dict[str, Any], columns: list[str]
) -> None:
    assert_conditions(screen_of(toy_model, adata, **arguments), adata.obs, columns)


def test_everything_is_registered(adata: Any, toy_model: Any) -> None:
    screen: Any = screen_of(toy_model, adata, **FULL)
    index = screen.index
    assert set(index.context_table.columns) == {"cell_type", "sex"}
    assert set(index.context_names) == {f"{c} | {s}" for c in ("T", "B", "mono") for s in "fm"}
    for condition in index.perturbed:
        cells = adata.obs.iloc[index.rows(condition)]
        assert (cells["dose"] == index.dosage[condition]).all()
        assert (cells["donor"] == index.batch_names[index.batch[condition]]).all()
    assert screen.X is adata.X
    assert screen.counts is not None
    np.testing.assert_array_equal(dense(screen.counts), np.ceil(dense(adata.X)))
    assert screen.covariates is not None
    np.testing.assert_allclose(screen.covariates[:, 0], adata.obs["age"], rtol=1e-6)
    assert screen.vocabulary.names == ("A", "B/x", "other")
    np.testing.assert_array_equal(np.asarray(screen.vocabulary.vectors), list(VECTORS.values()))
    assert screen.metadata.has_dosage


def test_test_cells_are_no_controls_and_test_conditions_have_none(adata: Any, toy_model: Any) -> None:
    is_control = (adata.obs["perturbation"] == "control").to_numpy()
    half = np.random.default_rng(0).random(adata.n_obs) < 0.5
    adata.obs["split"] = np.where((adata.obs["donor"] == "d1") | (is_control & half), "test", "train")
    screen = screen_of(toy_model, adata, batch_key="donor", split_key="split")
    in_test = (adata.obs["split"] == "test").to_numpy()
    assert not in_test[screen.controls.groups.all_rows()].any()
    split = screen.split()
    assert (screen.controls.group[split.test] == -1).all()
    assert (screen.controls.group[np.concatenate([split.train, split.validation])] >= 0).all()
    assert in_test[screen.index.groups.select(split.test).all_rows()].all()


def test_default_columns_are_constant(adata: Any, toy_model: Any) -> None:
    screen = screen_of(toy_model, adata, cell_type_key=None)
    assert screen.metadata.batches == screen.metadata.cell_types == ("all",)
    assert (adata.obs["_scvi_batch"] == 0).all()


def test_matrix_is_never_rewritten(make_screen: Callable[..., Any], toy_model: Any) -> None:
    by_columns = make_screen(sparse=False)
    by_columns.X = np.asfortranarray(by_columns.X)
    before = by_columns.X
    screen = screen_of(toy_model, by_columns)
    assert by_columns.X is before
    assert not by_columns.X.flags.c_contiguous
    np.testing.assert_array_equal(screen.X, before)
    csc = make_screen()
    csc.X = sp.csc_matrix(csc.X)
    screen = screen_of(toy_model, csc)
    assert csc.X.format == "csc"
    assert sp.isspmatrix_csr(screen.X)
    assert screen.X is screen.X


def test_min_cells(adata: Any, toy_model: Any) -> None:
    toy_model.setup_anndata(adata, batch_key="donor")
    manager = toy_model(adata).adata_manager
    with pytest.warns(UserWarning, match="fewer than min_cells=14 cells"):
        screen = screen_from_manager(manager, min_cells=14)
    assert (screen.index.n_cells[screen.index.perturbed] >= 14).all()
    assert (screen.controls.group[screen.index.skipped] == -1).all()


def test_unused_categories_are_not_trained(adata: Any, toy_model: Any) -> None:
    labels = pd.Categorical(adata.obs["perturbation"], ["ghost", "control", "B/x", "A", "A+B/x", "B/x+A"])
    adata.obs["perturbation"] = labels
    toy_model.setup_anndata(adata)
    model = toy_model(adata)
    metadata = screen_metadata_from_registry(model.registry)
    assert metadata.vocabulary.names == ("A", "B/x")
    assert metadata.perturbations == ("A", "A+B/x", "B/x")
    assert model.summary_stats["n_perturbation"] == 5


def test_numbers_are_labels_too(adata: Any, toy_model: Any) -> None:
    adata.obs["donor"] = adata.obs["donor"].map({"d1": 1, "d2": 2, "d10": 10})
    screen = screen_of(toy_model, adata, batch_key="donor")
    assert screen.metadata.batches == ("1", "2", "10")
    assert_conditions(screen, adata.obs, ["cell_type", "donor"])


def test_metadata_survives_saving_without_data(adata: Any, toy_model: Any, tmp_path: Path) -> None:
    toy_model.setup_anndata(adata, **FULL)
    model = toy_model(adata)
    model.save(str(tmp_path / "model"))
    loaded = toy_model.load(str(tmp_path / "model"), adata=False)
    assert loaded.adata is None
    metadata = screen_metadata_from_registry(loaded.registry)
    assert metadata.control == "control"
    assert metadata.perturbations == ("A", "A+B/x", "B/x")
    assert metadata.cell_types == ("B", "T", "mono")
    assert metadata.batches == ("d1", "d10", "d2")
    assert metadata.covariate_categories == {"sex": ("f", "m")}
    assert metadata.continuous_covariates == ("age",)
    assert list(metadata.var_names) == list(adata.var_names)
    assert metadata.setup_args["dosage_key"] == "dose"
    assert metadata.vocabulary.n_trained == 2
    np.testing.assert_array_equal(np.asarray(metadata.vocabulary.vectors), list(VECTORS.values()))


def test_loading_with_other_data_keeps_the_codes(
    adata: Any, make_screen: Callable[..., Any], toy_model: Any, tmp_path: Path
) -> None:
    """A query of control cells of a new cell type and donor, without split, dosage, embedding or perturbed cells."""
    toy_model.setup_anndata(adata, **FULL)
    model = toy_model(adata)
    model.save(str(tmp_path / "model"))
    query = make_screen(n_cells=200, seed=1)
    query = query[(query.obs["perturbation"] == "control").to_numpy()].copy()
    query.layers["counts"] = query.X.ceil()
    query.obs["cell_type"] = query.obs["cell_type"].replace({"T": "new", "B": "T"})
    query.obs["donor"] = "another"
    query.obs["sex"] = "x"
    del query.obs["dose"]
    loaded = toy_model.load(str(tmp_path / "model"), adata=query)
    assert loaded.module.table.weight.shape == model.module.table.weight.shape
    before, after = (screen_metadata_from_registry(m.registry) for m in (model, loaded))
    assert after.cell_types == before.cell_types == ("B", "T", "mono")
    assert after.batches == before.batches
    assert after.vocabulary.names == before.vocabulary.names
    codes = query.obs["_scvi_cell_type"]
    assert {name: set(codes[query.obs["cell_type"] == name]) for name in ("T", "mono", "new")} == {
        "T": {1},
        "mono": {2},
        "new": {3},
    }
    screen = screen_from_manager(loaded.adata_manager)
    assert screen.parts is None
    assert screen.index.perturbed.size == 0
    assert screen.index.n_cells[screen.index.is_control].sum() == query.n_obs
    assert set(screen.index.context_table["cell_type"]) == {"T", "mono", "new"}
    assert set(screen.index.context_table["sex"]) == {"x"}


def test_unseen_labels_can_be_refused(adata: Any, make_screen: Callable[..., Any], toy_model: Any) -> None:
    toy_model.setup_anndata(adata)
    query = make_screen()
    query.obs["cell_type"] = "new"
    with pytest.raises(ValueError, match="'cell_type' holds labels that were not registered: 'new'"):
        toy_model(adata).adata_manager.transfer_fields(query, extend_categories=False)


def test_perturbed_query_without_dosage_is_an_error(
    adata: Any, make_screen: Callable[..., Any], toy_model: Any
) -> None:
    toy_model.setup_anndata(adata, dosage_key="dose")
    query = make_screen()
    del query.obs["dose"]
    manager = toy_model(adata).adata_manager.transfer_fields(query)
    with pytest.raises(ValueError, match="480 perturbed cells have no finite dosage"):
        screen_from_manager(manager)


def test_query_of_counts_or_other_genes_is_refused(adata: Any, make_screen: Callable[..., Any], toy_model: Any) -> None:
    toy_model.setup_anndata(adata)
    manager = toy_model(adata).adata_manager
    query = make_screen()
    query.X = query.X.ceil()
    with pytest.raises(ValueError, match="looks like raw counts"):
        manager.transfer_fields(query)
    query = make_screen()
    with pytest.raises(ValueError, match="not those of the training data: the order differs"):
        manager.transfer_fields(query[:, ::-1].copy())
    with pytest.raises(ValueError, match="1 genes of the training data are missing: 'g0'"):
        manager.transfer_fields(query[:, 1:].copy())


def test_two_model_classes_share_an_anndata(adata: Any, toy_model: Any) -> None:
    class OtherModel(toy_model):
        pass

    toy_model.setup_anndata(adata, batch_key="donor")
    OtherModel.setup_anndata(adata, cell_type_key=None)  # overwrites the columns of the first
    screen = screen_from_manager(toy_model(adata).adata_manager)
    assert_conditions(screen, adata.obs, ["cell_type", "donor"])
    assert_conditions(screen_from_manager(OtherModel(adata).adata_manager), adata.obs, [])


@pytest.fixture
def mdata(adata: Any) -> Any:
    rna, protein = adata.copy(), adata.copy()[:, :3].copy()
    for part in (rna, protein):
        part.uns.clear()
    rna.obs = rna.obs[["age"]]
    protein.obs = protein.obs[[]]
    protein.var_names = [f"p{i}" for i in range(3)]
    mdata = mudata.MuData({"rna": rna, "protein": protein})
    for column in ("perturbation", "cell_type", "donor", "sex", "dose", "split"):
        mdata.obs[column] = adata.obs[column]
    mdata.uns["emb"] = adata.uns["emb"]
    return mdata


MODALITIES = {"layer": "rna", "continuous_covariate_keys": "rna"}


def test_mudata_gives_the_screen_of_its_anndata(adata: Any, mdata: Any, toy_model: Any) -> None:
    toy_model.setup_mudata(mdata, modalities=MODALITIES, **FULL)
    by_mudata = screen_from_manager(toy_model(mdata).adata_manager)
    by_anndata = screen_of(toy_model, adata, **FULL)
    pd.testing.assert_frame_equal(by_mudata.index.to_frame(), by_anndata.index.to_frame())
    np.testing.assert_array_equal(by_mudata.index.order, by_anndata.index.order)
    np.testing.assert_array_equal(dense(by_mudata.X), dense(by_anndata.X))
    np.testing.assert_array_equal(dense(by_mudata.counts), dense(by_anndata.counts))
    np.testing.assert_array_equal(by_mudata.covariates, by_anndata.covariates)
    assert by_mudata.vocabulary.names == by_anndata.vocabulary.names
    assert list(by_mudata.metadata.var_names) == list(adata.var_names)


def test_another_modality_is_the_expression(adata: Any, mdata: Any, toy_model: Any) -> None:
    toy_model.setup_mudata(mdata, modalities={"layer": "protein"})
    screen = screen_from_manager(toy_model(mdata).adata_manager)
    np.testing.assert_array_equal(dense(screen.X), adata.X[:, :3].toarray())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "`modalities` must say which modality holds the expression"),
        ({"modalities": {"layer": "rna2"}}, ValueError, "modality 'rna2' for 'layer', but this MuData has 'rna'"),
        ({"modalities": {"layer": "rna", "Layer": "rna"}}, ValueError, "argument 'Layer'.*Did you mean 'layer'"),
        (
            {"modalities": {"layer": "rna"}, "continuous_covariate_keys": ["age"]},
            KeyError,
            "in the modality 'rna': add {'continuous_covariate_keys': 'rna'}",
        ),
        ({"modalities": {"layer": "rna", "batch_key": "rna"}, "batch_key": "donor"}, KeyError, "'donor', which is not"),
    ],
)
def test_mudata_errors_leave_it_as_it_was(
    mdata: Any, toy_model: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    before = sorted(mdata.obs), sorted(mdata.uns)
    with pytest.raises(error, match=message):
        toy_model.setup_mudata(mdata, **arguments)
    assert (sorted(mdata.obs), sorted(mdata.uns)) == before


def test_registry_keeps_the_table_out_of_the_tensors(adata: Any, toy_model: Any) -> None:
    toy_model.setup_anndata(adata, **FULL)
    manager = toy_model(adata).adata_manager
    assert REGISTRY_KEYS.EMBEDDING in manager.registry["field_registries"]
    assert REGISTRY_KEYS.EMBEDDING not in manager.data_registry
    assert manager.summary_stats["n_perturbation_embedding"] == 3
    assert manager.summary_stats["n_perturbation_embedding_dimensions"] == 2
    manager.view_registry()


@pytest.mark.parametrize("label", ["Control", "non-targeting", "DMSO"])
def test_labels_that_look_like_controls_are_told(
    adata: Any, toy_model: Any, caplog: pytest.LogCaptureFixture, label: str
) -> None:
    screen_of(toy_model, adata)
    assert "count as perturbed" not in caplog.text
    labels = adata.obs["perturbation"].astype(str)
    other = next(name for name in labels.unique() if name != "control" and "+" not in name)
    adata.obs["perturbation"] = labels.replace({other: label})
    screen: Any = screen_of(toy_model, adata)
    assert f"The cells labelled '{label}' in column 'perturbation' count as perturbed" in caplog.text
    assert label in screen.metadata.perturbations


def test_align_genes(adata: Any, caplog: pytest.LogCaptureFixture) -> None:
    names = ["g5", "g0", "g11"]
    with caplog.at_level(logging.INFO, logger="pertcast"):
        assert align_genes(adata, adata.var_names) is None
        assert caplog.text == ""
        positions = align_genes(adata, names)
    assert positions is not None
    assert list(adata.var_names[positions]) == names
    assert "3 of 12 columns are used" in caplog.text
    with pytest.raises(ValueError, match="1 of the 2 genes of the model are missing from adata.var_names: 'zz'"):
        align_genes(adata, ["g0", "zz"])
    adata.var_names = ["g0", "g0", *adata.var_names[2:]]
    with pytest.raises(ValueError, match="1 names more than once: 'g0'"):
        align_genes(adata, names)


def test_reprs_are_one_line_with_counts(adata: Any, toy_model: Any) -> None:
    screen = screen_of(toy_model, adata)
    assert repr(screen.metadata) == "ScreenMetadata[n_perturbations=3, n_cell_types=3, n_batches=1, n_genes=12]"
    assert repr(screen) == (
        "Screen[ConditionIndex[n_cells=600, n_conditions=9, n_contexts=3, n_controls=120, skipped=0], "
        "PerturbationVocabulary[n_perturbations=2, n_trained=2, embedding=None]]"
    )
