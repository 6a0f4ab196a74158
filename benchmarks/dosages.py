"""Unseen dosages on simulated screens: python benchmarks/dosages.py [--seeds 3] [--anchor-only].

Four drugs at five dosages, each with a Hill curve of its own, in one cell line or in four. In the last line the middle
dosage, the two highest or the lowest one of all drugs is held out. Prints mean energy distances over conditions and
seeds; the populations of the simulation respond more or less strongly by chance, which nobody can forecast.
"""

from __future__ import annotations

import argparse
import logging
import warnings

import pandas as pd
from variants import AnchorOnly

import pertcast as pc

DOSAGES = (0.1, 0.3, 1.0, 3.0, 10.0)
HELD_OUT = {"middle": [1.0], "highest two": [3.0, 10.0], "lowest": [0.1]}
COLUMNS = {"cell_type_key": "cell_type", "dosage_key": "dosage"}
BASELINES = ["NoEffect", "PerturbationShift", "LatentAdditive"]


def scores_of(n_lines: int, dosages: list[float], seed: int, models: dict[str, type]) -> pd.Series:
    """Mean energy distance of each model over the held-out conditions of one screen."""
    adata = pc.data.simulate_screen(
        40,
        n_cell_types=n_lines,
        n_donors=1,
        n_genes=150,
        effect_size=2.0,
        n_perturbations=4,
        combinations=0,
        dosages=DOSAGES,
        seed=seed,
    )
    line = f"type_{n_lines - 1}"
    pc.pp.split(adata, "condition", **COLUMNS, hold_out=[(f"pert_{p}", line, d) for p in range(4) for d in dosages])
    scores = pc.tl.benchmark(
        models,
        adata,
        setup=COLUMNS,
        baselines=BASELINES,
        metrics=["energy_distance"],
        train_kwargs={"enable_progress_bar": False},
        seed=seed,
        progressbar=False,
    )
    return pc.tl.summarize(scores).set_index("model")["mean"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--anchor-only", action="store_true", help="leave the network out")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "pertcast"):
        logging.getLogger(name).setLevel(logging.ERROR)

    models: dict[str, type] = {"anchor": AnchorOnly} | (
        {} if arguments.anchor_only else {"PerturbDiff": pc.PerturbDiff}
    )
    rows = {
        (n_lines, name): pd.concat(
            [scores_of(n_lines, dosages, 11 + seed, models) for seed in range(arguments.seeds)], axis=1
        ).mean(axis=1)
        for n_lines in (1, 4)
        for name, dosages in HELD_OUT.items()
    }
    table = pd.DataFrame(rows).T[[*BASELINES, *models, "ceiling"]]
    print(table.rename_axis(["cell lines", "held out"]).round(2).fillna("-").to_string())


if __name__ == "__main__":
    main()
