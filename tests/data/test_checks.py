from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from pertcast.baselines import NoEffect
from pertcast.data._matrix_checks import check_matrix, looks_like_counts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def snapshot(adata: Any) -> tuple[Any, ...]:
    """Everything that registration could change."""
    X = adata.X
    data = None if X is None else X.data.tobytes() if sp.issparse(X) else np.asarray(X).tobytes()
    return (
        adata.obs.copy(),
        copy.deepcopy({key: value for key, value in adata.uns.items() if not isinstance(value, pd.DataFrame)}),
        sorted(adata.uns),
        sorted(adata.obsm),
        sorted(key for key in adata.layers if key is not None),
        data,
    )


def assert_refused(toy_model: Any, adata: Any, error: type[Exception], message: str, **arguments: Any) -> None:
    """Setting up fails with the message and leaves the AnnData as it was."""
    before = snapshot(adata)
    with pytest.raises(error, match=message):
        toy_model.setup_anndata(adata, **arguments)
    after = snapshot(adata)
    pd.testing.assert_frame_equal(before[0], after[0])
    assert before[1:] == after[1:]


def replace_first(adata: Any, column: str, value: object, where: str = "A") -> None:
    """Replace the entry of the first cell of a perturbation."""
    adata.obs[column] = adata.obs[column].astype(object)
    adata.obs.loc[adata.obs_names[(adata.obs["perturbation"] == where).to_numpy()][0], column] = value


def test_columns_of_scvi_tools_are_never_suggested(make_screen: Callable[..., Any], toy_model: Any) -> None:
    adata = make_screen()
    toy_model.setup_anndata(adata, batch_key="donor")
    adata.obs = adata.obs.rename(columns={"perturbation": "treatment"})
    with pytest.raises(KeyError, match="'perturbation', which is not in adata.obs. Columns: ") as refused:
        toy_model.setup_anndata(adata)
    assert "_scvi_" not in str(refused.value)


def test_a_good_screen_is_accepted(make_screen: Callable[..., Any], toy_model: Any) -> None:
    toy_model.setup_anndata(make_screen(), batch_key="donor", dosage_key="dose", continuous_covariate_keys=["age"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"perturbation_key": "perturbatoin"}, KeyError, "`perturbation_key` names .*Did you mean 'perturbation'"),
        ({"cell_type_key": "celltype"}, KeyError, "`cell_type_key` names the column 'celltype'.*'cell_type'"),
        ({"batch_key": "batch"}, KeyError, "`batch_key` names the column 'batch'.*Columns: 'perturbation'"),
        ({"dosage_key": "Dose"}, KeyError, "`dosage_key` names the column 'Dose'.*Did you mean 'dose'"),
        ({"split_key": "split"}, KeyError, "`split_key` names the column 'split'"),
        ({"categorical_covariate_keys": ["sex", "sx"]}, KeyError, "`categorical_covariate_keys` names the column 'sx'"),
        ({"continuous_covariate_keys": ["Age"]}, KeyError, "`continuous_covariate_keys` names the column 'Age'"),
        ({"continuous_covariate_keys": ["sex"]}, TypeError, "'sex', which is not numeric.*pd.to_numeric"),
        ({"categorical_covariate_keys": "sex"}, TypeError, r"must be a list of columns.*Use \['sex'\]"),
        ({"dosage_key": "sex"}, TypeError, "`dosage_key` names the column 'sex', which is not numeric"),
        ({"layer": "lognorm"}, KeyError, "No layer 'lognorm' in adata.layers"),
        ({"counts_layer": "counts"}, KeyError, "No layer 'counts' in adata.layers"),
        ({"perturbation_embedding_key": "emb"}, KeyError, "names 'emb', which is not in adata.uns"),
        ({"batch_key": "perturbation"}, ValueError, "'perturbation' holds the perturbation, so it cannot also be"),
        ({"categorical_covariate_keys": ["cell_type"]}, ValueError, "'cell_type' is named more than once"),
        ({"control": "ctrl"}, ValueError, r"no label 'ctrl'.*Did you mean control='control'.*'control' \(120 cells\)"),
        ({"control": 0}, TypeError, "`control` must be a string, but found 0.*control='0'"),
        ({"cell_type_key": ["cell_type", "sex"]}, TypeError, "`cell_type_key` must be the name of one column, but"),
        ({"perturbation_key": None}, TypeError, "`perturbation_key` must be the name of one column, but found None"),
    ],
)
def test_bad_arguments(
    make_screen: Callable[..., Any],
    toy_model: Any,
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    assert_refused(toy_model, make_screen(), error, message, **arguments)


def test_misspelt_arguments(make_screen: Callable[..., Any]) -> None:
    for name, message in (
        ("celltype_key", r"`setup_anndata` has no argument 'celltype_key'. Did you mean 'cell_type_key'\?"),
        ("labels_key", r"no argument 'labels_key'\. .*Arguments are perturbation_key, control, cell_type_key"),
    ):
        arguments: Any = {name: "cell_type"}
        with pytest.raises(TypeError, match=message):
            NoEffect.setup_anndata(make_screen(), **arguments)


def test_counts_in_a_layer(make_screen: Callable[..., Any], toy_model: Any) -> None:
    adata = make_screen()
    adata.layers["counts"] = adata.X.ceil()
    message = r"adata\.layers\['counts'\] looks like raw counts.*leave `layer` out if `adata\.X` is\."
    assert_refused(toy_model, adata, ValueError, message, layer="counts")


def test_mudata_in_place_of_anndata(make_screen: Callable[..., Any]) -> None:
    mdata = mudata.MuData({"rna": make_screen()})
    with pytest.raises(ValueError, match=r"This is a MuData.*`setup_mudata`.*modalities=\{'layer': 'rna'\}"):
        NoEffect.setup_anndata(mdata)


def test_view(make_screen: Callable[..., Any], toy_model: Any) -> None:
    with pytest.raises(ValueError, match=r"is a view.*adata = adata\.copy\(\)"):
        toy_model.setup_anndata(make_screen()[:100])


def test_other_objects(toy_model: Any) -> None:
    with pytest.raises(TypeError, match="Expected an AnnData or MuData, but found DataFrame"):
        toy_model.setup_anndata(pd.DataFrame())


def test_mudata_in_a_file(make_screen: Callable[..., Any], tmp_path: Path) -> None:
    mudata.MuData({"rna": make_screen()}).write_h5mu(tmp_path / "screen.h5mu")
    mdata = mudata.read_h5mu(tmp_path / "screen.h5mu", backed="r")
    with pytest.raises(ValueError, match=r"MuData is backed by a file.*read_h5mu"):
        NoEffect.setup_mudata(mdata, modalities={"layer": "rna", "perturbation_key": "rna"})
    mdata.file.close()


def test_matrix_that_is_not_in_memory() -> None:
    class Array:
        """Stands for an array of dask or zarr."""

        shape, dtype = (2, 2), np.dtype(np.float32)

    with pytest.raises(TypeError, match=r"adata\.X must be .* in memory, but it is a Array.*to_memory"):
        check_matrix(Array(), pd.Index(["a", "b"]), pd.Index(["c", "d"]))


def test_no_control_cells(make_screen: Callable[..., Any], toy_model: Any) -> None:
    adata = make_screen()
    adata.obs["perturbation"] = adata.obs["perturbation"].replace({"control": "DMSO"})
    assert_refused(toy_model, adata, ValueError, r"No control cells.*control='DMSO'.*'DMSO' \(120 cells\)")


def test_unused_category_is_no_control(make_screen: Callable[..., Any], toy_model: Any) -> None:
    adata = make_screen()
    adata = adata[(adata.obs["perturbation"] != "control").to_numpy()].copy()
    adata.obs["perturbation"] = pd.Categorical(adata.obs["perturbation"], ["control", "A", "B/x", "A+B/x", "B/x+A"])
    assert_refused(toy_model, adata, ValueError, "No control cells")


def test_no_perturbed_cells(make_screen: Callable[..., Any], toy_model: Any) -> None:
    adata = make_screen()
    adata.obs["perturbation"] = "control"
    assert_refused(toy_model, adata, ValueError, "No perturbed cells: column 'perturbation' holds only")


@pytest.mark.parametrize("column", ["perturbation", "cell_type", "donor", "sex"])
@pytest.mark.parametrize("missing", [np.nan, None, "nan", ""], ids=["NaN", "None", "text", "empty"])
def test_missing_labels(make_screen: Callable[..., Any], toy_model: Any, column: str, missing: object) -> None:
    adata = make_screen()
    replace_first(adata, column, missing)
    assert_refused(
        toy_model,
        adata,
        ValueError,
        f"Column '{column}' has no label.* for 1 of 600 cells, for example cell 'cell.*(notna|isin)",
        batch_key="donor",
        categorical_covariate_keys=["sex"],
    )


@pytest.mark.parametrize("values", [[np.nan], ["nan"], [None, "nan", ""]], ids=["missing", "text", "both"])
@pytest.mark.parametrize("dtype", ["object", "category"])
def test_the_advice_on_missing_labels_works(
    make_screen: Callable[..., Any], toy_model: Any, values: list[Any], dtype: Any
) -> None:
    adata = make_screen()
    labels = adata.obs["cell_type"].astype(object)
    labels.iloc[: len(values)] = values
    adata.obs["cell_type"] = labels.astype(dtype)
    with pytest.raises(ValueError, match="has no label") as refused:
        toy_model.setup_anndata(adata)
    advice = re.search("`adata = (.*)`", str(refused.value))
    assert advice is not None
    adata = eval(advice[1], {"adata": adata})
    assert adata.n_obs == 600 - len(values)
    toy_model.setup_anndata(adata)


@pytest.mark.parametrize("name", ["population", "source_cell"])
@pytest.mark.parametrize(
    "argument",
    ["perturbation_key", "cell_type_key", "batch_key", "dosage_key", "categorical_covariate_keys",
     "continuous_covariate_keys"],
)  # fmt: skip
def test_columns_that_predictions_add(
    make_screen: Callable[..., Any], toy_model: Any, argument: str, name: str
) -> None:
    adata = make_screen()
    source = {"perturbation_key": "perturbation", "dosage_key": "dose", "continuous_covariate_keys": "age"}
    adata.obs[name] = adata.obs[source.get(argument, "sex")]
    named: Any = [name] if argument.endswith("keys") else name
    message = rf"`{argument}` names the column '{name}'.*rename\(columns=\{{'{name}': 'my_{name}'\}}\)"
    assert_refused(toy_model, adata, ValueError, message, **{argument: named})


@pytest.mark.parametrize("name", ["A+", "A+A"])
def test_names_that_do_not_parse(make_screen: Callable[..., Any], toy_model: Any, name: str) -> None:
    adata = make_screen()
    replace_first(adata, "perturbation", name)
    assert_refused(toy_model, adata, ValueError, "Column 'perturbation': The perturbation name 'A")


@pytest.mark.parametrize("dosage", [np.nan, -1.0, np.inf])
def test_bad_dosage_of_a_perturbed_cell(make_screen: Callable[..., Any], toy_model: Any, dosage: float) -> None:
    adata = make_screen()
    replace_first(adata, "dose", dosage)
    adata.obs["dose"] = adata.obs["dose"].astype(float)
    assert_refused(
        toy_model, adata, ValueError, "'dose' has a missing, infinite or negative dosage for 1", dosage_key="dose"
    )


def test_missing_covariate(make_screen: Callable[..., Any], toy_model: Any) -> None:
    adata = make_screen()
    adata.obs.loc["cell7", "age"] = np.nan
    assert_refused(
        toy_model,
        adata,
        ValueError,
        "'age' is missing or infinite in 1 cells.*'cell7'",
        continuous_covariate_keys=["age"],
    )


def test_duplicate_genes(make_screen: Callable[..., Any], toy_model: Any) -> None:
    adata = make_screen()
    adata.var_names = ["g0", *adata.var_names[:-1]]
    assert_refused(toy_model, adata, ValueError, "1 gene names occur more than once: 'g0'.*var_names_make_unique")


def test_duplicate_cell_names_are_allowed(make_screen: Callable[..., Any], toy_model: Any) -> None:
    adata = make_screen()
    adata.obs_names = ["c"] * adata.n_obs
    toy_model.setup_anndata(adata)


@pytest.mark.parametrize("sparse", [True, False])
def test_raw_counts(make_screen: Callable[..., Any], toy_model: Any, sparse: bool) -> None:
    adata = make_screen(sparse=sparse)
    adata.X = adata.X.ceil() if sparse else np.ceil(adata.X)
    assert_refused(toy_model, adata, ValueError, r"adata\.X looks like raw counts.*normalize_total.*log1p\(adata\)")
    adata.layers["lognorm"] = make_screen(sparse=sparse).X
    toy_model.setup_anndata(adata, layer="lognorm")


def test_counts_layer_must_hold_counts(make_screen: Callable[..., Any], toy_model: Any) -> None:
    adata = make_screen()
    adata.layers["counts"] = adata.X.copy()
    assert_refused(
        toy_model, adata, ValueError, r"adata\.layers\['counts'\] should hold raw counts, but", counts_layer="counts"
    )
    adata.layers["counts"] = adata.X.ceil()
    toy_model.setup_anndata(adata, counts_layer="counts")


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(
    make_screen: Callable[..., Any], toy_model: Any, sparse: bool, value: float
) -> None:
    adata = make_screen(sparse=sparse)
    dense = adata.X.toarray() if sparse else adata.X.copy()
    dense[3, 4] = value
    dense[5, 1] = value
    adata.X = sp.csr_matrix(dense) if sparse else dense
    assert_refused(toy_model, adata, ValueError, "2 NaN or infinite values, the first in cell 'cell3', gene 'g4'")


def test_embedding_must_cover_the_data(make_screen: Callable[..., Any], toy_model: Any) -> None:
    adata = make_screen()
    adata.uns["emb"] = {"A": [1.0, 1.0]}
    assert_refused(
        toy_model,
        adata,
        ValueError,
        r"adata\.uns\['emb'\] has no vector for 1 .*'B/x'",
        perturbation_embedding_key="emb",
    )


def test_context_without_controls(make_screen: Callable[..., Any], toy_model: Any) -> None:
    adata = make_screen()
    lonely = (adata.obs["cell_type"] == "B") & (adata.obs["perturbation"] == "A")
    adata.obs["donor"] = adata.obs["donor"].where(~lonely, "d99")
    adata.obs["cell_type"] = adata.obs["cell_type"].where(~lonely, "lonely")
    assert_refused(toy_model, adata, ValueError, r"context\(s\) 'lonely'.*Add control cells", batch_key="donor")


def test_labels_that_join_to_the_name_of_two_contexts(make_screen: Callable[..., Any], toy_model: Any) -> None:
    adata = make_screen()
    adata.obs["cell_type"] = adata.obs["cell_type"].replace({"B": "T | a"})
    toy_model.setup_anndata(adata.copy())
    assert_refused(
        toy_model, adata, ValueError, r"'cell_type' holds the label 'T \| a'", categorical_covariate_keys=["sex"]
    )


def test_test_cells_do_not_count_as_controls(make_screen: Callable[..., Any], toy_model: Any) -> None:
    adata = make_screen()
    is_lost = (adata.obs["perturbation"] == "control") & (adata.obs["cell_type"] == "B")
    adata.obs["split"] = np.where(is_lost, "test", "train")
    assert_refused(toy_model, adata, ValueError, r"No control cells for the context\(s\) 'B'", split_key="split")


def test_leak_between_the_parts_of_a_split(make_screen: Callable[..., Any], toy_model: Any) -> None:
    adata = make_screen()
    adata.obs["split"] = np.where(adata.obs["cell_type"] == "B", "test", "train")
    toy_model.setup_anndata(adata.copy(), split_key="split")
    is_leak = (adata.obs["cell_type"] == "B") & (adata.obs["perturbation"] == "A")
    adata.obs.loc[adata.obs_names[is_leak.to_numpy()][0], "split"] = "train"
    assert_refused(toy_model, adata, ValueError, r"more than one part of the split.*'A \| B'", split_key="split")


@pytest.mark.parametrize("label", ["ood", None])
def test_bad_split_labels(make_screen: Callable[..., Any], toy_model: Any, label: str | None) -> None:
    adata = make_screen()
    adata.obs["split"] = pd.Series("train", index=adata.obs_names, dtype=object)
    adata.obs.loc["cell0", "split"] = label
    assert_refused(
        toy_model, adata, ValueError, "Column 'split' has no label|holds the label.*'ood'", split_key="split"
    )


@pytest.mark.parametrize(
    ("X", "is_counts"),
    [
        (np.array([[0.0, 2.0], [1.0, 0.0]]), True),
        (np.array([[0, 2], [1, 0]]), True),
        (np.array([[0.0, 1.0], [1.0, 0.0]]), False),  # binary
        (np.array([[0.0, 2.0], [1.5, 0.0]]), False),
        (np.array([[0.0, 2.0], [-1.0, 0.0]]), False),  # negative: some other feature
        (np.zeros((2, 2)), False),
    ],
)
def test_looks_like_counts(X: np.ndarray, is_counts: bool) -> None:
    for layout in (np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array):
        assert looks_like_counts(layout(X)) is is_counts


def test_counts_are_recognised_in_a_sample_of_a_large_matrix() -> None:
    X = np.random.default_rng(0).poisson(2.0, (5000, 3)).astype(np.float32)
    assert looks_like_counts(X)
    assert looks_like_counts(sp.csc_matrix(X))
    assert not looks_like_counts(np.log1p(X))


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (None, ValueError, "X is empty. Name the layer"),
        (np.array([["a"]]), TypeError, "must be numeric, but its dtype is"),
        (np.zeros((1, 0)), ValueError, r"shape \(1, 0\)"),
    ],
)
def test_matrices_that_hold_nothing_to_learn(X: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_matrix(X, pd.Index(["c"]), pd.Index(["g"]))


def test_first_bad_value_is_found_in_a_later_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pertcast.data._matrix_checks._CHUNK_VALUES", 4)
    X = np.full((6, 2), 0.5)
    X[4, 1] = np.nan
    names = pd.Index([f"c{i}" for i in range(6)]), pd.Index(["g0", "g1"])
    for layout in (np.asarray, sp.csr_matrix, sp.csc_matrix):
        with pytest.raises(ValueError, match="1 NaN or infinite values, the first in cell 'c4', gene 'g1'"):
            check_matrix(layout(X), *names)
