"""Embeddings and samples of `PopulationEncoder` against Gaussians with known distances, and on the Kang screen.

python benchmarks/populations.py
"""

from __future__ import annotations

import argparse
import logging
import warnings
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy.linalg import sqrtm
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr, spearmanr
from tasks import KANG, read_counts

import pertcast as pc

QUIET: dict[str, Any] = {"enable_progress_bar": False, "accelerator": "cpu"}


def gaussian_family(name: str, n_populations: int = 40, n_genes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Means and covariances of populations: ``[P, G]`` and ``[P, G, G]``."""
    rng, p, g = np.random.default_rng(0), n_populations, n_genes
    if name == "correlation":
        angles = np.linspace(-0.95, 0.95, 25)
        return np.zeros((25, 2)), np.array([[[1, r], [r, 1]] for r in angles])
    mean, sd = np.zeros((p, g)), np.ones(p)
    if "location" in name:
        mean = rng.normal(size=(p, 2)) @ rng.normal(size=(2, g))
    if "scale" in name:
        sd = np.exp(rng.uniform(-0.7, 0.7, size=p))
    return mean, sd[:, None, None] ** 2 * np.eye(g)


def wasserstein(mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """2-Wasserstein distances of all pairs of Gaussians, in the order of `pdist`."""
    found = []
    for i, root in enumerate(np.real(sqrtm(each)) for each in cov):
        for j in range(i + 1, len(mean)):
            cross = np.real(sqrtm(root @ cov[j] @ root))
            bures = max(np.trace(cov[i] + cov[j] - 2 * cross), 0)
            found.append(np.sqrt(np.square(mean[i] - mean[j]).sum() + bures))
    return np.array(found)


def gaussian_row(name: str) -> str:
    """Train on samples of a family, and compare distances of embeddings with those of the Gaussians."""
    mean, cov = gaussian_family(name)
    n_cells = 300 if name == "correlation" else 150
    rng = np.random.default_rng(1)
    X = np.concatenate([rng.multivariate_normal(m, c, n_cells) for m, c in zip(mean, cov, strict=True)])
    names = ["control", *(f"p{i:02d}" for i in range(1, len(mean)))]
    obs = pd.DataFrame({"perturbation": np.repeat(names, n_cells)}, index=[f"c{i}" for i in range(len(X))])
    adata = ad.AnnData(X.astype(np.float32), obs=obs)
    pc.PopulationEncoder.setup_anndata(adata)
    model = pc.PopulationEncoder(adata, seed=0)
    model.train(max_epochs=16 if name == "correlation" else 8, steps_per_epoch=50, **QUIET)
    embedding = model.get_population_embedding().loc[[(each,) for each in names]]
    distance, known = pdist(embedding.to_numpy()), wasserstein(mean, cov)
    cells = X.reshape(len(mean), n_cells, -1)
    plug_in = f"{pearsonr(pdist(np.concatenate([cells.mean(1), cells.std(1)], axis=1)), known)[0]:.3f}"
    far = np.argmax(known)
    i, j = (int(each[far]) for each in np.triu_indices(len(mean), 1))
    middle = np.asarray(model.interpolate(embedding.iloc[i], embedding.iloc[j], 3, n_cells=1000).X)[1000:2000]
    sd = [np.sqrt(np.trace(each) / len(each)) for each in (cov[i], cov[j])]
    off = np.linalg.norm(middle.mean(0) - (mean[i] + mean[j]) / 2) / max(float(known[far]), 1e-12)
    halfway = f"{middle.std(0).mean():.2f} ({np.mean(sd):.2f})"
    if name == "correlation":  # means and standard deviations say nothing here
        plug_in = halfway = "-"
    return (
        f"| {name} | {spearmanr(distance, known)[0]:.3f} | {pearsonr(distance, known)[0]:.3f} | {plug_in} "
        f"| {np.median(distance / known):.2f} | {halfway} | {off:.2f} |"
    )


def kang_rows() -> list[str]:
    """Generated and measured populations of the Kang screen, cell type by perturbation."""
    adata = read_counts("kang2018_ifnb")
    pc.PopulationEncoder.setup_anndata(adata, **KANG)
    model = pc.PopulationEncoder(adata, seed=0)
    model.train(**QUIET)
    embedding = model.get_population_embedding(groupby=["cell_type", "perturbation"])
    groups = adata.obs.groupby(["cell_type", "perturbation"], observed=True).indices
    rng, X, rows = np.random.default_rng(0), adata.X.tocsr(), []
    for name in embedding.index:
        cells = X[groups[name]].toarray()
        made = np.asarray(model.sample(embedding.loc[[name]], 200).to_df(), dtype=np.float32)
        anyone = X[rng.choice(X.shape[0], 200, replace=False)].toarray()
        shared = cells.std(0) > 0
        rows.append(
            f"| {name[0]}, {name[1]} | {len(cells)} | {pc.tl.energy_distance(made, cells):.2f} "
            f"| {pc.tl.energy_distance(anyone, cells):.2f} "
            f"| {made.std(0)[shared].mean() / cells.std(0)[shared].mean():.2f} "
            f"| {(made == 0).mean():.2f} | {(cells == 0).mean():.2f} |"
        )
    return rows


def main() -> None:
    """Print both tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    print("| family | Spearman with W2 | Pearson | plug-in Pearson | median of distance / W2 | sd halfway | mean off |")
    print("|---" * 7 + "|")
    for name in ("location", "scale", "location and scale", "correlation"):
        print(gaussian_row(name), flush=True)
    print("\n| population | cells | energy distance | of random cells | sd ratio | zeros made | zeros measured |")
    print("|---" * 7 + "|")
    print("\n".join(kang_rows()))


if __name__ == "__main__":
    main()
