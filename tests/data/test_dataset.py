from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from pertcast.data import (
    ConditionIndex,
    PerturbationVocabulary,
    PopulationDataset,
    SetRequest,
    match_controls,
)
from pertcast.data._matrix import gather_rows, row_major

N, G = 60, 5


@pytest.fixture
def values() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.random((N, G)) * (rng.random((N, G)) < 0.5)).astype(np.float32)


def with_duplicates(values: np.ndarray) -> sp.csr_matrix:
    """CSR that stores every value as two halves in one place."""
    half = sp.csr_matrix(values / 2)
    indptr = half.indptr * 2
    return sp.csr_matrix((np.repeat(half.data, 2), np.repeat(half.indices, 2), indptr), shape=values.shape)


LAYOUTS = {
    "csr": sp.csr_matrix,
    "csr_array": sp.csr_array,
    "csr_float64": lambda values: sp.csr_matrix(values.astype(np.float64)),
    "csr_int64_indices": lambda values: sp.csr_array(
        (sp.csr_array(values).data, sp.csr_array(values).indices.astype(np.int64), sp.csr_array(values).indptr),
        shape=values.shape,
    ),
    "csr_duplicates": with_duplicates,
    "csc": sp.csc_matrix,
    "coo": sp.coo_matrix,
    "dense": np.asarray,
    "dense_float64": lambda values: values.astype(np.float64),
    "dense_by_columns": np.asfortranarray,
    "dense_slice": lambda values: np.repeat(values, 2, axis=1)[:, ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gather_equals_indexing(values: np.ndarray, layout: str) -> None:
    X = row_major(LAYOUTS[layout](values))
    rows = np.random.default_rng(1).integers(-1, N, (4, 6))
    rows[0] = 7  # repeated rows
    rows[1] = -1
    gathered = gather_rows(X, rows)
    expected = np.where((rows >= 0)[..., None], values[rows], 0)
    assert gathered.dtype == np.float32
    np.testing.assert_allclose(gathered, expected, rtol=1e-6)


@pytest.mark.parametrize("layout", ["csr", "dense"])
def test_gather_never_writes_to_the_matrix(values: np.ndarray, layout: str) -> None:
    X: Any = row_major(LAYOUTS[layout](values.copy()))
    gather_rows(X, np.array([0, -1, N - 1]))[...] = 99
    np.testing.assert_array_equal(X.toarray() if sp.issparse(X) else X, values)


def test_gather_of_no_rows(values: np.ndarray) -> None:
    assert gather_rows(sp.csr_matrix(values), np.zeros((0,), dtype=int)).shape == (0, G)
    assert gather_rows(sp.csr_matrix(values), np.full((2, 3), -1)).shape == (2, 3, G)


@pytest.mark.parametrize(("layout", "copies"), [("csr", False), ("dense", False), ("csc", True), ("dense_slice", True)])
def test_only_slow_layouts_are_copied_and_logged(
    values: np.ndarray, layout: str, copies: bool, caplog: pytest.LogCaptureFixture
) -> None:
    X = LAYOUTS[layout](values)
    with caplog.at_level(logging.INFO, logger="pertcast"):
        converted = row_major(X, where="adata.X")
    if sp.issparse(X):
        assert (converted is X) is not copies
    else:
        assert np.shares_memory(converted, X) is not copies
    assert ("adata.X" in caplog.text) is copies


def test_other_matrices_are_refused() -> None:
    with pytest.raises(TypeError, match=r"X must be a NumPy array .* it is a list.*to_memory"):
        row_major([[1.0]])


@pytest.fixture
def index() -> ConditionIndex:
    rng = np.random.default_rng(2)
    perturbation, context, batch = rng.integers(0, 4, N), rng.integers(0, 2, N), rng.integers(0, 2, N)
    return ConditionIndex.from_codes(
        perturbation,
        ["control", "A", "B+A", "B"],
        context=context,
        context_names=["x", "y"],
        batch=batch,
        batch_names=["b0", "b1"],
        dosage=np.where(perturbation == 2, 3.0, 0.5),
    )


@pytest.fixture
def request_(index: ConditionIndex) -> SetRequest:
    chosen = index.perturbed[[0, -1, 3]]
    controls = match_controls(index)
    target, control = np.full((3, 4), -1), np.full((3, 2), -1)
    for i, condition in enumerate(chosen):
        rows = index.rows(condition)[: 4 - i]
        target[i, : len(rows)] = rows
        control[i] = controls.rows(condition)[:2]
    return SetRequest(chosen, target, control)


def dataset_of(X: Any, index: ConditionIndex, covariates: np.ndarray | None = None) -> PopulationDataset:
    vocabulary = PerturbationVocabulary.from_categories(index.perturbation_names)
    return PopulationDataset(X, index, match_controls(index), vocabulary, covariates)


def test_batch_holds_the_requested_cells(values: np.ndarray, index: ConditionIndex, request_: SetRequest) -> None:
    batch = dataset_of(sp.csr_matrix(values), index)[request_]
    assert batch["X"].shape == (3, 4, G)
    assert batch["control"].shape == (3, 2, G)
    np.testing.assert_array_equal(batch["mask"], request_.target >= 0)
    assert batch["control_mask"].all()
    for i in range(3):
        rows = request_.target[i][request_.target[i] >= 0]
        np.testing.assert_array_equal(batch["X"][i][batch["mask"][i]], values[rows])
        assert (batch["X"][i][~batch["mask"][i]] == 0).all()
        np.testing.assert_array_equal(batch["control"][i], values[request_.control[i]])


def test_batch_describes_the_conditions(values: np.ndarray, index: ConditionIndex, request_: SetRequest) -> None:
    batch = dataset_of(values, index)[request_]
    names = PerturbationVocabulary.from_categories(index.perturbation_names).names
    for i, condition in enumerate(request_.condition):
        parts = {names[k] for k in batch["part_ids"][i][batch["part_mask"][i]]}
        assert "+".join(sorted(parts)) == index.perturbation_names[index.perturbation[condition]]
        assert batch["dosage"][i] == index.dosage[condition] == (3.0 if parts == {"A", "B"} else 0.5)
        assert batch["context"][i] == index.context[condition]
        assert batch["batch"][i] == index.batch[condition]
        assert batch["condition"][i] == condition


def test_dtypes_and_contiguity(values: np.ndarray, index: ConditionIndex, request_: SetRequest) -> None:
    batch: Any = dataset_of(values.astype(np.float64), index)[request_]
    assert type(batch) is dict
    dtypes = {key: tensor.dtype for key, tensor in batch.items()}
    assert {key for key, dtype in dtypes.items() if dtype == torch.bool} == {"mask", "control_mask", "part_mask"}
    assert {key for key, dtype in dtypes.items() if dtype == torch.float32} == {"X", "control", "dosage", "covariates"}
    assert {key for key, dtype in dtypes.items() if dtype == torch.int64} == {
        "part_ids",
        "context",
        "batch",
        "condition",
    }
    assert batch["X"].is_contiguous()
    assert batch["control"].is_contiguous()


def test_covariates_are_means_over_all_matched_controls(
    values: np.ndarray, index: ConditionIndex, request_: SetRequest
) -> None:
    covariates = np.random.default_rng(3).normal(size=(N, 2)).astype(np.float32)
    controls = match_controls(index)
    batch = dataset_of(values, index, covariates)[request_]
    expected = np.stack([covariates[controls.rows(condition)].mean(0) for condition in request_.condition])
    np.testing.assert_allclose(batch["covariates"], expected, rtol=1e-5)
    assert dataset_of(values, index)[request_]["covariates"].shape == (3, 0)


def test_perturbation_without_id_is_an_error(values: np.ndarray, index: ConditionIndex) -> None:
    vocabulary = PerturbationVocabulary.from_categories(["A"])
    with pytest.raises(ValueError, match="Unknown perturbation 'B'"):
        PopulationDataset(values, index, match_controls(index), vocabulary)
    only_a = index.perturbed[index.perturbation[index.perturbed] == index.perturbation_names.index("A")]
    PopulationDataset(values, index, match_controls(index, conditions=only_a), vocabulary)
