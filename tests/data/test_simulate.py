"""Counts, layout, seeds and files of simulated screens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse, stats

from pertcast.data import simulate_population, simulate_screen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

LIBRARY_SD = 0.35
# Every cell of a population has the same rates, and a condition responds alike everywhere.
PLAIN: dict[str, Any] = {"state_sd": 0.0, "latent_sd": 0.0, "donor_sd": 0.0, "n_donors": 1, "n_batches": 1}
# The types of AnnData's attributes are too wide to test against.
make_screen: Callable[..., Any] = simulate_screen
draw: Callable[..., Any] = simulate_population


@pytest.fixture(scope="module")
def screen() -> Any:
    """All sources of variation on."""
    return make_screen(
        6, n_genes=80, n_cell_types=2, n_donors=2, n_perturbations=3, combinations=1, dosages=(0.5, 2.0), seed=3
    )


def dense(adata: Any) -> NDArray[np.float64]:
    return adata.layers["counts"].toarray().astype(float)


def select(adata: Any, **condition: object) -> NDArray[np.intp]:
    """Rows of the table of populations."""
    table = adata.uns["simulation"]["populations"]
    return np.flatnonzero(np.logical_and.reduce([table[name] == value for name, value in condition.items()]))


def assert_identical(a: Any, b: Any) -> None:
    """Equal values in nested dictionaries, tables and arrays, also after a round trip through a file."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_identical(a[key], b[key])
    elif isinstance(a, pd.DataFrame):
        pd.testing.assert_frame_equal(a, b, check_exact=True)
    else:
        assert np.array_equal(a, b)


def assert_same_mean(counts: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    """No gene mean may lie further from its expectation than Monte Carlo error allows."""
    error = counts.std(axis=0) / np.sqrt(len(counts))
    seen = expected * len(counts) > 50
    assert seen.sum() > 10
    assert np.abs((counts.mean(axis=0) - expected) / error)[seen].max() < 4.5


def test_layout() -> None:
    adata = make_screen(
        5, n_genes=50, n_cell_types=2, n_donors=3, n_batches=2, n_perturbations=3, combinations=2, dosages=(1, 4)
    )
    n_populations = (1 + (3 + 2) * 2) * 2 * 3
    assert adata.shape == (n_populations * 5, 50)
    assert list(adata.obs) == ["perturbation", "cell_type", "donor", "batch", "dosage", "n_counts"]
    assert all(adata.obs[name].dtype == "category" for name in ("perturbation", "cell_type", "donor", "batch"))
    assert adata.obs["dosage"].dtype == np.float64
    assert adata.obs_names.is_unique
    assert list(adata.var_names[[0, 49]]) == ["gene_0000", "gene_0049"]
    assert ((adata.obs["perturbation"] == "control") == (adata.obs["dosage"] == 0)).all()
    assert adata.obs.groupby(["perturbation", "dosage", "cell_type", "donor"], observed=True).size().eq(5).all()
    assert abs(adata.obs["batch"].value_counts().diff().iloc[1]) == 0  # 66 populations of 5: the extra cell alternates
    names = set(adata.obs["perturbation"])
    assert {"control", "pert_0", "pert_1", "pert_2"} < names
    assert len([name for name in names if name.count("+") == 1]) == 2
    assert np.array_equal(adata.obs["n_counts"], dense(adata).sum(axis=1))
    table = adata.uns["simulation"]["populations"]
    labels = adata.obs[["perturbation", "dosage", "cell_type", "donor"]].astype({"dosage": float})
    repeated = table.iloc[np.repeat(np.arange(n_populations), 5)]
    for name in labels:
        assert list(labels[name]) == list(repeated[name])


def test_matrices_are_sparse_and_typed(screen: Any) -> None:
    counts = screen.layers["counts"]
    assert sparse.issparse(screen.X)
    assert screen.X.format == counts.format == "csr"
    assert screen.X.dtype == np.float32
    assert counts.dtype == np.int32
    assert counts.data.min() > 0  # no stored zeros
    assert not np.shares_memory(screen.X.indices, counts.indices)


def test_normalisation_is_that_of_scanpy(screen: Any) -> None:
    other: Any = anndata.AnnData(screen.layers["counts"].astype(np.float32))
    sc.pp.normalize_total(other, target_sum=1e4)
    sc.pp.log1p(other)
    np.testing.assert_allclose(screen.X.toarray(), other.X.toarray(), rtol=2e-6)


def test_empty_cells_stay_zero() -> None:
    adata = make_screen(5, n_genes=20, n_perturbations=1, combinations=0, median_counts=0.5)
    empty = (adata.obs["n_counts"] == 0).to_numpy()
    assert empty.any()
    assert adata.X[empty].nnz == 0
    assert np.isfinite(adata.X.data).all()


def test_programme_of_a_gene(screen: Any) -> None:
    truth = screen.uns["simulation"]
    loadings = pd.DataFrame(np.abs(truth["loadings"]), index=truth["programmes"].index, columns=truth["genes"])
    for gene, row in screen.var.iterrows():
        if row["programme"] == "none":
            assert loadings[gene].max() == 0
            assert row["programme_role"] == "none"
        else:
            assert loadings.loc[row["programme"], gene] == loadings[gene].max() > 0
            assert row["programme_role"] == truth["programmes"].loc[row["programme"], "role"]


def test_default_sparsity_and_depth() -> None:
    for seed in range(2):
        adata = make_screen(4, seed=seed)
        assert 0.7 < 1 - adata.layers["counts"].nnz / np.prod(adata.shape) < 0.9
        control = adata.obs.loc[adata.obs["perturbation"] == "control", "n_counts"]
        np.testing.assert_allclose(control.median(), 1000, rtol=0.15)


@pytest.mark.parametrize(
    ("perturbation", "dosage", "donor"),
    [("control", 0.0, "donor_0"), ("pert_1", 2.0, "donor_1"), ("pert_0+pert_1", 2.0, "donor_1")],
)
def test_mean_counts_are_library_times_expected_rates(perturbation: str, dosage: float, donor: str) -> None:
    n = 4000
    kwargs: dict[str, Any] = {"n_genes": 60, "n_cell_types": 1, "n_donors": 2, "n_perturbations": 2}
    adata = make_screen(
        n, combinations=True, dosages=(2.0,), state_sd=0.8, batch_sd=0.3, effect_size=1.5, seed=11, **kwargs
    )
    condition = {"perturbation": perturbation, "dosage": dosage, "donor": donor}
    rates = adata.uns["simulation"]["rates"][select(adata, **condition)[0]]
    library = 1000 * np.exp(LIBRARY_SD**2 / 2)
    cells = np.logical_and.reduce([adata.obs[name] == value for name, value in condition.items()])
    assert_same_mean(dense(adata[cells]), library * rates)

    fresh = {"perturbation": perturbation, "cell_type": "type_0", "donor": donor, "n_cells": n}
    assert_same_mean(dense(draw(adata, **fresh, seed=5)), library * rates)
    one_batch = draw(adata, **fresh, batch="batch_1", seed=5)
    assert set(one_batch.obs["batch"]) == {"batch_1"}
    assert_same_mean(dense(one_batch), library * rates * np.exp(adata.uns["simulation"]["batch_offsets"][1]))


@pytest.mark.parametrize("dispersion", [0.0, 0.5])
def test_variance_and_zeros_are_negative_binomial(dispersion: float) -> None:
    adata = make_screen(
        1, n_genes=40, n_perturbations=1, combinations=0, dispersion=dispersion, median_counts=200, **PLAIN
    )
    cells = draw(adata, perturbation="pert_0", cell_type="type_1", n_cells=20_000, seed=2)
    rates = adata.uns["simulation"]["rates"][select(adata, perturbation="pert_0", cell_type="type_1")[0]]
    phi = adata.uns["simulation"]["dispersion"]
    assert np.allclose(np.median(phi), dispersion, rtol=0.2)

    # Moments over a log-normal library: var = E[mu + phi mu^2] + Var(mu).
    mean = 200 * np.exp(LIBRARY_SD**2 / 2) * rates
    cv2 = np.expm1(LIBRARY_SD**2)
    variance = mean + phi * mean**2 * (1 + cv2) + cv2 * mean**2
    often = mean > 0.5
    assert often.sum() > 10
    np.testing.assert_allclose(dense(cells).var(axis=0)[often], variance[often], rtol=0.12)

    libraries = 200 * np.exp(LIBRARY_SD * stats.norm.ppf((np.arange(500) + 0.5) / 500))
    mu = libraries[:, None] * rates
    zeros = np.exp(-mu) if dispersion == 0 else stats.nbinom.pmf(0, 1 / phi, 1 / (1 + phi * mu))
    np.testing.assert_allclose((dense(cells) == 0).mean(axis=0), zeros.mean(axis=0), atol=0.016)


def test_state_makes_genes_correlate_as_their_loadings_say() -> None:
    adata = make_screen(
        1,
        n_genes=100,
        n_perturbations=1,
        combinations=0,
        dispersion=0,
        median_counts=1e8,
        **(PLAIN | {"state_sd": 0.7}),
    )
    cells = draw(adata, perturbation="control", cell_type="type_0", n_cells=4000)
    truth = adata.uns["simulation"]
    varying = truth["programmes"]["role"].isin(["state", "receptor"]).to_numpy()
    loadings = truth["loadings"][varying]
    high = truth["rates"][0] > 1e-5  # Poisson noise of log counts below 1e-3
    observed = np.cov(np.log(dense(cells)[:, high]), rowvar=False)
    expected = (0.7**2 * loadings.T @ loadings + LIBRARY_SD**2)[np.ix_(high, high)]
    np.testing.assert_allclose(observed, expected, atol=0.05)


def test_expected_rates_of_control_sum_to_one(screen: Any) -> None:
    rates = screen.uns["simulation"]["rates"][select(screen, perturbation="control")]
    np.testing.assert_allclose(rates.sum(axis=1), 1, rtol=1e-12)


def test_donors_and_batches_differ_by_the_stated_sd() -> None:
    adata = make_screen(
        1, n_genes=1000, n_donors=2, n_cell_types=1, n_perturbations=1, combinations=0, donor_sd=0.3, batch_sd=0.2
    )
    truth = adata.uns["simulation"]
    control = np.log(truth["rates"][select(adata, perturbation="control")])
    unloaded = ~(truth["loadings"] != 0).any(axis=0)
    np.testing.assert_allclose((control[1] - control[0])[unloaded].std(), 0.3 * np.sqrt(2), rtol=0.1)
    np.testing.assert_allclose(np.diff(truth["batch_offsets"], axis=0).std(), 0.2 * np.sqrt(2), rtol=0.1)


def test_receptors_of_donors_differ_by_twice_the_sd() -> None:
    adata = make_screen(
        1, n_genes=20, n_donors=300, n_cell_types=1, n_perturbations=1, combinations=0, donor_sd=0.3, n_batches=1
    )
    receptor = adata.uns["simulation"]["donor_receptor"]
    assert receptor.shape == (300,)
    np.testing.assert_allclose(receptor.std(), 0.6, rtol=0.15)


def test_batch_effects_average_to_one(screen: Any) -> None:
    offsets = screen.uns["simulation"]["batch_offsets"]
    assert offsets.std() > 0
    np.testing.assert_allclose(np.exp(offsets).mean(axis=0), 1, rtol=1e-12)


def test_same_seed_same_bytes() -> None:
    first, second, other = (make_screen(3, n_genes=50, n_perturbations=2, combinations=1, seed=s) for s in (7, 7, 8))
    for a, b in ((first.X, second.X), (first.layers["counts"], second.layers["counts"])):
        assert a.data.tobytes() == b.data.tobytes()
        assert a.indices.tobytes() == b.indices.tobytes()
    assert first.obs.equals(second.obs)
    assert not np.array_equal(dense(first), dense(other))
    assert_identical(first.uns, second.uns)


def test_parts_of_the_model_have_their_own_seeds() -> None:
    kwargs: dict[str, Any] = {"n_genes": 50, "n_perturbations": 3, "combinations": 1}
    truth = make_screen(2, **kwargs).uns["simulation"]
    more_cells = make_screen(9, **kwargs).uns["simulation"]
    assert np.array_equal(truth["rates"], more_cells["rates"])
    more_donors = make_screen(2, n_donors=5, **kwargs).uns["simulation"]
    for name in ("loadings", "baseline", "effects", "basal"):
        assert np.array_equal(truth[name], more_donors[name])
    assert np.array_equal(truth["donor_offsets"], more_donors["donor_offsets"][:3])
    more = make_screen(2, **(kwargs | {"n_perturbations": 5})).uns["simulation"]
    assert truth["perturbations"].equals(more["perturbations"].iloc[:3])
    n_shared = (truth["programmes"]["role"] != "private").sum()
    assert np.array_equal(truth["loadings"], more["loadings"][: n_shared + 3])
    pairs = [
        set(make_screen(1, n_genes=20, n_perturbations=4, combinations=n).obs["perturbation"]) for n in (0, 2, 4, 6)
    ]
    assert pairs[0] < pairs[1] < pairs[2] < pairs[3]


def test_default_number_of_pairs_is_four_where_there_are_so_many() -> None:
    for n_perturbations, n_pairs in ((1, 0), (2, 1), (3, 3), (4, 4), (6, 4)):
        names = set(make_screen(1, n_genes=20, n_perturbations=n_perturbations).obs["perturbation"])
        assert sum("+" in name for name in names) == n_pairs
    with pytest.raises(ValueError, match="2 perturbations have 1 pairs"):
        make_screen(1, n_genes=20, n_perturbations=2, combinations=4)


def test_round_trip_through_h5ad(screen: Any, tmp_path: Path) -> None:
    screen.write_h5ad(tmp_path / "screen.h5ad")
    back = anndata.read_h5ad(tmp_path / "screen.h5ad")
    assert_identical(screen.uns, back.uns)
    assert_identical(screen.obs, back.obs)
    assert_identical(screen.var, back.var)
    assert (screen.X != back.X).nnz == 0
    assert np.array_equal(dense(screen), dense(back))
    for perturbation in ("pert_1+pert_0", "pert_2+pert_1"):
        condition: dict[str, Any] = {"perturbation": perturbation, "cell_type": "type_1", "dosage": 0.5}
        new, old = draw(back, **condition), draw(screen, **condition)
        assert_identical(new.obs, old.obs)
        assert np.array_equal(dense(new), dense(old))


def test_the_truth_holds_only_what_h5ad_keeps(screen: Any) -> None:
    truth = screen.uns["simulation"]
    for mapping in (truth, truth["parameters"]):
        for key, value in mapping.items():
            assert isinstance(key, str)
            assert "/" not in key
            assert isinstance(value, (np.ndarray, pd.DataFrame, str, int, float, dict)), key


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"n_cells_per_condition": 0}, ValueError, "`n_cells_per_condition` must be at least 1, but found 0"),
        ({"n_genes": 19}, ValueError, "at least 20"),
        ({"n_donors": 2.0}, TypeError, "`n_donors` must be a whole number, but found 2.0"),
        ({"n_batches": True}, TypeError, "`n_batches` must be a whole number, but found True"),
        ({"n_programmes": 0}, ValueError, "`n_programmes` must be at least 1, but found 0"),
        ({"combinations": 16}, ValueError, "combinations=16, but 6 perturbations have 15 pairs"),
        ({"combinations": -1}, ValueError, "`combinations` must be at least 0, but found -1"),
        ({"dosages": ()}, ValueError, "at least one dosage"),
        ({"dosages": (1, 1)}, ValueError, "all different"),
        ({"dosages": (0, 1)}, ValueError, "dosages=0 is out of range; expected a finite number above 0"),
        ({"dosages": 1.0}, TypeError, "expected a sequence of positive numbers"),
        ({"effect_size": -1}, ValueError, "effect_size=-1"),
        ({"effect_size": "big"}, TypeError, "effect_size='big' is str"),
        ({"effect_size": 40}, ValueError, "Lower effect_size"),
        ({"latent_sd": np.nan}, ValueError, "latent_sd=nan"),
        ({"interaction": 1.5}, ValueError, "at most 1"),
        ({"median_counts": 0}, ValueError, "median_counts=0"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0, but found -1"),
    ],
)
def test_bad_screens_are_refused(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_screen(**({"n_cells_per_condition": 1, "n_genes": 40} | kwargs))
