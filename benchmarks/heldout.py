"""Held-out conditions of real screens: PerturbDiff beside the baselines, one row for each condition.

Used by `kang.py` and `bodenmiller.py`. The held-out perturbed cells are removed before anything is set up; they are
read again only to score the predictions.
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tasks import data_file

import pertcast as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import anndata as ad

MODELS = {
    "control": pc.baselines.NoEffect,
    "control + mean shift": pc.baselines.PerturbationShift,
    "control + context-weighted shift": pc.baselines.ContextWeightedShift,
    "PerturbDiff": pc.PerturbDiff,
}
MAX_CELLS = 2_000
__all__ = ["data_file", "main"]


def run(
    adata: ad.AnnData, held_out: Sequence[tuple[str, str]], *, batch_key: str | None, seeds: Sequence[int]
) -> pd.DataFrame:
    """Hold out each (cell type, perturbation) in turn, train, predict from controls alone, and score.

    Returns one row for each condition, model, seed: energy distance in gene space (U-statistic, Euclidean), Pearson
    correlation of the mean shift, seconds of training.
    """
    rows = []
    for cell_type, perturbation in held_out:
        here = (adata.obs["cell_type"] == cell_type).to_numpy()
        is_control = (adata.obs["perturbation"] == "control").to_numpy()
        target = here & (adata.obs["perturbation"] == perturbation).to_numpy()
        training, controls = adata[~target].copy(), adata[here & is_control].copy()
        real = thin(adata[target].X)
        half = len(real) // 2
        ceiling = (
            pc.tl.energy_distance(real[:half], real[half:]),
            pc.tl.shift_pearson(real[:half], real[half:], dense(controls.X)),
        )
        rows.append((cell_type, perturbation, "noise ceiling (real halves)", 0, *ceiling, 0.0))
        for name, model_class in MODELS.items():
            for seed in seeds if name == "PerturbDiff" else [0]:
                start = time.perf_counter()
                model_class.setup_anndata(training, cell_type_key="cell_type", batch_key=batch_key)
                model: Any = model_class(training, **({"seed": seed} if name == "PerturbDiff" else {}))
                model.train(**({"enable_progress_bar": False, "accelerator": "cpu"} if name == "PerturbDiff" else {}))
                seconds = time.perf_counter() - start
                predicted = model.predict(controls, [perturbation], seed=seed, progressbar=False)
                cells = thin(predicted.X)
                energy = pc.tl.energy_distance(cells, real)
                pearson = np.nan if name == "control" else pc.tl.shift_pearson(cells, real, dense(controls.X))
                rows.append((cell_type, perturbation, name, seed, energy, pearson, seconds))
                print(
                    f"{cell_type} | {perturbation} | {name} | seed {seed}: energy distance {energy:.3f}, "
                    f"Pearson {pearson:.3f}, trained in {seconds:.0f} s",
                    flush=True,
                )
    columns = ["cell_type", "perturbation", "model", "seed", "energy_distance", "shift_pearson", "seconds"]
    return pd.DataFrame(rows, columns=columns)


def dense(x: Any) -> np.ndarray:
    """Dense array of a matrix."""
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x)


def thin(x: Any) -> np.ndarray:
    """At most MAX_CELLS rows, in random order, dense."""
    order = np.random.default_rng(0).permutation(x.shape[0])[:MAX_CELLS]
    return dense(x[order])


def report(table: pd.DataFrame) -> None:
    """Print one row for each condition and model, means over seeds, and the mean over conditions."""
    order = [*MODELS, "noise ceiling (real halves)"]
    for metric, better in (("energy_distance", "lower"), ("shift_pearson", "higher")):
        wide = table.pivot_table(metric, ["cell_type", "perturbation"], "model", sort=False)[
            order[1:] if metric == "shift_pearson" else order
        ]
        wide.loc[("mean", ""), :] = wide.mean()
        print(f"\n{metric} ({better} is better; PerturbDiff: mean over seeds)\n{wide.round(3).to_string()}")
        spread = table[table["model"] == "PerturbDiff"].groupby(["cell_type", "perturbation"], sort=False)[metric].std()
        print(f"PerturbDiff, standard deviation over seeds: {spread.round(3).to_dict()}")
    slowest = table["seconds"].max()
    print(f"\nSlowest training: {slowest:.0f} s")


def main(
    adata: ad.AnnData, held_out: Sequence[tuple[str, str]], *, batch_key: str | None, seeds: int, out: str | None
) -> None:
    """Run, print, and write the table if asked to."""
    warnings.filterwarnings("ignore")
    table = run(adata, held_out, batch_key=batch_key, seeds=range(seeds))
    report(table)
    if out:
        table.to_csv(out, index=False)
