"""Screens in files: rows are read when they are needed, and everything is as it is in memory."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import pertcast as pc
from pertcast.data._groups import RowGroups
from pertcast.data._matrix import gather_rows, is_sparse, row_major
from pertcast.data._on_disk import RowsOnDisk, _read_sparse_runs
from pertcast.data._pseudobulk import population_moments
from pertcast.model._statistics import is_nonnegative

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    type Backed = Callable[..., ad.AnnData]

N, G = 40, 7


@pytest.fixture
def values() -> np.ndarray:
    rng = np.random.default_rng(0)
    values = (rng.random((N, G)) * (rng.random((N, G)) < 0.4)).astype(np.float32)
    values[[0, 6, 7, N - 1]] = 0
    return values


@pytest.fixture
def backed(tmp_path: Path) -> Iterator[Backed]:
    """Writes an AnnData and opens the file."""
    opened: list[ad.AnnData] = []

    def write(adata: ad.AnnData | Any, **options: Any) -> ad.AnnData:
        adata = adata if isinstance(adata, ad.AnnData) else ad.AnnData(adata)
        path = tmp_path / f"{len(opened)}.h5ad"
        adata.write_h5ad(path, **options)
        opened.append(ad.read_h5ad(path, backed="r"))
        return opened[-1]

    yield write
    for each in opened:
        each.file.close()


def dense(X: Any) -> np.ndarray:
    return np.asarray(X.toarray() if sp.issparse(X) else X)


FORMS: dict[str, Any] = {"sparse": sp.csr_matrix, "dense": np.asarray}


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("gap", [0, 5, 4096])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "rows",
    [[], [3], [0], [0, 6], [5, 6, 7], [39, 0, 39, 12, 0], list(range(1, N, 3)), list(range(N))[::-1]],
    ids=lambda rows: str(rows[:4]),
)
def test_rows_equal_those_in_memory(
    values: np.ndarray,
    backed: Backed,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    compression: Any,
    gap: int,
    rows: list[int],
) -> None:
    monkeypatch.setattr("pertcast.data._on_disk._GAP_VALUES", gap)
    X: Any = row_major(backed(FORMS[form](values), compression=compression).X)
    assert isinstance(X, RowsOnDisk)
    assert (X.shape, X.dtype, len(X), is_sparse(X)) == ((N, G), np.float32, N, form == "sparse")
    found = X[np.array(rows, dtype=int)]
    assert sp.issparse(found) is (form == "sparse")
    np.testing.assert_array_equal(dense(found), values[rows])
    padded = gather_rows(X, np.array([[*rows, -1]], dtype=int))
    np.testing.assert_array_equal(padded, np.r_[values[rows], np.zeros((1, G), dtype=np.float32)][None])


@pytest.mark.parametrize("form", FORMS)
def test_blocks_are_the_matrix(values: np.ndarray, backed: Backed, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pertcast.data._on_disk._BLOCK_VALUES", 9 * G)
    X: Any = row_major(backed(FORMS[form](values)).X)
    starts, blocks = zip(*X.blocks(), strict=True)
    assert starts == (0, 9, 18, 27, 36)
    found = [gather_rows(block, np.arange(block.shape[0])) for block in blocks]
    np.testing.assert_array_equal(np.vstack(found), values)
    assert is_nonnegative(X)
    values[-1, -1] = -0.5
    assert not is_nonnegative(row_major(backed(FORMS[form](values)).X))


@pytest.mark.parametrize("form", FORMS)
def test_another_process_opens_the_file_anew(
    values: np.ndarray, backed: Backed, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adata = backed(FORMS[form](values))
    X: Any = row_major(adata.X)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    before = X._X
    np.testing.assert_array_equal(gather_rows(X, np.array([2, 1])), values[[2, 1]])
    assert X._X is not before
    opened = X._X
    X[np.array([0])]
    assert X._X is opened  # once


def test_neighbours_are_read_together(values: np.ndarray, backed: Backed, monkeypatch: pytest.MonkeyPatch) -> None:
    X: Any = row_major(backed(sp.csr_matrix(values)).X)
    group, read = X._X.group, []

    class Counted:
        def __getitem__(self, name: str) -> Any:
            class Values:
                dtype = group[name].dtype

                def __getitem__(self, part: slice) -> Any:
                    read.append((name, part.stop - part.start))
                    return group[name][part]

            return Values()

    indptr = np.r_[0, np.cumsum((values > 0).sum(1))]
    rows = np.array([1, 2, 4, 20, 21])
    own = (values[rows] > 0).sum(1)
    for gap, lengths in (
        (0, [own[:2].sum(), own[2], own[3:].sum()]),
        (5, [own[:3].sum() + (values[3] > 0).sum(), own[3:].sum()]),
    ):
        read.clear()
        monkeypatch.setattr("pertcast.data._on_disk._GAP_VALUES", gap)
        found = _read_sparse_runs(Counted(), indptr, rows, G)
        np.testing.assert_array_equal(found.toarray(), values[rows])
        assert read == [(name, length) for name in ("data", "indices") for length in lengths]


@pytest.mark.parametrize("form", FORMS)
def test_sums_over_a_file_are_those_in_memory(
    values: np.ndarray, backed: Backed, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pertcast.data._pseudobulk._CHUNK_VALUES", 6 * G)
    order = np.random.default_rng(1).permutation(N)
    groups = RowGroups(order, start=np.array([0, 5, 3, 30, 12]), stop=np.array([9, 30, 4, 40, 12]))  # they overlap
    rows = [groups.rows(i) for i in range(4)]
    X: Any = row_major(backed(FORMS[form](values)).X)
    means, variances = population_moments(X, groups)
    np.testing.assert_allclose(means[:4], [values[r].mean(0, dtype=float) for r in rows], atol=1e-12)
    np.testing.assert_allclose(variances[:4], [values[r].astype(float).var(0) for r in rows], atol=1e-12)
    assert np.isnan(means[4]).all()
    in_order: list[int] = []
    read = RowsOnDisk.__getitem__

    def noted(self: RowsOnDisk, asked: np.ndarray) -> Any:
        in_order.extend(asked)
        return read(self, asked)

    monkeypatch.setattr(RowsOnDisk, "__getitem__", noted)
    population_moments(X, groups)
    assert in_order == sorted(in_order)  # one pass


def test_columns_in_a_file_are_refused(values: np.ndarray, backed: Backed) -> None:
    adata = backed(sp.csc_matrix(values))
    adata.obs["perturbation"] = ["control", "A"] * (N // 2)
    with pytest.raises(TypeError, match=r"adata\.X is in a file in CSC format.*tocsr"):
        pc.PerturbDiff.setup_anndata(adata)


@pytest.fixture
def screen() -> ad.AnnData:
    adata = pc.data.simulate_screen(20, n_genes=30, n_cell_types=3, n_perturbations=2, combinations=0, seed=0)
    adata.X = sp.csr_matrix(adata.X)
    return adata


@pytest.mark.parametrize(
    ("bad", "message"),
    [(np.nan, "holds 1 NaN or infinite values, the first in cell '{}', gene '{}'"), (3.0, "up to {2:g}")],
)
def test_values_in_a_file_are_checked(
    screen: ad.AnnData, backed: Backed, monkeypatch: pytest.MonkeyPatch, bad: float, message: str
) -> None:
    monkeypatch.setattr("pertcast.data._on_disk._BLOCK_VALUES", 50 * screen.n_vars)
    X = dense(screen.X)
    if np.isnan(bad):
        X[130, 4] = bad
    else:
        X = np.ceil(X) * bad
    screen.X = sp.csr_matrix(X)
    with pytest.raises(ValueError, match=message.format(screen.obs_names[130], screen.var_names[4], X.max())):
        pc.PerturbDiff.setup_anndata(backed(screen))


def test_a_file_without_expression_is_told(screen: ad.AnnData, backed: Backed) -> None:
    parts: dict[str, Any] = {"obs": screen.obs, "var": screen.var}
    adata = ad.AnnData(**parts, layers={"log": screen.X})
    on_disk = backed(adata)
    for each in (adata, on_disk):
        with pytest.raises(ValueError, match=r"adata\.X is empty.*`layer=\.\.\.`"):
            pc.PerturbDiff.setup_anndata(each)
    pc.PerturbDiff.setup_anndata(on_disk, layer="log")
    pc.baselines.NoEffect.setup_anndata(screen)
    model = pc.baselines.NoEffect(screen)
    model.train()
    for each in (adata, on_disk):
        with pytest.raises(ValueError, match=r"adata\.X is empty"):
            model.predict(each, ["pert_0"])


def test_a_view_of_a_file_is_refused(screen: ad.AnnData, backed: Backed) -> None:
    with pytest.raises(ValueError, match=r"is a view.*copy\(filename=\.\.\.\)"):
        pc.PerturbDiff.setup_anndata(backed(screen)[:50])


@pytest.mark.parametrize("form", FORMS)
def test_a_model_of_a_file_predicts_the_same(screen: ad.AnnData, backed: Backed, form: str, tmp_path: Path) -> None:
    screen.X = FORMS[form](dense(screen.X))
    file, predicted = backed(screen), []
    for adata in (screen, file):
        pc.PerturbDiff.setup_anndata(adata, cell_type_key="cell_type")
        model = pc.PerturbDiff(adata, seed=1)
        model.train(max_epochs=1, steps_per_epoch=2, accelerator="cpu", enable_progress_bar=False)
        predicted.append(model.predict(adata, progressbar=False))
    assert file.isbacked
    assert isinstance(model.screen.X, RowsOnDisk)
    assert sp.issparse(predicted[1].X) is (form == "sparse")
    for other in (file[(file.obs["perturbation"] == "control").to_numpy()], file[:, file.var_names[::-1].tolist()]):
        predicted.append(model.predict(other, progressbar=False))
    model.save(tmp_path / "model")
    predicted.append(pc.PerturbDiff.load(tmp_path / "model", adata=file).predict(progressbar=False))
    for each in predicted[1:]:
        pd.testing.assert_frame_equal(each.to_df(), predicted[0].to_df())


@pytest.mark.parametrize("form", FORMS)
def test_the_sign_of_a_file_is_checked(screen: ad.AnnData, backed: Backed, form: str) -> None:
    X = dense(screen.X)
    for least in (0.0, -0.5):
        X[130, 4] = least
        screen.X = FORMS[form](X)
        pc.PerturbDiff.setup_anndata(file := backed(screen))
        if least < 0:
            with pytest.raises(ValueError, match=r"the data go down to -0\.5"):
                pc.PerturbDiff(file, nonnegative=True)
        else:
            assert pc.PerturbDiff(file, nonnegative=True).module.nonnegative


def test_genes_in_another_order_are_read_from_the_file(screen: ad.AnnData, backed: Backed) -> None:
    pc.PerturbDiff.setup_anndata(screen, cell_type_key="cell_type")
    model = pc.PerturbDiff(screen, seed=1)
    model.train(max_epochs=1, steps_per_epoch=2, accelerator="cpu", enable_progress_bar=False)
    expected = model.predict(screen, progressbar=False)
    found = model.predict(backed(screen[:, ::-1].copy()), progressbar=False)
    pd.testing.assert_frame_equal(found.to_df(), expected.to_df())


def test_benchmarks_of_a_file_are_those_in_memory(
    screen: ad.AnnData, backed: Backed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    pc.pp.split(screen, "context", hold_out="type_0", cell_type_key="cell_type")
    in_memory, from_file = (
        pc.tl.benchmark(
            pc.baselines.LatentShift,
            adata,
            setup={"cell_type_key": "cell_type"},
            metrics=["energy_distance", "shift_pearson"],
            progressbar=False,
        )
        for adata in (screen, backed(screen))
    )
    pd.testing.assert_frame_equal(from_file, in_memory)
