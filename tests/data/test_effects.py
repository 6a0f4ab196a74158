"""Vectors from outcomes, on populations whose distances are known."""

from __future__ import annotations

import logging
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr

import pertcast as pc

SHIFTS = np.array([[0, 4], [0, 8], [3, 0], [9, 0], [6, 6]], dtype=float)
NAMES = ["a", "b", "c", "d", "e"]


@pytest.fixture
def screen() -> Any:
    rng = np.random.default_rng(0)
    centres = np.concatenate([np.zeros((1, 2)), SHIFTS])
    X = np.zeros((6 * 60, 12), dtype=np.float32)
    X[:, :2] = np.repeat(centres, 60, axis=0)
    X += 0.05 * rng.normal(size=X.shape).astype(np.float32)
    labels = np.repeat(["control", *NAMES], 60)
    obs = pd.DataFrame({"perturbation": labels, "split": "train"}, index=[f"c{i}" for i in range(360)])
    return ad.AnnData(X, obs=obs)


def embed(adata: Any, **options: Any) -> pd.DataFrame:
    defaults: dict[str, Any] = {"split_key": "split", "n_components": 2}
    return pc.data.effect_embedding(adata, **defaults | options)


def test_distances_are_those_of_the_populations(screen: Any) -> None:
    table = embed(screen)
    assert list(table.index) == NAMES
    found, expected = pdist(table.to_numpy()), pdist(SHIFTS)
    np.testing.assert_allclose(found, expected, rtol=0.05)
    assert table.attrs["oracle"] is False
    assert table.attrs["stress"] < 0.01


def test_cells_that_are_not_for_training_change_nothing(screen: Any, caplog: pytest.LogCaptureFixture) -> None:
    held = (screen.obs["perturbation"] == "e").to_numpy()
    screen.obs.loc[held, "split"] = "test"
    some = np.flatnonzero((screen.obs["perturbation"] == "a").to_numpy())[:20]
    screen.obs.iloc[some, screen.obs.columns.get_loc("split")] = "validation"
    with caplog.at_level(logging.WARNING):
        before = embed(screen)
    assert "'e'" in caplog.text
    assert list(before.index) == NAMES[:4]
    changed = screen.copy()
    changed.X[held] += 50
    changed.X[some] -= 50
    pd.testing.assert_frame_equal(embed(changed), before)


def test_an_oracle_says_that_it_is_one(screen: Any, caplog: pytest.LogCaptureFixture) -> None:
    screen.obs.loc[screen.obs["perturbation"] == "e", "split"] = "test"
    with caplog.at_level(logging.WARNING):
        table = embed(screen, split_key=None, oracle=True)
    assert "no forecasts" in caplog.text
    assert list(table.index) == NAMES
    assert table.attrs["oracle"] is True
    assert pearsonr(pdist(table.to_numpy()), pdist(SHIFTS))[0] > 0.99


@pytest.mark.parametrize("options", [{"split_key": None}, {"oracle": True}])
def test_held_out_cells_are_never_used_by_accident(screen: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="computed from outcomes"):
        embed(screen, **options)


def test_a_model_refuses_the_perturbations_that_have_no_vector(screen: Any) -> None:
    screen.obs.loc[screen.obs["perturbation"] == "e", "split"] = "test"
    screen.uns["effects"] = embed(screen)
    with pytest.raises(ValueError, match="has no vector for 1 perturbation.*'e'"):
        pc.ConditionalMonge.setup_anndata(screen, perturbation_embedding_key="effects", split_key="split")
    rest = screen[(screen.obs["split"] == "train").to_numpy()].copy()
    pc.ConditionalMonge.setup_anndata(rest, perturbation_embedding_key="effects", split_key="split")


def test_space_draws_and_combinations(screen: Any) -> None:
    screen.obsm["X_two"] = np.asarray(screen.X[:, :2])
    labels = screen.obs["perturbation"].to_numpy().astype(object)
    labels[labels == "d"] = "c+a"
    screen.obs["perturbation"] = labels
    table = embed(screen, use_rep="X_two", n_cells=30, epsilon=0.05)
    assert list(table.index) == ["a", "b", "c", "e"]
    np.testing.assert_allclose(pdist(table.to_numpy()), pdist(SHIFTS[[0, 1, 2, 4]]), rtol=0.05)
    pd.testing.assert_frame_equal(table, embed(screen, use_rep="X_two", n_cells=30, epsilon=0.05))


def test_bad_arguments(screen: Any) -> None:
    with pytest.raises(KeyError, match="'drug' not found"):
        embed(screen, perturbation_key="drug")
    with pytest.raises(KeyError, match="'X_pca' not found"):
        embed(screen, use_rep="X_pca")
    with pytest.raises(ValueError, match="distances need three"):
        embed(screen, min_cells=100)


def test_expression_is_checked_as_elsewhere(screen: Any) -> None:
    counts = screen.copy()
    counts.layers["counts"] = np.abs(np.round(20 * screen.X))
    with pytest.raises(ValueError, match=r"adata\.layers\['counts'\] looks like raw counts"):
        embed(counts, layer="counts")
    with pytest.raises(KeyError, match=r"No layer 'count' in adata\.layers.*'counts'.*Did you mean 'counts'\?"):
        embed(counts, layer="count")
    with pytest.raises(KeyError, match=r"No layer 'count' in adata\.layers, which holds nothing"):
        embed(screen, layer="count")
    missing = screen.copy()
    missing.X[-1, 0] = np.nan
    with pytest.raises(ValueError, match=r"adata\.X holds 1 NaN or infinite values, the first in cell 'c359'"):
        embed(missing)
    missing.obs.loc["c359", "split"] = "test"
    assert list(embed(missing).index) == NAMES  # cells that are not read are not checked
    with pytest.raises(ValueError, match=r"adata\.X is empty"):
        embed(ad.AnnData(obs=screen.obs, var=screen.var))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_components": 0}, ValueError, "`n_components` must be at least 1, but found 0"),
        ({"n_cells": 0}, ValueError, "`n_cells` must be at least 1, but found 0"),
        ({"n_cells": 2.5}, TypeError, "`n_cells` must be a whole number, but found 2.5"),
        ({"min_cells": 0}, ValueError, "`min_cells` must be at least 1, but found 0"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0, but found -1"),
        ({"epsilon": 0}, ValueError, "`epsilon` must be above 0, but found 0"),
    ],
)
def test_bad_numbers(screen: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        embed(screen, **options)
