"""What a split writes, what it refuses, and what others read from it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest

from pertcast import __version__
from pertcast.data import screen_from_manager, simulate_screen
from pertcast.pp import check_split, split

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Screen = Callable[..., Any]
    Parts = Callable[..., dict[str, set[str]]]

KEYS: dict[str, Any] = {"cell_type_key": "cell_type", "batch_key": "donor", "dosage_key": "dose"}


@pytest.fixture
def full(screen: Screen) -> Any:
    rows = itertools.product("A/1 B A/1+B".split(), "x y z".split(), "d1 d2".split(), "1 10".split())
    adata = screen([" ".join(row) for row in rows])
    adata.uns["source"] = {"name": "made by hand"}
    return adata


def test_nothing_but_the_column_and_the_record_changes(full: Any) -> None:
    before = full.copy()
    assert split(full, "context", hold_out="y", key_added="part", **KEYS) is None
    pd.testing.assert_frame_equal(full.obs.drop(columns="part"), before.obs)
    np.testing.assert_array_equal(full.X, before.X)
    assert full.uns.keys() - before.uns.keys() == {"part"}
    assert full.obs["part"].cat.categories.tolist() == ["train", "test"]


def test_record(full: Any) -> None:
    split(full, "condition", hold_out=[("B", "x"), ("A/1", "y")], validation_size=0.1, seed=7, **KEYS)
    record = full.uns["split"]
    assert record["held_out"].tolist() == ["A/1 | 1 | y", "A/1 | 10 | y", "B | 1 | x", "B | 10 | x"]
    assert len(record["validation"]) == 1
    assert (record["kind"], record["seed"], record["version"]) == ("condition", 7, __version__)
    assert record["params"] == {
        "perturbation_key": "perturbation",
        "control": "control",
        **KEYS,
        "validation_size": 0.1,
    }
    split(full, "donor", batch_key="donor", n_folds=2, fold=1)
    params = full.uns["split"]["params"]
    assert {name: params.get(name) for name in ("n_folds", "fold", "test_size")} == {
        "n_folds": 2,
        "fold": 1,
        "test_size": None,
    }


def test_round_trip_through_a_file(full: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"categorical_covariate_keys": ["donor"], "cell_type_key": "cell_type"}
    split(full, "context", validation_size=0.3, **options)
    full.write_h5ad(tmp_path / "split.h5ad")
    back: Any = anndata.read_h5ad(tmp_path / "split.h5ad")
    pd.testing.assert_series_equal(back.obs["split"], full.obs["split"])
    record, expected = back.uns["split"], full.uns["split"]
    assert record.keys() == expected.keys()
    assert record["held_out"].tolist() == expected["held_out"].tolist()
    assert record["params"]["categorical_covariate_keys"].tolist() == ["donor"]
    check_split(back, kind="context", **options)
    split(back, "donor", batch_key="donor")  # a record that was read back is replaced
    assert back.uns["split"]["kind"] == "donor"


def test_copy(full: Any) -> None:
    other: Any = split(full, "context", hold_out="x", copy=True, **KEYS)
    assert "split" not in full.obs
    assert "split" not in full.uns
    assert set(other.obs["split"]) == {"train", "test"}
    other = split(full[full.obs["donor"] == "d1"], "context", hold_out="x", copy=True, **KEYS)
    assert other.n_obs == full.n_obs // 2


def test_labels_of_an_earlier_split_are_replaced(full: Any, parts: Parts) -> None:
    split(full, "context", hold_out="x", validation_size=0.4, **KEYS)
    split(full, "context", hold_out="y", **KEYS)
    assert parts(full, "cell_type") == {"train": {"x", "z"}, "test": {"y"}}
    assert "validation" not in full.uns["split"]
    assert full.obs["split"].cat.categories.tolist() == ["train", "test"]


@pytest.mark.parametrize("labels", [["Train", "val", "test"], ["training", None, "valid"]])
def test_a_split_made_in_another_way_is_replaced(full: Any, labels: list[str | None]) -> None:
    full.obs["part"] = pd.Categorical(np.resize(np.array(labels, dtype=object), full.n_obs))
    split(full, "context", hold_out="x", key_added="part", **KEYS)
    assert full.obs["part"].cat.categories.tolist() == ["train", "test"]


@pytest.mark.parametrize("values", [[1.5, 2.0], ["train", "left out"]])
def test_other_columns_are_not_overwritten(full: Any, values: list[Any]) -> None:
    full.obs["mine"] = np.resize(values, full.n_obs)
    before = full.obs.copy()
    with pytest.raises(ValueError, match=r"would overwrite adata.obs\['mine'\], which holds .* is no split"):
        split(full, "context", hold_out="x", key_added="mine", **KEYS)
    pd.testing.assert_frame_equal(full.obs, before)
    assert "mine" not in full.uns


ERRORS: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("batch", {}, ValueError, "but found 'batch'. For labels of `batch_key`, use 'donor'"),
    ("combinations", {}, ValueError, "Did you mean 'combination'"),
    ("context", {"cell_type_key": None}, ValueError, "kind='context' needs `cell_type_key`"),
    ("condition", {"cell_type_key": None}, ValueError, "kind='condition' needs `cell_type_key`"),
    ("donor", {"batch_key": None}, ValueError, "kind='donor' needs `batch_key`"),
    ("dosage", {"dosage_key": None}, ValueError, "kind='dosage' needs `dosage_key`"),
    (
        "context",
        {"cell_type_key": "celltype"},
        KeyError,
        "'celltype', which is not in adata.obs. Did you mean 'cell_typ",
    ),
    ("context", {"cell_type_key": "perturbation"}, ValueError, "cannot also be cell type"),
    ("context", {"control": "ctrl"}, ValueError, "No control cells.*Did you mean control='control'"),
    ("context", {"cell_type_key": "gaps"}, ValueError, "'gaps' has no label for 2 of"),
    ("context", {"hold_out": "xx"}, ValueError, "'xx', which is no context.*There are 'x', 'y', 'z'"),
    ("context", {"hold_out": []}, ValueError, "`hold_out` is empty"),
    ("context", {"hold_out": ["x", "y", "z"]}, ValueError, "Nothing is left for training: all 36"),
    ("context", {"cell_type_key": "one"}, ValueError, "Nothing can be held out for test.*There are 1 to choose"),
    ("donor", {"hold_out": "d1", "validation_size": 0.5}, ValueError, "Nothing can be held out for validation"),
    ("donor", {"hold_out": "d11"}, ValueError, "'d11', which is no donor.*Did you mean 'd1'"),
    ("perturbation", {"hold_out": "A1"}, ValueError, "'A1', which is no perturbation.*Did you mean 'A/1'"),
    ("perturbation", {"hold_out": "control"}, ValueError, "names the control 'control'"),
    ("perturbation", {"hold_out": "A/1+B"}, ValueError, "combination 'A/1[+]B', but kind='perturbation'"),
    ("combination", {"hold_out": "B"}, ValueError, "single perturbation 'B', but kind='combination'"),
    ("condition", {"hold_out": ["B", "x"]}, TypeError, r"lists tuples \(perturbation, context\).*found 'B'"),
    ("condition", {"hold_out": [("x", "B")]}, ValueError, r"\('x', 'B'\), but the order is \(perturbation, context\)"),
    ("condition", {"hold_out": [("B", "w")]}, ValueError, "'w', which is no context"),
    ("condition", {"hold_out": [("B", "x", 3)]}, ValueError, "the screen has no cells of this condition"),
    ("dosage", {"hold_out": 3}, ValueError, "dosage 3, at which there are no perturbed cells. There are 1, 10"),
    ("dosage", {"hold_out": "10"}, TypeError, "dosages, which are numbers, but found '10'"),
    ("dosage", {"dosage_key": "cell_type"}, TypeError, "'cell_type', which is not numeric"),
    ("context", {"n_seen": 1}, ValueError, "does not go with kind='context'"),
    ("context", {"test_size": 0}, ValueError, "`test_size` is a share between 0 and 1, but found 0"),
    ("context", {"validation_size": 1.0}, ValueError, r"share in \[0, 1\), but found 1.0"),
    ("context", {"test_size": "half"}, TypeError, "`test_size` must be a number"),
    ("context", {"seed": None}, TypeError, "`seed` must be an integer, but found None"),
    ("context", {"key_added": "donor"}, ValueError, "'donor'` would overwrite a column that the split is made from"),
    ("context", {"key_added": "perturbation"}, ValueError, "'perturbation' holds the perturbation|would overwrite"),
    ("context", {"key_added": "source"}, ValueError, r"would overwrite adata.uns\['source'\]"),
    ("context", {"key_added": "a/b"}, ValueError, "a name without '/'"),
]


@pytest.mark.parametrize(("kind", "options", "error", "match"), ERRORS, ids=[f"{i}" for i in range(len(ERRORS))])
def test_errors_say_what_to_do_and_change_nothing(
    full: Any, kind: Any, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    full.obs["one"] = "x"
    full.obs["gaps"] = [None, None, *["x"] * (full.n_obs - 2)]
    before = full.copy()
    with pytest.raises(error, match=match):
        split(full, kind, **{**KEYS, **options})
    pd.testing.assert_frame_equal(full.obs, before.obs)
    assert full.uns.keys() == before.uns.keys()


def test_context_without_controls_is_an_error(full: Any) -> None:
    adata = full[(full.obs["perturbation"] != "control") | (full.obs["cell_type"] != "y")].copy()
    with pytest.raises(ValueError, match="No control cells for the context.s. 'y'"):
        split(adata, "context", cell_type_key="cell_type")


def test_one_condition_in_each_context_cannot_be_spared(screen: Screen) -> None:
    adata = screen(["A x", "A y", "A z"])
    with pytest.raises(ValueError, match="with one perturbation, use kind='context'"):
        split(adata, "condition", cell_type_key="cell_type")


def test_views_are_refused(full: Any) -> None:
    with pytest.raises(ValueError, match="view of another one. Make a copy"):
        split(full[:10], "context", cell_type_key="cell_type")
    with pytest.raises(TypeError, match="found DataFrame"):
        split(full.obs, "context", cell_type_key="cell_type")


def test_mudata(full: Any) -> None:
    obs = full.obs.copy()
    mdata = mudata.MuData({"rna": anndata.AnnData(full.X, obs=full.obs[[]])})
    mdata.obs = obs
    split(mdata, "context", hold_out="x", **KEYS)
    split(full, "context", hold_out="x", **KEYS)
    assert mdata.obs["split"].tolist() == full.obs["split"].tolist()
    check_split(mdata, kind="context", **KEYS)


@pytest.mark.parametrize(
    ("kind", "column"), [("context", "cell_type"), ("donor", "donor"), ("perturbation", "perturbation")]
)
def test_models_read_the_parts(kind: Any, column: str) -> None:
    from pertcast import PerturbDiff

    adata = simulate_screen(6, n_genes=20, n_batches=1, combinations=False)
    split(adata, kind, cell_type_key="cell_type", batch_key="donor", test_size=0.3, validation_size=0.4)
    PerturbDiff.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor", split_key="split")
    screen = screen_from_manager(PerturbDiff._get_most_recent_anndata_manager(adata, required=True))
    found = screen.split()
    assert found.kind == "labels"
    frame = screen.index.to_frame().rename(columns={"context": "cell_type", "batch": "donor"})
    record = adata.uns["split"]
    assert set(frame.loc[found.test, column]) == set(record["held_out"])
    assert set(frame.loc[found.validation, column]) == set(record["validation"])
    trained = set(frame.loc[found.train, column])
    assert trained == set(adata.obs[column].astype(str)) - {"control", *record["held_out"], *record["validation"]}
