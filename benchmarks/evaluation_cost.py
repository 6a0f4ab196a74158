"""Time and memory of an evaluation with all metrics, and what each metric costs.

python benchmarks/evaluation_cost.py [--conditions 200] [--cells 500] [--genes 2000] [--jobs 2]

Peak memory is given beside that of a run with a tenth of the conditions: it must not grow with their number, the data
themselves aside.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import resource
import time
import warnings
from collections import defaultdict
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

import pertcast as pc
from pertcast.tl._registry import METRICS


def screen(n_conditions: int, n_cells: int, n_genes: int, seed: int) -> ad.AnnData:
    """Log-normalised counts of one context: controls and perturbed populations, sparse."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.3, 0.5, n_genes)
    blocks, labels = [], []
    for number in range(n_conditions + 1):
        change = np.exp(rng.normal(0, 0.5, n_genes) * (rng.random(n_genes) < 0.05)) if number else 1.0
        counts = rng.poisson(rates * change, (n_cells, n_genes)).astype(np.float32)
        blocks.append(sp.csr_matrix(np.log1p(counts * 0.8)))
        labels += [f"p{number}" if number else "control"] * n_cells
    obs = pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(len(labels))])
    return ad.AnnData(sp.vstack(blocks, format="csr"), obs=obs)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(n_conditions: int, n_cells: int, n_genes: int, jobs: int) -> tuple[float, float, float, dict[str, float]]:
    """Seconds, MiB before, MiB at the peak, and seconds of each metric summed over everything."""
    warnings.filterwarnings("ignore")
    real, predicted = (screen(n_conditions, n_cells, n_genes, seed) for seed in (0, 0))
    seconds: dict[str, float] = defaultdict(float)

    def timed(name: str):
        function = METRICS[name].function

        def wrapped(pair):
            start = time.perf_counter()
            try:
                return function(pair)
            finally:
                seconds[name] += time.perf_counter() - start

        return replace(METRICS[name], function=wrapped)

    METRICS.update({name: timed(name) for name in METRICS})
    before, start = peak_mib(), time.perf_counter()
    pc.tl.evaluate(real, predicted, n_jobs=jobs, progressbar=False)
    return time.perf_counter() - start, before, peak_mib(), dict(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conditions", type=int, default=200)
    parser.add_argument("--cells", type=int, default=500)
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    for n_conditions in (arguments.conditions // 10, arguments.conditions):
        with mp.get_context("spawn").Pool(1) as pool:  # a fresh process, so that peaks are its own
            seconds, before, peak, costs = pool.apply(
                measure, (n_conditions, arguments.cells, arguments.genes, arguments.jobs)
            )
        print(
            f"{n_conditions} conditions x {arguments.cells} cells x {arguments.genes} genes, one prediction, no effect "
            f"and ceiling, {arguments.jobs} threads: {seconds:.0f} s; data {before:.0f} MiB, peak {peak:.0f} MiB, "
            f"evaluation {peak - before:.0f} MiB",
            flush=True,
        )
    total = sum(costs.values())
    print("\nShare of the time by metric (what several metrics share is counted where it is first needed):")
    for name, cost in sorted(costs.items(), key=lambda item: -item[1]):
        print(f"{name:26s} {cost / total:6.1%}  {1e3 * cost / (3 * n_conditions):8.1f} ms a population")


if __name__ == "__main__":
    main()
