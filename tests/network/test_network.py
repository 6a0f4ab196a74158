from __future__ import annotations

import functools
import inspect
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import pertcast as pc


def edges_of(table: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(table["source"], table["target"], strict=True))


def data(n: int = 80, n_genes: int = 12, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)) @ rng.normal(size=(3, n_genes)) + rng.normal(size=(n, n_genes))
    return np.maximum(x, 0), [f"g{i}" for i in range(n_genes)]


def test_coexpression_is_the_strongest_correlations() -> None:
    x, genes = data()
    r = np.corrcoef(x.T)
    np.fill_diagonal(r, 0)
    expected = {(genes[i], genes[j]) for i in range(12) for j in np.argsort(-np.abs(r[i]))[:3] if abs(r[i, j]) >= 0.1}
    table = pc.network.coexpression(x, genes, n_edges=3)
    assert edges_of(table) == expected
    weights = [r[genes.index(a), genes.index(b)] for a, b in zip(table["source"], table["target"], strict=True)]
    np.testing.assert_allclose(table["weight"], weights, atol=1e-12)


def test_coexpression_in_blocks_sparse_and_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    x, genes = data()
    whole = pc.network.coexpression(x, genes, n_edges=3)
    monkeypatch.setattr("pertcast.network._coexpression._BLOCK_VALUES", 30)
    order = np.random.default_rng(1).permutation(12)
    parts = pc.network.coexpression(sp.csr_matrix(x[:, order]), [genes[i] for i in order], n_edges=3)
    pd.testing.assert_frame_equal(parts, whole)


def test_coexpression_within_groups_ignores_their_means() -> None:
    """Two groups with far means make all genes alike; within them the genes are as before."""
    x, genes = data()
    groups = np.repeat([0, 1], 40)
    centred = x - np.stack([x[groups == k].mean(0) for k in (0, 1)])[groups]
    r = np.corrcoef(centred.T)
    shifted = x + 50.0 * groups[:, None]
    table = pc.network.coexpression(shifted, genes, n_edges=2, groups=groups)
    weights = [r[genes.index(a), genes.index(b)] for a, b in zip(table["source"], table["target"], strict=True)]
    np.testing.assert_allclose(table["weight"], weights, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_genes_have_no_edges(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        x: np.ndarray = rng.normal(10, 1, size=(60, 6)).astype(dtype)
        x[:, 2:] = rng.uniform(5, 200, size=4)
        x[:, 1] += x[:, 0]
        table = pc.network.coexpression(x, list("ABCDEF"), groups=rng.integers(3, size=60))
        assert edges_of(table) == {("A", "B"), ("B", "A")}
        assert table["weight"].abs().max() <= 1


def test_coexpression_without_edges() -> None:
    with pytest.raises(ValueError, match="No two genes have an absolute correlation of 0.1 or more"):
        pc.network.coexpression(np.eye(3)[:, :1].repeat(2, 1) * 0 + 1.0, ["a", "b"])
    with pytest.raises(ValueError, match="at least 3 cells"):
        pc.network.coexpression(np.ones((2, 2)), ["a", "b"])


def test_index_follows_the_names() -> None:
    edges = pc.network.read_edges(pd.DataFrame({"source": ["A", "B", "C"], "target": ["B", "C", "X"]}))
    for genes in (["A", "B", "C"], ["C", "A", "B"]):
        index = pc.network.index_edges(edges, genes)
        assert {(genes[a], genes[b]) for a, b in index.T} == {("A", "B"), ("B", "C")}
    with pytest.raises(ValueError, match="None of the 3 edges.*'A'.*'ENSG1'"):
        pc.network.index_edges(edges, ["ENSG1", "ENSG2"])


def test_duplicates_keep_the_strongest_weight() -> None:
    table = pd.DataFrame({"source": ["A", "A"], "target": ["B", "B"], "weight": [0.5, -2.0], "other": [1, 2]})
    assert pc.network.read_edges(table).values.tolist() == [["A", "B", -2.0]]


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ([("A", "B")], TypeError, "found a list"),
        (pd.DataFrame({"source": ["A"]}), ValueError, "no column 'target'"),
        (pd.DataFrame({"source": ["A", None], "target": ["B", "C"]}), ValueError, "1 edges .* no name in 'source'"),
        (pd.DataFrame({"source": ["A"], "target": ["B"], "weight": ["much"]}), ValueError, "found 'much'"),
        (pd.DataFrame({"source": ["A"], "target": ["A"]}), ValueError, "no edge between two genes"),
    ],
)
def test_bad_tables(table: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pc.network.read_edges(table)


def test_shuffling_keeps_the_graph_and_moves_the_genes() -> None:
    x, genes = data(n_genes=30)
    table = pc.network.coexpression(x, genes, n_edges=3)
    shuffled = pc.network.shuffle_edges(table, seed=3)
    for end in ("source", "target"):
        assert sorted(table[end].value_counts()) == sorted(shuffled[end].value_counts())
    np.testing.assert_allclose(np.sort(table["weight"]), np.sort(shuffled["weight"]))
    assert {*shuffled["source"], *shuffled["target"]} == {*table["source"], *table["target"]}
    assert len(edges_of(table) & edges_of(shuffled)) < len(table) / 2
    pd.testing.assert_frame_equal(shuffled, pc.network.shuffle_edges(table, seed=3))
    assert edges_of(shuffled) != edges_of(pc.network.shuffle_edges(table, seed=4))


def test_databases_need_decoupler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decoupler", None)
    with pytest.raises(ImportError, match="pip install decoupler"):
        pc.network.load_database("collectri")
    with pytest.raises(ValueError, match="Unknown network 'string'"):
        pc.network.load_database("string")  # type: ignore[arg-type]
    table = pd.DataFrame({"source": ["TP53"], "target": ["MDM2"], "weight": [1.0], "sign_decision": ["PMID"]})
    fake = SimpleNamespace(op=SimpleNamespace(dorothea=lambda organism: table.assign(target=f"MDM2 {organism}")))
    monkeypatch.setitem(sys.modules, "decoupler", fake)
    found = pc.network.load_database("dorothea", organism="mouse")
    assert found.values.tolist() == [["TP53", "MDM2 mouse", 1.0]]


@pytest.mark.parametrize("name", ["collectri", "dorothea"])
def test_decoupler_has_what_is_asked_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function exists, takes the organism, and asks for that organism's table."""
    import decoupler

    function = getattr(decoupler.op, name)
    assert "organism" in inspect.signature(function).parameters
    table = decoupler.ds.toy(verbose=False)[1]

    @functools.wraps(function)
    def offline(*args: Any, **kwargs: Any) -> pd.DataFrame:
        bound = inspect.signature(function).bind(*args, **kwargs)
        assert bound.arguments["organism"] == "human"
        return table

    monkeypatch.setattr(decoupler.op, name, offline)
    found = pc.network.load_database(name)  # type: ignore[arg-type]
    columns = ["source", "target", "weight"]
    assert {tuple(row) for row in found[columns].to_numpy()} == {tuple(row) for row in table[columns].to_numpy()}


@pytest.mark.internet
def test_download_of_a_database() -> None:
    found = pc.network.load_database("collectri")
    assert len(found) > 10_000
    assert ("MYC", "TERT") in edges_of(found)
