from __future__ import annotations

from math import erfc
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from scipy.stats import mannwhitneyu

from pertcast.tl import _differential
from pertcast.tl._differential import DEResult, rank_genes

N, M, G = 40, 70, 30


@pytest.fixture
def populations() -> tuple[np.ndarray, np.ndarray]:
    """Log1p counts with many ties; the first third of the genes responds, and the last gene is silent."""
    rng = np.random.default_rng(0)
    rate = 0.3 + rng.gamma(1, size=G)
    factor = np.where(np.arange(G) < G // 3, 3.0, 1.0)
    x, y = np.log1p(rng.poisson(rate * factor, (N, G))), np.log1p(rng.poisson(rate, (M, G)))
    x[:, -1] = y[:, -1] = 0
    return x, y


def u_test(x: np.ndarray, y: np.ndarray) -> float:
    """The p value from its definition: pairs are counted, and the normal approximation is written out."""
    difference = x[:, None] - y[None]
    u = (difference > 0).sum() + (difference == 0).sum() / 2
    n, m = len(x), len(y)
    ties = np.unique(np.concatenate([x, y]), return_counts=True)[1].astype(float)
    variance = n * m / 12 * (n + m + 1 - (ties**3 - ties).sum() / ((n + m) * (n + m - 1)))
    z = (abs(u - n * m / 2) - 0.5) / np.sqrt(variance)
    return min(1.0, erfc(z / np.sqrt(2)))


def test_p_values_follow_the_definition_and_scipy(populations: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = populations
    found = rank_genes(x, y).p_value
    np.testing.assert_allclose(found[:-1], [u_test(x[:, g], y[:, g]) for g in range(G - 1)], rtol=1e-9)
    expected = [mannwhitneyu(x[:, g], y[:, g], method="asymptotic").pvalue for g in range(G - 1)]
    np.testing.assert_allclose(found[:-1], expected, rtol=1e-12)
    assert found[-1] == 1


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_array])
@pytest.mark.parametrize("block", [1, 4 * (N + M), 2**19])
def test_blocks_and_sparse_matrices_change_nothing(
    populations: tuple[np.ndarray, np.ndarray], kind: type, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rank_genes(*populations)
    monkeypatch.setattr(_differential, "_BLOCK_VALUES", block)
    found = rank_genes(*(kind(x) for x in populations))
    np.testing.assert_allclose(found.p_value, expected.p_value, rtol=1e-12)
    np.testing.assert_allclose(found.effect, expected.effect, rtol=1e-9)


def test_p_values_are_adjusted_as_benjamini_and_hochberg_do(populations: tuple[np.ndarray, np.ndarray]) -> None:
    found = rank_genes(*populations)
    order = np.argsort(found.p_value)
    scaled = found.p_value[order] * G / np.arange(1, G + 1)
    np.testing.assert_allclose(found.p_adjusted[order], np.minimum.accumulate(scaled[::-1])[::-1], rtol=1e-12)


@pytest.mark.slow
def test_fold_change_agrees_with_scanpy(populations: tuple[np.ndarray, np.ndarray]) -> None:
    obs = pd.DataFrame({"is": ["p"] * N + ["c"] * M}, index=[str(i) for i in range(N + M)])
    adata = ad.AnnData(np.vstack(populations), obs=obs, uns={"log1p": {"base": None}})
    with np.errstate(invalid="ignore"):
        sc.tl.rank_genes_groups(adata, "is", groups=["p"], reference="c", method="t-test")
    groups = adata.uns["rank_genes_groups"]
    expected = pd.Series(groups["logfoldchanges"]["p"], index=groups["names"]["p"])[adata.var_names]
    np.testing.assert_allclose(rank_genes(*populations).effect, expected, rtol=1e-5, atol=1e-6)


def test_responding_genes_are_found_and_the_others_are_not(populations: tuple[np.ndarray, np.ndarray]) -> None:
    rng = np.random.default_rng(3)
    rate = np.repeat([2.0, 6.0], [90, 10])
    found = rank_genes(np.log1p(rng.poisson(rate, (100, 100))), np.log1p(rng.poisson(2, (100, 100))))
    assert found.significant()[90:].all()
    assert found.significant()[:90].sum() <= 3
    assert (found.effect[90:] > 1).all()


def test_p_values_are_uniform_without_an_effect() -> None:
    rng = np.random.default_rng(4)
    found = rank_genes(rng.normal(size=(80, 2_000)), rng.normal(size=(120, 2_000)), effect="mean_difference")
    assert np.mean(found.p_value < 0.1) == pytest.approx(0.1, abs=0.02)
    assert found.significant().sum() <= 2


def test_effects() -> None:
    x, y = np.log1p([[4.0, 0.0, 1.0], [4.0, 0.0, 1.0]]), np.log1p([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    np.testing.assert_allclose(rank_genes(x, y).effect, [2, -np.log2(1e9), np.log2(1e9)], rtol=1e-6)
    np.testing.assert_allclose(rank_genes(x, y, pseudocount=1.0).effect, [np.log2(5 / 2), -1, 1], rtol=1e-12)
    np.testing.assert_allclose(rank_genes(-x, y, effect="mean_difference").effect, (-x - y).mean(0), rtol=1e-12)
    below = rank_genes(x - 0.5, y, pseudocount=1.0).effect
    assert below[1] == pytest.approx(-1)  # a predicted mean below 0 counts as 0


def test_swapping_the_populations_turns_the_effects_round(populations: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = populations
    there, back = rank_genes(x, y), rank_genes(y, x)
    np.testing.assert_allclose(there.p_value, back.p_value, rtol=1e-9)
    np.testing.assert_allclose(there.effect, -back.effect, rtol=1e-9)


def test_table_is_sorted() -> None:
    result = DEResult(np.array([0.3, 0.01, 0.3]), np.array([0.3, 0.03, 0.3]), np.array([0.5, -2.0, -0.7]))
    table = result.to_frame(["a", "b", "c"])
    assert list(table.index) == ["b", "c", "a"]
    assert table.loc["c"].to_dict() == {"p_value": 0.3, "p_adjusted": 0.3, "effect": -0.7}


def test_errors(populations: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = populations
    with pytest.raises(ValueError, match="`cells` and `control` must hold the same genes"):
        rank_genes(x[:, 1:], y)
    with pytest.raises(ValueError, match=r"`control` holds -1, .* Use effect='mean_difference'"):
        rank_genes(x, y - 1)
    with pytest.raises(ValueError, match="`effect` must be 'log2_fold_change' or 'mean_difference', but found 'lfc'"):
        rank_genes(x, y, effect="lfc")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`pseudocount` must be above 0, but found 0"):
        rank_genes(x, y, pseudocount=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"p_value": [0.5, 1.5]}, r"`p_value` of gene 1 is 1\.5; expected 0 to 1"),
        ({"p_adjusted": [np.nan, 0.5]}, "`p_adjusted` of gene 0 is nan; expected 0 to 1"),
        ({"effect": [np.nan, 0.5]}, "`effect` of gene 0 is nan; expected a number"),
        ({"p_value": [0.5]}, r"the shapes of `p_value` and `effect` are \(1,\) and \(2,\)"),
    ],
)
def test_results_of_other_tools_are_checked(values: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"p_value": [0.1, 0.2], "p_adjusted": [0.2, 0.2], "effect": [np.inf, -1.0]}
    assert DEResult(**good).effect.dtype == np.float64
    with pytest.raises(ValueError, match=message):
        DEResult(**{**good, **values})
