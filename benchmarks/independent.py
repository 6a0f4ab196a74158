"""Energy distance less what predicted cells share: python benchmarks/independent.py --out FOLDER [--seeds 1].

FOLDER is that of `quality.py`, whose best baselines and ceilings are shown beside it. The energy distance is that of
the distribution that cells come from only if they were drawn independently of each other. Predicted cells are not: a
population is forecast as a whole, with its mean and its numbers of expressing cells, so its cells lie more evenly than
a sample does, and the mean distance W between them is too large. Populations predicted from disjoint halves of the
controls, with seeds of their own, are independent of each other. W within them less W between them is the excess at
half as many controls; half of it, because it goes with one over the number of cells, is added to the distance.
Baselines that move control cells have no excess.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from quality_tables import best_baseline, sign, without_seed
from scipy.spatial.distance import cdist, pdist
from tasks import TASKS, Task

import pertcast as pc
from pertcast.tl._benchmark import train_models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData

MODEL, BASELINE = "PerturbDiff", "PerturbationShift"
MIN_CONTROLS = 4
N_HALVINGS = 4


def excess(predict: Callable[..., np.ndarray], controls: AnnData, rng: np.random.Generator) -> float:
    """Excess of the mean distance within a population that is predicted from all controls."""
    found = []
    for _ in range(N_HALVINGS):
        order = np.array_split(rng.permutation(controls.n_obs), 2)
        halves = [predict(controls=controls[np.sort(half)].copy(), seed=int(rng.integers(2**31))) for half in order]
        found.append(np.mean([pdist(half).mean() for half in halves]) - cdist(*halves).mean())
    return float(np.mean(found)) / 2


def cells_of(model: Any, condition: Any, *, controls: AnnData, seed: int) -> np.ndarray:
    """Predicted cells of a condition, dense."""
    options = {} if condition.dosage is None else {"dosages": condition.dosage}
    found = model.predict(controls, [condition.perturbation], seed=seed, progressbar=False, **options).X
    return np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=float)


def rows_of(task: Task, number: int, split: AnnData, seed: int) -> Iterator[dict[str, Any]]:
    """Train on a split, and score every condition."""
    truth, sources = train_models(
        {MODEL: pc.PerturbDiff},
        split,
        split_key="split",
        setup=task.setup,
        baselines=[BASELINE],
        train_kwargs={"enable_progress_bar": False},
        max_cells=1000,
        seed=seed,
        progressbar=False,
    )
    for condition in truth.conditions:
        rows = truth.sample(truth.real.rows[condition], truth.max_cells, "real", condition.name)
        real, controls = truth.real.gather(rows).astype(float), truth.control_cells(condition)
        if len(real) < 2 or controls.n_obs < MIN_CONTROLS:
            continue
        for source in sources:
            predict = partial(cells_of, source.model, condition)
            try:
                predicted = predict(controls=controls, seed=seed)
            except ValueError:  # a shift that was not measured
                continue
            yield {
                "condition": f"{number} | {seed} | {condition.name}",
                "model": source.name,
                "plain": pc.tl.energy_distance(predicted, real),
                "excess": excess(predict, controls, np.random.default_rng(seed)),
            }


def summary(out: Path) -> pd.DataFrame:
    """One row for each task, over the conditions of both scripts: the distance and the gap closed, less the excess.

    The gap is that of the conditions on which the ceiling is defined, with the best baseline of these conditions; there
    is none where that is not behind the ceiling.
    """
    rows = {}
    for task in TASKS:
        scores, own = ([*folder.glob(task.file(folder).name)] for folder in (out, out / "independent"))
        if not own:
            continue
        energy = pd.concat(map(pd.read_csv, scores))
        best, _ = best_baseline(energy, "energy_distance", MODEL)
        energy = energy[energy["metric"] == "energy_distance"]
        found = _over_seeds(energy.pivot_table(index="condition", columns="model", values="value"))
        parts = _over_seeds(pd.concat(map(pd.read_csv, own)).pivot_table(index="condition", columns="model"))
        both = found.index.intersection(parts.index)
        found, parts = found.loc[both], parts.loc[both]
        plain, excess = parts["plain", MODEL], parts["excess", MODEL]
        rows[task.name] = {
            "n": len(both),
            "best baseline": found[best].mean(),
            "excess of mean shift": parts["excess"].get(BASELINE, pd.Series(dtype=float)).mean(),
            "PerturbDiff": plain.mean(),
            "excess": excess.mean(),
            "without": (plain + excess).mean(),
            "sign": sign(found[best] - plain - excess),
            "ceiling": found["ceiling"].mean(),
        }
        defined = found["ceiling"].notna()
        of_baselines = found.columns.isin(energy.loc[energy["role"] == "baseline", "model"])
        baselines = found.loc[defined, of_baselines].dropna(axis=1)
        start, end = baselines.mean().min(), found["ceiling"].mean()
        if start > end:
            for name, distance in (("gap closed", plain), ("gap closed without", plain + excess)):
                rows[task.name][name] = (start - distance[defined].mean()) / (start - end)
    return pd.DataFrame.from_dict(rows, orient="index")


def table(out: Path) -> str:
    """Format the summary; ``+``, ``=`` and ``-`` compare the distance without the excess, as in `quality.py`."""
    names = ["best baseline", "excess of mean shift", "PerturbDiff", "excess", "without", "ceiling"]
    gaps = ["gap closed", "gap closed without"]
    lines = ["| " + " | ".join(["task", "n", *names, "gap closed", "without"]) + " |", "|---" * 10 + "|"]
    found = summary(out)
    for task, row in found.iterrows():
        cells = ["-" if pd.isna(value) else f"{value:.2f}" for value in row[[*names, *gaps]]]
        cells[4] += f" {row['sign']}"
        lines.append(f"| {task} | {row['n']} | " + " | ".join(cells) + " |")
    shares = found[gaps].dropna()
    if len(shares):
        means, cut = shares.mean(), shares.clip(upper=1).mean()
        lines.append(
            f"\nMean gap closed over {len(shares)} tasks: {means.iloc[0]:.2f}, without the excess {means.iloc[1]:.2f}; "
            f"cut off at 1: {cut.iloc[0]:.2f} and {cut.iloc[1]:.2f}."
        )
    return "\n".join(lines)


def _over_seeds(wide: pd.DataFrame) -> pd.DataFrame:
    return wide.groupby(without_seed(wide.index)).mean()


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder with the results of quality.py")
    parser.add_argument("--tasks", nargs="+", help="first words of task names; all by default")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--splits", type=int, default=None, help="at most so many splits of a task")
    parser.add_argument("--division", type=int, default=0, help="that of the results of quality.py")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "pertcast"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not list(arguments.out.glob("*.csv")):
        sys.exit(f"{arguments.out} has no results; run quality.py --out {arguments.out} first.")
    folder = arguments.out / "independent"
    folder.mkdir(exist_ok=True)
    for seed in range(arguments.seeds):
        for task in TASKS:
            if arguments.tasks and not any(task.name.startswith(word) for word in arguments.tasks):
                continue
            for number, split in enumerate(islice(task.splits(task.read(), arguments.division), arguments.splits)):
                path = task.file(folder, number, seed)
                if not path.exists():
                    pd.DataFrame(rows_of(task, number, split, seed)).to_csv(path, index=False)
                    print(path.stem, flush=True)
    print(table(arguments.out))


if __name__ == "__main__":
    main()
