"""Numbers of the page on metrics: python benchmarks/metric_conventions.py [--without-kang].

First the table *One name, different numbers*: three pairs of 100 cells with 50 features, scored by conventions of
several packages. Numbers of pertcast and pertpy come from the packages, the others from the definitions.

Then `shift_pearson_specific` of two baselines for the B cells of Kang et al. 2018, which training has not seen.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pertpy
import torch
from scipy.spatial.distance import cdist
from tasks import KANG, read_counts

import pertcast as pc
from pertcast.transport import sinkhorn_cost, sinkhorn_divergence

if TYPE_CHECKING:
    from collections.abc import Callable

N_CELLS, N_FEATURES = 100, 50
GAMMAS = (2, 1, 0.5, 0.1, 0.01, 0.005)


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Predicted and measured cells: of one normal distribution, of two means, and of two standard deviations."""
    draw = np.random.default_rng(0).normal(size=(2, 3, N_CELLS, N_FEATURES))
    draw[0, 1] += 0.5
    draw[0, 2] *= 2
    return dict(zip(("same", "mean", "spread"), zip(*draw, strict=True), strict=True))


def mean_difference(of: Callable[[np.ndarray, np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    """V-statistic of a distance or, with the opposite sign, of a kernel."""
    return float(2 * of(x, y).mean() - of(x, x).mean() - of(y, y).mean())


def gaussian(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean over widths of Gaussian kernels."""
    return np.mean([np.exp(-gamma * cdist(x, y, "sqeuclidean")) for gamma in GAMMAS], axis=0)


def table() -> pd.DataFrame:
    """Value of each pair by each convention."""
    edistance, linear = (pertpy.tools.Distance(name) for name in ("edistance", "mmd"))
    rows: dict[tuple[str, str], Callable[[np.ndarray, np.ndarray], float]] = {
        ("energy distance", "Euclidean, U"): pc.tl.energy_distance,
        ("energy distance", "Euclidean, V"): edistance,
        ("energy distance", "half of that"): lambda x, y: mean_difference(cdist, x, y) / 2,
        ("energy distance", "root of the U-statistic"): lambda x, y: max(pc.tl.energy_distance(x, y), 0) ** 0.5,
        ("energy distance", "squared Euclidean, V"): lambda x, y: mean_difference(
            lambda a, b: cdist(a, b, "sqeuclidean"), x, y
        ),
        ("MMD", "Gaussian, median width, U"): pc.tl.mmd_rbf,
        ("MMD", "Gaussian, mean over gamma, V"): lambda x, y: -mean_difference(gaussian, x, y),
        ("MMD", "linear kernel"): linear,
        ("Sinkhorn", "divergence, half the median"): pc.tl.sinkhorn_divergence,
        ("Sinkhorn", "divergence, squared, 10"): lambda x, y: float(
            sinkhorn_divergence(torch.from_numpy(x), torch.from_numpy(y), epsilon=10.0, cost="sqeuclidean")
        ),
        ("Sinkhorn", "cost, 0.1"): lambda x, y: float(
            sinkhorn_cost(torch.from_numpy(x), torch.from_numpy(y), epsilon=0.1, max_iterations=10_000)
        ),
    }
    values = {name: {pair: score(x, y) for pair, (x, y) in pairs().items()} for name, score in rows.items()}
    return pd.DataFrame(values).T


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-kang", action="store_true", help="leave out what needs the file of the screen")
    arguments = parser.parse_args()
    print(table().map("{:.3g}".format).to_string())
    if not arguments.without_kang:
        adata = read_counts("kang2018_ifnb")
        pc.pp.split(adata, "context", hold_out=["B cells"], **KANG)
        baselines, metrics = ["NoEffect", "PerturbationShift"], ["shift_pearson_specific"]
        scores = pc.tl.benchmark([], adata, setup=KANG, baselines=baselines, metrics=metrics, progressbar=False)
        print(pc.tl.summarize(scores).round(2).to_string())


if __name__ == "__main__":
    main()
