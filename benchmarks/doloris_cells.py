"""Silent genes and the identity of cells in predictions of Doloris, on a held-out cell type of the Kang screen.

python benchmarks/doloris_cells.py
"""

from __future__ import annotations

import logging
import warnings
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from tasks import TASKS

import pertcast as pc

if TYPE_CHECKING:
    from anndata import AnnData

TASK = TASKS[0]
N_NEIGHBORS = 10
LEVELS = (0.1, 0.9)
"""Shares of expressing cells between which a gene is looked at: others hardly vary."""


def parts(split: AnnData) -> tuple[AnnData, AnnData, AnnData]:
    """Training part, controls of the held-out cell type, and its measured cells."""
    test = (split.obs["split"] == "test").to_numpy()
    control = (split.obs["perturbation"] == "control").to_numpy()
    here = split.obs["cell_type"].isin(split.obs["cell_type"][test & ~control]).to_numpy()
    return split[~(test & ~control)].copy(), split[here & control].copy(), split[here & ~control].copy()


def detected_together(X: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """Correlations between genes in which cells express them, one for each pair."""
    together = np.corrcoef((X[:, genes] > 0).T)
    return np.nan_to_num(together[np.triu_indices(len(together), 1)])


def neighbours_kept(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the nearest neighbours of a cell, among 50 principal components, that still are among its nearest."""
    near = [
        NearestNeighbors(n_neighbors=N_NEIGHBORS).fit(scores).kneighbors(return_distance=False)
        for scores in (PCA(50, random_state=0).fit_transform(cells) for cells in (before, after))
    ]
    return float(np.mean([len(set(a) & set(b)) / N_NEIGHBORS for a, b in zip(*near, strict=True)]))


def main() -> None:
    """Print both tables."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    split = next(islice(TASK.splits(TASK.read(), 0), 0, None))
    train, controls, measured = parts(split)
    real = measured.X.toarray()
    models: dict[str, Any] = {
        'Doloris, zeros="switch"': (pc.Doloris, {}),
        'Doloris, zeros="bernoulli"': (pc.Doloris, {"zeros": "bernoulli"}),
        "PerturbDiff": (pc.PerturbDiff, {}),
    }
    predicted: dict[str, np.ndarray] = {}
    for name, (kind, options) in models.items():
        kind.setup_anndata(train, **TASK.setup)
        model = kind(train, seed=0, **options)
        model.train(enable_progress_bar=False, accelerator="cpu")
        cells = model.predict(controls, progressbar=False)
        rows = controls.obs_names.get_indexer(cells.obs["source_cell"])
        predicted[name] = cells.X.toarray()[np.argsort(rows)]

    order = np.random.default_rng(0).permutation(len(real))
    half, other = real[order[::2]], real[order[1::2]]
    share = (real > 0).mean(axis=0)
    genes = (share > LEVELS[0]) & (share < LEVELS[1])
    truth = detected_together(other, genes)
    cases = {**predicted, "control cells": controls.X.toarray(), "other half of the measured cells": half}
    print(f"{int(genes.sum())} genes, {len(controls)} control and {len(real)} measured cells.\n")
    print("| cells | correlation with the measured correlations of detection | squared error |\n|---|---|---|")
    for name, X in cases.items():
        found = detected_together(X, genes)
        print(f"| {name} | {np.corrcoef(found, truth)[0, 1]:.3f} | {np.square(found - truth).mean():.5f} |")

    source = controls.X.toarray()
    print("\n| predicted cells | neighbours kept |\n|---|---|")
    for name, X in predicted.items():
        shuffled = X[np.random.default_rng(0).permutation(len(X))]
        print(f"| {name} | {neighbours_kept(source, X):.3f} |")
        print(f"| {name}, dealt out anew | {neighbours_kept(source, shuffled):.3f} |")


if __name__ == "__main__":
    main()
