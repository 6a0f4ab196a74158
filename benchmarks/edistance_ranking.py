"""Knock-outs ranked by their E-distance to control (Papalexi 2021), against the distances that scPerturb published.

python benchmarks/edistance_ranking.py

scPerturb (Peidli et al., Nat. Methods 21:531, 2024) computes the E-distance with squared Euclidean distances in 50
principal components of log-normalised expression, for each guide. Here the guides of a knock-out are taken together,
and the published distances of its guides are averaged. Both E-distances are shown: the squared one of scPerturb, which
sees only the means, and `pertcast.tl.energy_distance`. The published values come from all genes and other subsamples of
the cells, so only the ranking is compared.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import pandas as pd
import scanpy as sc
from scipy.stats import spearmanr

import pertcast as pc

if TYPE_CHECKING:
    import numpy as np

SHARED = Path(__file__).resolve().parents[2] / "shared"
SCREEN = Path(os.environ.get("PERTCAST_DATA", SHARED / "data")) / "papalexi2021_eccite.h5ad"
PUBLISHED = (
    Path(os.environ.get("PERTCAST_SIDE", SHARED / "side"))
    / "scperturb_pairwise_edist_PapalexiSatija2021_eccite_RNA.csv.gz"
)


def published(path: Path) -> pd.Series:
    """scPerturb's E-distance to control of each knock-out, mean over its guides (IFNGR1g1, IFNGR1g2, ...)."""
    guides = pd.read_csv(path, index_col=0)["control"].drop("control")
    return guides.groupby(guides.index.str.replace(r"g\d+$", "", regex=True)).mean()


def computed(adata: ad.AnnData) -> pd.DataFrame:
    """E-distances to control of each knock-out of a screen of raw counts, U-statistics."""
    adata = adata.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=50, random_state=0)
    cells = {str(name): adata.obsm["X_pca"][rows] for name, rows in adata.obs.groupby("perturbation").indices.items()}
    control = cells.pop("control")
    return pd.DataFrame(
        {
            name: {
                "squared": squared_energy_distance(x, control),
                "euclidean": pc.tl.energy_distance(x, control),
                "n_cells": len(x),
            }
            for name, x in cells.items()
        }
    ).T


def squared_energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """E-distance with squared distances: twice the squared difference of the means, less what noise adds to it."""
    noise = x.var(axis=0, ddof=1).sum() / len(x) + y.var(axis=0, ddof=1).sum() / len(y)
    return float(2 * (((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() - noise))


def compare(adata: ad.AnnData, path: Path) -> tuple[pd.DataFrame, dict[str, float]]:
    """All distances of the knock-outs that both have, and the Spearman correlation of each with the published one."""
    table = computed(adata).join(published(path).rename("published"), how="inner").sort_values("published")
    correlations = {kind: spearmanr(table[kind], table["published"]).statistic for kind in ("squared", "euclidean")}
    return table, correlations


def main() -> None:
    for path, variable in ((SCREEN, "PERTCAST_DATA"), (PUBLISHED, "PERTCAST_SIDE")):
        if not path.exists():
            sys.exit(f"{path} does not exist. Set {variable} to the folder with {path.name}.")
    table, correlations = compare(ad.read_h5ad(SCREEN), PUBLISHED)
    print(table.round(3).to_string())
    for kind, correlation in correlations.items():
        print(f"Spearman correlation with scPerturb over {len(table)} knock-outs, {kind}: {correlation:.3f}")


if __name__ == "__main__":
    main()
