from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from pertcast.data import screen_metadata_from_registry
from pertcast.data._query import ControlQuery

if TYPE_CHECKING:
    from collections.abc import Callable

SETUP: dict[str, Any] = {
    "batch_key": "donor",
    "categorical_covariate_keys": ["sex"],
    "continuous_covariate_keys": ["age"],
}


@pytest.fixture
def adata(make_screen: Callable[..., Any]) -> Any:
    return make_screen()


@pytest.fixture
def metadata(adata: Any, toy_model: Any) -> Any:
    registered = adata.copy()
    toy_model.setup_anndata(registered, **SETUP)
    return screen_metadata_from_registry(toy_model(registered).registry)


@pytest.fixture
def controls(adata: Any) -> Any:
    return adata[adata.obs["perturbation"] == "control"].copy()


def cells_of(query: ControlQuery) -> dict[tuple[str, ...], list[str]]:
    """Names of the cells of each population."""
    return {
        (*each.context.values(), each.batch): query.adata.obs_names[each.rows].tolist() for each in query.populations
    }


def test_populations_are_the_groups_of_the_columns(adata: Any, metadata: Any) -> None:
    query = ControlQuery.from_adata(adata, metadata)
    of_controls = adata.obs[adata.obs["perturbation"] == "control"]
    groups = of_controls.groupby(["cell_type", "sex", "donor"])
    assert cells_of(query) == {key: sorted(group.index) for key, group in groups}
    assert list(cells_of(query)) == sorted(cells_of(query))
    assert query.n_controls == len(of_controls)
    for each in query.populations:
        cell_type, sex = each.context.values()
        assert each.context_name == f"{cell_type} | {sex}"
        assert each.cell_type == cell_type
        assert each.obs == {"cell_type": cell_type, "sex": sex, "donor": each.batch}
        np.testing.assert_allclose(each.covariates, [adata.obs["age"].iloc[each.rows].mean()], rtol=1e-6)
    assert repr(query) == "ControlQuery[n_controls=120, n_populations=18, n_contexts=6, n_genes=12]"


def test_perturbed_cells_and_cell_order_make_no_difference(adata: Any, metadata: Any, controls: Any) -> None:
    whole = ControlQuery.from_adata(adata, metadata)
    for other in (controls, controls[::-1].copy(), controls[np.random.default_rng(1).permutation(120)]):
        query = ControlQuery.from_adata(other, metadata)
        assert cells_of(query) == cells_of(whole)
        for one, two in zip(query.populations, whole.populations, strict=True):
            np.testing.assert_array_equal(query.gather(one.rows), whole.gather(two.rows))
            np.testing.assert_allclose(query.mean(one.pool), whole.mean(two.pool), rtol=1e-12)


def test_repeated_cell_names_keep_the_order_of_the_file(controls: Any, metadata: Any) -> None:
    controls.obs_names = ["b"] + ["a"] * (controls.n_obs - 1)
    query = ControlQuery.from_adata(controls, metadata)
    assert all((np.diff(each.rows) > 0).all() for each in query.populations)


def test_small_populations_are_described_by_their_context(
    controls: Any, metadata: Any, caplog: pytest.LogCaptureFixture
) -> None:
    smallest = min(len(each.rows) for each in ControlQuery.from_adata(controls, metadata).populations)
    with caplog.at_level(logging.WARNING, logger="pertcast"):
        query = ControlQuery.from_adata(controls, metadata, min_controls=smallest + 1)
    borrowing = [each for each in query.populations if len(each.rows) == smallest]
    assert borrowing
    assert f"{len(borrowing)} of 18 control populations" in caplog.text
    for each in query.populations:
        same = (controls.obs["cell_type"] == each.cell_type) & (controls.obs["sex"] == each.context["sex"])
        expected = np.flatnonzero(same) if len(each.rows) == smallest else each.rows
        assert set(each.pool) == set(expected)


@pytest.mark.parametrize("sparse", [True, False])
def test_genes_are_brought_into_the_order_of_the_model(
    controls: Any, metadata: Any, sparse: bool, caplog: pytest.LogCaptureFixture
) -> None:
    expected = controls.X.toarray()
    controls.var["symbol"] = [f"s{i}" for i in range(12)]
    shuffled = controls[:, ::-1].copy()
    extra = shuffled[:, :2].copy()
    extra.var_names = ["new1", "new2"]
    wide: Any = anndata.concat([extra, shuffled], axis=1, merge="first")
    wide.obs = controls.obs.copy()
    if not sparse:
        wide.X = wide.X.toarray()
    before = wide.X.copy()
    with caplog.at_level(logging.INFO, logger="pertcast"):
        query = ControlQuery.from_adata(wide, metadata)
    assert "12 of 14 columns" in caplog.text
    rows = np.array([[3, 5], [7, 3]])
    found = query.gather(rows)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected[rows])
    np.testing.assert_allclose(query.mean(np.array([3, 5, 5])), expected[[3, 5, 5]].mean(0), rtol=1e-6)
    assert query.var.index.tolist() == [f"g{i}" for i in range(12)]
    assert query.var["symbol"].tolist() == controls.var["symbol"].tolist()
    assert query.is_sparse is sparse
    difference = wide.X - before
    assert abs(difference).max() == 0


def test_gather_returns_a_new_array(controls: Any, metadata: Any) -> None:
    controls.X = controls.X.toarray()
    before = controls.X.copy()
    query = ControlQuery.from_adata(controls, metadata)
    query.gather(np.arange(120))[:] = -1
    np.testing.assert_array_equal(controls.X, before)
    assert query.var is not controls.var


def test_unseen_contexts_are_normal(controls: Any, metadata: Any) -> None:
    controls.obs["cell_type"] = "NK"
    controls.obs["donor"] = "new donor"
    query = ControlQuery.from_adata(controls, metadata)
    assert {(each.cell_type, each.batch) for each in query.populations} == {("NK", "new donor")}


def test_contexts_restrict(controls: Any, metadata: Any) -> None:
    one = ControlQuery.from_adata(controls, metadata, contexts="B")
    assert {each.context_name for each in one.populations} == {"B | f", "B | m"}
    two = ControlQuery.from_adata(controls, metadata, contexts=["T | f", "mono"])
    assert {each.context_name for each in two.populations} == {"T | f", "mono | f", "mono | m"}
    with pytest.raises(ValueError, match="names 'mon', of which there are no control cells. Did you mean 'mono'"):
        ControlQuery.from_adata(controls, metadata, contexts=["mon"])
    with pytest.raises(ValueError, match="`contexts` is empty"):
        ControlQuery.from_adata(controls, metadata, contexts=[])
    with pytest.raises(TypeError, match="`contexts` must be a name or a list of names, but found 1. Names .*: '1'"):
        ControlQuery.from_adata(controls, metadata, contexts=1)  # type: ignore[arg-type]


def test_labels_of_perturbed_cells_do_not_matter(adata: Any, metadata: Any) -> None:
    perturbed = (adata.obs["perturbation"] != "control").to_numpy()
    expected = cells_of(ControlQuery.from_adata(adata, metadata))
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(object).where(~perturbed)
    adata.obs.loc[perturbed, "age"] = np.nan
    adata.X = adata.X.toarray()
    adata.X[perturbed] = np.nan
    assert cells_of(ControlQuery.from_adata(adata, metadata)) == expected


def without_column(controls: Any) -> None:
    del controls.obs["perturbation"]


def without_batch(controls: Any) -> None:
    del controls.obs["donor"]


def without_controls(controls: Any) -> None:
    controls.obs["perturbation"] = "A"


def with_missing_label(controls: Any) -> None:
    controls.obs["cell_type"] = controls.obs["cell_type"].where(np.arange(controls.n_obs) != 4)


def with_nan(controls: Any) -> None:
    controls.X.data[3] = np.nan


def with_counts(controls: Any) -> None:
    controls.X = sp.csr_matrix(np.arange(controls.n_obs * 12).reshape(-1, 12) % 7)


def with_nan_covariate(controls: Any) -> None:
    controls.obs.loc[controls.obs_names[0], "age"] = np.nan


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (without_column, KeyError, r"perturbation.*not in adata.obs.*`adata.obs\[.perturbation.\] = .control.`"),
        (without_batch, KeyError, "`batch_key` names the column 'donor'"),
        (without_controls, ValueError, "No control cells: column 'perturbation' has no label 'control'"),
        (with_missing_label, ValueError, "Column 'cell_type' has no label for 1 of 120 cells"),
        (with_nan, ValueError, "adata.X holds 1 NaN or infinite values"),
        (with_counts, ValueError, "adata.X looks like raw counts"),
        (with_nan_covariate, ValueError, "Column 'age' is missing or infinite in 1 cells"),
    ],
)
def test_errors_name_what_is_wrong(
    controls: Any, metadata: Any, spoil: Callable[[Any], None], error: type[Exception], message: str
) -> None:
    spoil(controls)
    with pytest.raises(error, match=message):
        ControlQuery.from_adata(controls, metadata)


def test_an_anndata_without_cells_is_refused(controls: Any, metadata: Any) -> None:
    with pytest.raises(ValueError, match="The AnnData has no cells"):
        ControlQuery.from_adata(controls[:0], metadata)


def test_genes_must_be_there_and_unique(controls: Any, metadata: Any) -> None:
    with pytest.raises(ValueError, match="2 of the 12 genes of the model are missing.*'g0', 'g1'"):
        ControlQuery.from_adata(controls[:, 2:].copy(), metadata)
    renamed = controls.copy()
    renamed.var["symbol"] = renamed.var_names
    renamed.var_names = [f"ENSG{i}" for i in range(renamed.n_vars)]
    with pytest.raises(
        ValueError,
        match=r"12 of the 12 genes.* The names here are 'ENSG0', .*; such names are in adata\.var\['symbol'\]",
    ):
        ControlQuery.from_adata(renamed, metadata)
    controls.var_names = [*controls.var_names[:-1], "g0"]
    with pytest.raises(ValueError, match="holds 1 names more than once: 'g0'"):
        ControlQuery.from_adata(controls, metadata)


def test_the_registered_layer_is_read(adata: Any, toy_model: Any) -> None:
    adata.layers["log"] = adata.X * 2
    adata.X = None
    registered = adata.copy()
    toy_model.setup_anndata(registered, layer="log")
    metadata = screen_metadata_from_registry(toy_model(registered).registry)
    query = ControlQuery.from_adata(adata, metadata)
    np.testing.assert_array_equal(query.gather(np.array([2])), adata.layers["log"][[2]].toarray())
    adata.layers["logs"] = adata.layers.pop("log")
    with pytest.raises(KeyError, match="No layer 'log' in adata.layers, which holds 'logs'. Did you mean 'logs'"):
        ControlQuery.from_adata(adata, metadata)


def test_mudata(adata: Any, toy_model: Any) -> None:
    def wrap(part: Any) -> Any:
        rna = part.copy()
        obs = rna.obs
        rna.obs = pd.DataFrame(index=obs.index)
        mdata = mudata.MuData({"rna": rna})
        mdata.obs = obs.copy()
        return mdata

    registered = wrap(adata)
    toy_model.setup_mudata(registered, batch_key="donor", modalities={"layer": "rna"})
    metadata = screen_metadata_from_registry(toy_model(registered).registry)
    from_mudata = ControlQuery.from_adata(wrap(adata), metadata)
    from_adata = ControlQuery.from_adata(adata, metadata)
    assert cells_of(from_mudata) == cells_of(from_adata)
    np.testing.assert_array_equal(from_mudata.gather(np.arange(5)), from_adata.gather(np.arange(5)))
    bad = wrap(adata)
    bad.mod["rna"] = bad.mod["rna"][::-1].copy()
    with pytest.raises(ValueError, match="'rna' does not have the same cells"):
        ControlQuery.from_adata(bad, metadata)


def test_other_objects_are_refused(metadata: Any) -> None:
    with pytest.raises(TypeError, match="found DataFrame"):
        ControlQuery.from_adata(pd.DataFrame(), metadata)
