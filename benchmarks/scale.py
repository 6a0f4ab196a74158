"""Training on a file with many millions of cells: python benchmarks/scale.py --out FOLDER [--cells 10000000].

Writes a simulated screen to FOLDER, unless it is there: without compression, a tenth of the cells controls. Then opens
it backed, trains a default PerturbDiff, predicts, saves and loads, and prints for each stage seconds of the wall and of
the processor, and the peak of resident memory so far.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from speed_cases import peak_mib

import pertcast as pc

if TYPE_CHECKING:
    from collections.abc import Callable

N_GENES = 2000
CONTROL_SHARE = 0.1
NAME = "perturbation"


def condition_sizes(n_cells: int, n_perturbations: int, n_contexts: int) -> np.ndarray:
    """Cells of each context and perturbation, ``[contexts, 1 + perturbations]``; the first column are controls."""
    share = np.full(1 + n_perturbations, (1 - CONTROL_SHARE) / n_perturbations)
    share[0] = CONTROL_SHARE
    ends = np.round(np.cumsum(np.tile(share, n_contexts)) / n_contexts * n_cells).astype(np.int64)
    return np.diff(ends, prepend=0).reshape(n_contexts, -1)


def write_screen(path: Path, n_cells: int, n_perturbations: int, n_contexts: int, n_counts: int) -> None:
    """Write a screen, condition by condition: log1p of some counts a cell, scaled to 10,000, of 2,000 genes."""
    sizes = condition_sizes(n_cells, n_perturbations, n_contexts)
    names = ["control", *(f"p{i + 1}" for i in range(n_perturbations))]
    codes = np.repeat(np.tile(np.arange(len(names), dtype=np.int32), n_contexts), sizes.ravel())
    context = np.repeat(np.arange(n_contexts, dtype=np.int32), sizes.sum(1))
    obs = {
        NAME: pd.Categorical.from_codes(codes, names),
        "context": pd.Categorical.from_codes(context, [f"c{i}" for i in range(n_contexts)]),
    }
    frame = pd.DataFrame(obs, index=pd.RangeIndex(n_cells).astype(str))
    ad.AnnData(obs=frame, var=pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)])).write_h5ad(path)
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.3, 1.0, N_GENES)
    effects = np.where(rng.random((len(names), N_GENES)) < 0.05, rng.normal(0, 1, (len(names), N_GENES)), 0)
    effects[0] = 0
    with h5py.File(path, "r+") as file:
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (n_cells, N_GENES)})
        options: dict[str, Any] = {"shape": (0,), "maxshape": (None,), "chunks": (2**20,)}
        data = group.create_dataset("data", dtype=np.float32, **options)
        indices = group.create_dataset("indices", dtype=np.int32, **options)
        lengths = []
        for of_context, own in zip(sizes, rng.normal(0, 0.3, (n_contexts, N_GENES)), strict=True):
            blocks = [
                draw_cells(rates * np.exp(own + effect), n, n_counts, rng)
                for n, effect in zip(of_context, effects, strict=True)
            ]
            values, genes, of_cell = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
            start = len(data)
            for dataset, new in ((data, values), (indices, genes)):
                dataset.resize((start + len(new),))
                dataset[start:] = new
            lengths.append(of_cell)
        group["indptr"] = np.concatenate([[0], np.cumsum(np.concatenate(lengths), dtype=np.int64)])


def draw_cells(
    rates: np.ndarray, n: int, n_counts: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values and genes of n cells, and how many values each of them has."""
    bounds = np.cumsum(rates / rates.sum())
    genes = np.minimum(np.searchsorted(bounds, rng.random((n, n_counts))), N_GENES - 1)
    places, counts = np.unique(genes + N_GENES * np.arange(n)[:, None], return_counts=True)
    values = np.log1p(counts * (1e4 / n_counts)).astype(np.float32)
    return values, (places % N_GENES).astype(np.int32), np.bincount(places // N_GENES, minlength=n)


def stage(name: str, function: Callable[[], Any]) -> Any:
    """Run a function and print a row of the table."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    found = function()
    wall, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    print(f"| {name} | {wall:,.0f} | {cpu:,.0f} | {peak_mib():,.0f} |", flush=True)
    return found


def main() -> None:
    """Write, train, predict, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the file")
    parser.add_argument("--cells", type=int, default=10_000_000)
    parser.add_argument("--perturbations", type=int, default=380)
    parser.add_argument("--contexts", type=int, default=50)
    parser.add_argument("--counts", type=int, default=60, help="counts of a cell")
    parser.add_argument("--steps", type=int, default=500, help="steps of training; 0 for the default number")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    arguments.out.mkdir(parents=True, exist_ok=True)
    sizes = (arguments.cells, arguments.perturbations, arguments.contexts, arguments.counts)
    path = arguments.out / ("screen_" + "_".join(map(str, sizes)) + ".h5ad")
    if not path.exists():
        part = path.with_suffix(".part")
        writer = multiprocessing.get_context("spawn").Process(target=write_screen, args=(part, *sizes))
        writer.start()
        writer.join()
        if writer.exitcode:
            sys.exit(f"The screen was not written: exit code {writer.exitcode}.")
        part.rename(path)

    print("| stage | s | s of the processor | peak so far, MiB |\n|---|---|---|---|")
    print(f"| start | - | - | {peak_mib():,.0f} |")
    adata = stage("open the file", lambda: ad.read_h5ad(path, backed="r"))
    stage("register", lambda: pc.PerturbDiff.setup_anndata(adata, cell_type_key="context"))
    model = stage("make the model", lambda: pc.PerturbDiff(adata))
    steps = {} if arguments.steps == 0 else {"max_epochs": 2, "steps_per_epoch": max(1, arguments.steps // 2)}
    stage(f"train, {arguments.steps or 'all'} steps", lambda: model.train(enable_progress_bar=False, **steps))
    first = np.flatnonzero((adata.obs["context"] == "c0") & (adata.obs[NAME] == "control"))[:10_000]
    controls = adata[first].to_memory()
    names = [f"p{i + 1}" for i in range(5)]
    predicted = stage(
        f"predict {len(names) * controls.n_obs:,} cells", lambda: model.predict(controls, names, progressbar=False)
    )
    folder = arguments.out / "model"
    stage("save", lambda: model.save(folder, overwrite=True))
    loaded = stage("load", lambda: pc.PerturbDiff.load(folder))
    again = loaded.predict(controls, names, progressbar=False)
    same = abs(again.X - predicted.X).max() == 0
    print(f"\nThe file has {path.stat().st_size / 2**30:.1f} GiB; the loaded model predicts the same cells: {same}.")


if __name__ == "__main__":
    main()
