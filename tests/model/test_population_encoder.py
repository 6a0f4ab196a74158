"""Embeddings of populations against Gaussians, whose 2-Wasserstein distances and geodesics are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import torch
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr

import pertcast as pc

from .conftest import QUICK

if TYPE_CHECKING:
    from pathlib import Path

N_POPULATIONS, N_CELLS, N_GENES = 16, 120, 6


class Case(NamedTuple):
    """A trained model, what it was trained on, and the embeddings in the order of the populations."""

    model: Any
    adata: Any
    mean: np.ndarray
    cov: np.ndarray
    embedding: pd.DataFrame

    @property
    def distances(self) -> np.ndarray:
        return pdist(self.embedding.to_numpy())

    @property
    def wasserstein(self) -> np.ndarray:
        """Closed form: squared distance of means, and Bures distance of covariances."""
        values = []
        for i in range(len(self.mean)):
            root = scipy.linalg.sqrtm(self.cov[i]).real
            for j in range(i + 1, len(self.mean)):
                cross = scipy.linalg.sqrtm(root @ self.cov[j] @ root).real
                bures = np.trace(self.cov[i] + self.cov[j] - 2 * cross)
                values.append(np.sqrt(((self.mean[i] - self.mean[j]) ** 2).sum() + max(bures, 0)))
        return np.array(values)


def gaussians(mean: np.ndarray, cov: np.ndarray, n_cells: int = N_CELLS) -> Any:
    rng = np.random.default_rng(1)
    X = np.concatenate([rng.multivariate_normal(m, c, n_cells) for m, c in zip(mean, cov, strict=True)])
    names = ["control", *(f"p{i:02d}" for i in range(1, len(mean)))]
    obs = pd.DataFrame({"perturbation": np.repeat(names, n_cells)}, index=[f"c{i}" for i in range(len(X))])
    return ad.AnnData(X.astype(np.float32), obs=obs)


def fit(mean: np.ndarray, cov: np.ndarray, *, n_epochs: int = 4, n_cells: int = N_CELLS, **options: Any) -> Case:
    adata = gaussians(mean, cov, n_cells)
    pc.PopulationEncoder.setup_anndata(adata)
    model = pc.PopulationEncoder(adata, **{"n_hidden": 32, "n_embedding": 16, "seed": 0} | options)
    model.train(max_epochs=n_epochs, steps_per_epoch=50, validation_size=0, **QUICK)
    return Case(model, adata, mean, cov, model.get_population_embedding())


def isotropic(sd: np.ndarray) -> np.ndarray:
    return sd[:, None, None] ** 2 * np.eye(N_GENES)


@pytest.fixture(scope="module")
def location() -> Case:
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(N_POPULATIONS, 2)) @ rng.normal(size=(2, N_GENES))
    return fit(mean, isotropic(np.ones(N_POPULATIONS)))


@pytest.fixture(scope="module")
def both() -> Case:
    rng = np.random.default_rng(2)
    mean = rng.normal(size=(N_POPULATIONS, 2)) @ rng.normal(size=(2, N_GENES)) / 2
    return fit(mean, isotropic(np.exp(rng.uniform(-0.7, 0.7, N_POPULATIONS))))


def test_location_family_is_embedded_linearly(location: Case) -> None:
    assert spearmanr(location.distances, location.wasserstein)[0] > 0.99
    assert pearsonr(location.distances, location.wasserstein)[0] > 0.99
    assert np.median(location.distances / location.wasserstein) == pytest.approx(1, abs=0.05)
    design = np.c_[location.mean, np.ones(N_POPULATIONS)]
    vectors = location.embedding.to_numpy()
    residual = vectors - design @ np.linalg.lstsq(design, vectors)[0]
    assert (residual**2).sum() / ((vectors - vectors.mean(0)) ** 2).sum() < 0.05


def test_location_scale_family_follows_wasserstein(both: Case) -> None:
    assert spearmanr(both.distances, both.wasserstein)[0] > 0.95
    assert np.median(both.distances / both.wasserstein) == pytest.approx(1, abs=0.1)


def test_scale_family_follows_wasserstein() -> None:
    case = fit(np.zeros((N_POPULATIONS, N_GENES)), isotropic(np.linspace(0.4, 2.5, N_POPULATIONS)))
    assert spearmanr(case.distances, case.wasserstein)[0] > 0.95
    middle = case.model.interpolate(case.embedding.iloc[0], case.embedding.iloc[-1], 3, n_cells=1000).X[1000:2000]
    assert middle.std(0).mean() == pytest.approx((0.4 + 2.5) / 2, rel=0.1)


def test_correlations_are_seen_though_means_and_deviations_agree() -> None:
    rho = np.linspace(-0.95, 0.95, 9)
    cov = np.array([[[1, r], [r, 1]] for r in rho])
    case = fit(np.zeros((9, 2)), cov, n_epochs=6, n_cells=200, n_embedding=8)
    assert spearmanr(case.distances, case.wasserstein)[0] > 0.9
    cells = case.model.sample(case.embedding.iloc[[0, -1]], 1000).X.reshape(2, 1000, 2)
    assert np.corrcoef(cells[0].T)[0, 1] < -0.5
    assert np.corrcoef(cells[1].T)[0, 1] > 0.5


def test_generated_populations_are_the_measured_ones(both: Case) -> None:
    cells = both.model.sample(both.embedding, 500)
    assert list(cells.obs["perturbation"].unique()) == list(both.embedding.index.get_level_values(0))
    X = cells.X.reshape(N_POPULATIONS, 500, N_GENES)
    error, spread = X.mean(1) - both.mean, (both.mean - both.mean.mean(0)).std()
    assert np.sqrt((error**2).mean()) < 0.2 * max(spread, 1)
    sd = np.sqrt(both.cov[:, 0, 0])
    np.testing.assert_allclose(X.std(1).mean(1), sd, rtol=0.15)


def test_interpolation_follows_the_wasserstein_geodesic(both: Case) -> None:
    a, b = np.unravel_index(squareform(both.wasserstein).argmax(), (N_POPULATIONS, N_POPULATIONS))
    path = both.model.interpolate(both.embedding.iloc[a], both.embedding.iloc[b], steps=5, n_cells=1000)
    assert path.obs["weight"].unique().tolist() == [0, 0.25, 0.5, 0.75, 1]
    X = path.X.reshape(5, 1000, N_GENES)
    sd = np.sqrt(both.cov[:, 0, 0])
    length = np.sqrt(((both.mean[a] - both.mean[b]) ** 2).mean())
    for weight, cells in zip(np.linspace(0, 1, 5), X, strict=True):
        expected = (1 - weight) * both.mean[a] + weight * both.mean[b]
        assert np.sqrt(((cells.mean(0) - expected) ** 2).mean()) < 0.1 * length
        assert cells.std(0).mean() == pytest.approx((1 - weight) * sd[a] + weight * sd[b], rel=0.1)


def test_order_copies_and_size_of_a_population(both: Case) -> None:
    rng = np.random.default_rng(0)
    expected = both.embedding
    shuffled = both.adata[rng.permutation(both.adata.n_obs)].copy()
    np.testing.assert_allclose(both.model.get_population_embedding(shuffled), expected, atol=1e-4)
    twice = ad.concat([both.adata, both.adata], index_unique="-")
    np.testing.assert_allclose(both.model.get_population_embedding(twice), expected, atol=1e-4)
    half = both.adata[::2].copy()
    error = np.linalg.norm(both.model.get_population_embedding(half) - expected, axis=1)
    assert 0 < np.median(error) < 0.3 * np.median(both.distances)


def test_embedding_of_a_population_converges_as_it_grows(both: Case) -> None:
    """The error falls as that of a mean: four times the cells, half of it."""
    errors = []
    for n_cells in (400, 6400):
        big = gaussians(both.mean[:1].repeat(12, 0), both.cov[:1].repeat(12, 0), n_cells)
        vectors = both.model.get_population_embedding(big).to_numpy()
        errors.append(np.sqrt(((vectors - vectors.mean(0)) ** 2).sum(1).mean()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.4)


def test_padding_changes_nothing(both: Case) -> None:
    encoder = both.model.module.average.network["encoder"]
    cells = torch.randn(2, 9, N_GENES, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 5:] = False
    padded = cells.where(mask[..., None], torch.nan)
    found = encoder(padded, mask)
    torch.testing.assert_close(found[:1], encoder(cells[:1], mask[:1]))
    torch.testing.assert_close(found[1:], encoder(cells[1:, :5], mask[1:, :5]))


def test_save_and_load(both: Case, tmp_path: Path) -> None:
    both.model.save(tmp_path / "model")
    loaded = pc.PopulationEncoder.load(tmp_path / "model", accelerator="cpu")
    found = loaded.get_population_embedding(both.adata)
    pd.testing.assert_frame_equal(found, both.embedding)
    here, there = (np.asarray(model.sample(both.embedding, 10, seed=4).X) for model in (both.model, loaded))
    np.testing.assert_array_equal(here, there)
    assert np.abs(here - np.asarray(loaded.sample(both.embedding, 10, seed=5).X)).max() > 0.1
    with pytest.raises(ValueError, match="without its training data"):
        loaded.train(max_epochs=1, **QUICK)


def test_screen_with_test_conditions(screen: Any, tmp_path: Path) -> None:
    screen.obs["split"] = np.where(
        (screen.obs["cell_type"] == "type_0") & (screen.obs["perturbation"] == "pert_0"), "test", "train"
    )
    pc.PopulationEncoder.setup_anndata(screen, cell_type_key="cell_type", batch_key="donor", split_key="split")
    model = pc.PopulationEncoder(screen, representation="pca", n_latent=10, n_hidden=16, n_embedding=4, seed=0)
    with pytest.raises(RuntimeError, match="train"):
        model.get_population_embedding()
    model.train(max_epochs=1, steps_per_epoch=3, **QUICK)
    rows = model.trainer.datamodule.train_idx
    assert set(screen.obs["split"].iloc[rows]) == {"train"}
    assert "control" in set(screen.obs["perturbation"].iloc[rows])
    embedding = model.get_population_embedding(groupby="cell_type")
    assert embedding.shape == (4, 4)
    assert embedding.index.names == ["cell_type"]
    cells = model.sample(embedding, 7)
    assert cells.shape == (28, screen.n_vars)
    assert np.asarray(cells.X).min() >= 0
    assert list(cells.var_names) == list(screen.var_names)
    assert cells.uns["pertcast"]["model"] == "PopulationEncoder"
    cells.write_h5ad(tmp_path / "cells.h5ad")
    assert model.get_latent_representation().shape == (screen.n_obs, 10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, e: m.sample(e.iloc[:, :3]), "rows of 16 numbers"),
        (lambda m, e: m.sample(e * np.nan), "NaN"),
        (lambda m, e: m.sample(e, 0), "`n_cells` must be at least 1, but found 0"),
        (lambda m, e: m.interpolate(e.iloc[0], e.iloc[1], 1), "`steps` must be at least 2, but found 1"),
        (lambda m, e: m.interpolate(e, e.iloc[1]), "one population each"),
    ],
)
def test_bad_embeddings(both: Case, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(both.model, both.embedding)


def test_unknown_column_and_bad_hyperparameters(both: Case) -> None:
    with pytest.raises(KeyError, match="donor"):
        both.model.get_population_embedding(groupby="donor")
    with pytest.raises(ValueError, match="n_sets is 1"):
        pc.PopulationEncoder(both.adata, n_sets=1)
    with pytest.raises(ValueError, match="representation is 'scvi'"):
        pc.PopulationEncoder(both.adata, representation="scvi")  # type: ignore[arg-type]


def test_batches_of_one_population_have_no_stress(screen: Any) -> None:
    pc.PopulationEncoder.setup_anndata(screen, cell_type_key="cell_type", batch_key="donor")
    model = pc.PopulationEncoder(screen, representation="pca", n_latent=10, n_hidden=16, n_sets=7, seed=0)
    model.train(max_epochs=2, steps_per_epoch=2, **QUICK)
    assert len(model.split_.validation) % 7 == 1
    losses = model.history["validation_loss"].to_numpy(float)
    assert len(losses) == 2
    assert np.isfinite(losses).all()
