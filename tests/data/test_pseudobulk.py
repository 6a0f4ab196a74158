from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from pertcast.data import (
    ConditionIndex,
    RowGroups,
    ShiftTable,
    match_controls,
    population_means,
    population_moments,
)
from pertcast.data import _pseudobulk as pseudobulk

N, G = 300, 7


@pytest.fixture
def dense() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.gamma(2, 1, (N, G)) * (rng.random((N, G)) < 0.3)).astype(np.float32)


@pytest.fixture
def labels() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame({"perturbation": rng.choice(["control", "A", "B"], N), "context": rng.choice(["x", "y"], N)})


@pytest.fixture
def index(labels: pd.DataFrame) -> ConditionIndex:
    perturbation, context = (labels[column].astype("category").cat for column in labels)
    return ConditionIndex.from_codes(
        perturbation.codes, list(perturbation.categories), context=context.codes, context_names=["x", "y"]
    )


@pytest.fixture(params=["dense", "float64", "csr", "csr_array", "counts"])
def X(request: pytest.FixtureRequest, dense: np.ndarray) -> Any:
    return {
        "dense": dense,
        "float64": dense.astype(np.float64),
        "csr": sp.csr_matrix(dense),
        "csr_array": sp.csr_array(dense),
        "counts": sp.csr_matrix(np.ceil(dense).astype(np.int32)),
    }[request.param]


@pytest.mark.parametrize("chunk_values", [2**24, 10 * G, 1])
def test_moments_equal_pandas(
    X: Any, labels: pd.DataFrame, index: ConditionIndex, chunk_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pseudobulk, "_CHUNK_VALUES", chunk_values)
    means, variances = population_moments(X, index.groups)
    values = pd.DataFrame(X.toarray() if sp.issparse(X) else X, dtype=np.float64)
    groups = values.groupby([labels["perturbation"], labels["context"]])
    keys = list(index.to_frame()[["perturbation", "context"]].itertuples(index=False, name=None))
    assert means.dtype == variances.dtype == np.float64
    np.testing.assert_allclose(means, groups.mean().loc[keys], rtol=1e-12)
    np.testing.assert_allclose(variances, groups.var(ddof=0).loc[keys], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(population_means(X, index.groups), means)


def test_overlapping_and_empty_groups(dense: np.ndarray) -> None:
    groups = RowGroups(np.array([3, 1, 4, 1, 5]), start=np.array([0, 1, 2, 0]), stop=np.array([3, 4, 2, 5]))
    means = population_means(dense, groups)
    np.testing.assert_allclose(means[0], dense[[3, 1, 4]].mean(0), rtol=1e-6)
    np.testing.assert_allclose(means[1], dense[[1, 4, 1]].mean(0), rtol=1e-6)
    assert np.isnan(means[2]).all()
    np.testing.assert_allclose(means[3], dense[[3, 1, 4, 1, 5]].mean(0), rtol=1e-6)


def test_variance_is_never_negative() -> None:
    X = np.full((4, 1), 1e8 + 0.1)
    _, variances = population_moments(X, RowGroups(np.arange(4), np.array([0]), np.array([4])))
    assert variances[0, 0] >= 0


def test_shift_table_equals_pandas(dense: np.ndarray, labels: pd.DataFrame, index: ConditionIndex) -> None:
    controls = match_controls(index)
    table = ShiftTable.from_index(sp.csr_matrix(dense), index, controls)
    means = pd.DataFrame(dense, dtype=np.float64).groupby([labels["perturbation"], labels["context"]]).mean()
    counts = labels.groupby(["perturbation", "context"]).size()
    assert len(table) == 4
    for i in range(4):
        perturbation = index.perturbation_names[table.perturbation[i]]
        context = index.context_names[table.context[i]]
        np.testing.assert_allclose(table.control_mean[i], means.loc["control", context], rtol=1e-9)
        np.testing.assert_allclose(
            table.shift[i], means.loc[perturbation, context] - means.loc["control", context], rtol=1e-6, atol=1e-9
        )
        assert table.n_perturbed[i] == counts[perturbation, context]
        assert table.n_control[i] == counts["control", context]
        assert table.dosage[i] == 1
        assert table.batch[i] == 0
    assert repr(table) == f"ShiftTable[n_conditions=4, n_control_groups=2, n_genes={G}]"


def test_shift_table_of_some_conditions(dense: np.ndarray, index: ConditionIndex) -> None:
    controls = match_controls(index)
    every = ShiftTable.from_index(dense, index, controls)
    wanted = index.perturbed[[3, 0]]
    some = ShiftTable.from_index(dense, index, controls, wanted)
    np.testing.assert_array_equal(some.condition, wanted)
    np.testing.assert_allclose(some.shift, every.shift[[3, 0]], rtol=1e-12)
    np.testing.assert_allclose(some.control_mean, every.control_mean[[3, 0]], rtol=1e-12)


def test_selected_rows_of_a_shift_table_are_the_table_of_these_conditions(
    dense: np.ndarray, index: ConditionIndex
) -> None:
    controls = match_controls(index)
    every = ShiftTable.from_index(dense, index, controls)
    for rows in (np.array([3, 0]), np.array([1]), np.arange(4)):
        some = every.select(rows)
        computed = ShiftTable.from_index(dense, index, controls, index.perturbed[rows])
        for each in fields(ShiftTable):
            np.testing.assert_allclose(getattr(some, each.name), getattr(computed, each.name), rtol=1e-12)
        some.shift[:] = 0
    assert every.shift.any(axis=1).all()  # they are copies


def test_shift_table_needs_matched_controls(dense: np.ndarray, index: ConditionIndex) -> None:
    controls = match_controls(index, conditions=index.perturbed[:1])
    with pytest.raises(ValueError, match="No controls were matched to 3 conditions"):
        ShiftTable.from_index(dense, index, controls)


def test_controls_minus_themselves_shift_nothing(dense: np.ndarray, index: ConditionIndex) -> None:
    own = np.flatnonzero(index.is_control)
    table = ShiftTable.from_index(dense, index, match_controls(index, conditions=own, min_controls=1), own)
    np.testing.assert_allclose(table.shift, 0, atol=1e-12)
