"""Unseen dosages and times: python benchmarks/dosages.py [--screens simulated measured] [--seeds 3] [--anchor-only].

*simulated*: four drugs at five dosages, each with a Hill curve of its own, in one cell line or in four. In the last
line the middle dosage, the two highest or the lowest one of all drugs is held out. The populations of the simulation
respond more or less strongly by chance, which nobody can forecast.

*measured*: one treatment at two times, which are registered as its dosages; each time is held out in turn.

Prints mean energy distances over conditions and seeds.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from typing import TYPE_CHECKING

import anndata as ad
import pandas as pd
from tasks import data_file, read_counts
from variants import AnchorOnly

import pertcast as pc

if TYPE_CHECKING:
    from collections.abc import Callable

Scores = dict[tuple[str, str], pd.Series]

DOSAGES = (0.1, 0.3, 1.0, 3.0, 10.0)
HELD_OUT = {"middle": [1.0], "highest two": [3.0, 10.0], "lowest": [0.1]}
TIMES = {
    "a549_dexamethasone": {"control": 0.0, "dexamethasone_1h": 1.0, "dexamethasone_3h": 3.0},
    "mcf10a_4i_emt": {"control": 0.0, "TGFb_3d": 3.0, "TGFb_14d": 14.0},
}
COUNTS = {"a549_dexamethasone"}
BASELINES = ["NoEffect", "PerturbationShift", "LatentAdditive"]


def simulated(models: dict[str, type], seeds: int) -> Scores:
    """Scores by number of cell lines, and by what is held out."""
    rows: Scores = {}
    for n_lines in (1, 4):
        line = f"type_{n_lines - 1}"
        columns = {"cell_type_key": "cell_type", "dosage_key": "dosage"}
        for name, dosages in HELD_OUT.items():
            found = []
            for seed in range(seeds):
                adata = pc.data.simulate_screen(
                    40,
                    n_cell_types=n_lines,
                    n_donors=1,
                    n_genes=150,
                    effect_size=2.0,
                    n_perturbations=4,
                    combinations=0,
                    dosages=DOSAGES,
                    seed=11 + seed,
                )
                held = [(f"pert_{p}", line, dosage) for p in range(4) for dosage in dosages]
                pc.pp.split(adata, "condition", **columns, hold_out=held)  # type: ignore[arg-type]
                found.append(scores_of(adata, columns, 11 + seed, models))
            rows[f"{n_lines} simulated cell line{'s' if n_lines > 1 else ''}", name] = pd.concat(found, axis=1).mean(1)
    return rows


def measured(models: dict[str, type], seeds: int) -> Scores:
    """Scores by screen, and by the time that is held out."""
    rows: Scores = {}
    for screen, times in TIMES.items():
        adata = read_counts(screen) if screen in COUNTS else ad.read_h5ad(data_file(screen))
        label = adata.obs["perturbation"].astype(str)
        adata.obs["time"] = label.map(times).astype(float)
        adata.obs["perturbation"] = label.where(label == "control", "treatment")
        for name, time in times.items():
            if time > 0:
                pc.pp.split(adata, "dosage", dosage_key="time", hold_out=time)
                found = [scores_of(adata, {"dosage_key": "time"}, seed, models) for seed in range(seeds)]
                rows[screen, name] = pd.concat(found, axis=1).mean(1)
    return rows


def scores_of(adata: ad.AnnData, setup: dict[str, str], seed: int, models: dict[str, type]) -> pd.Series:
    """Mean energy distance of each model over the held-out conditions of one screen."""
    scores = pc.tl.benchmark(
        models,
        adata,
        setup=setup,
        baselines=BASELINES,
        metrics=["energy_distance"],
        train_kwargs={"enable_progress_bar": False},
        seed=seed,
        progressbar=False,
    )
    return pc.tl.summarize(scores).set_index("model")["mean"]


SCREENS: dict[str, Callable[[dict[str, type], int], Scores]] = {"simulated": simulated, "measured": measured}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--screens", nargs="+", choices=list(SCREENS), default=list(SCREENS), help="both by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--anchor-only", action="store_true", help="leave the network out")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "pertcast"):
        logging.getLogger(name).setLevel(logging.ERROR)

    models: dict[str, type] = {"anchor": AnchorOnly} | (
        {} if arguments.anchor_only else {"PerturbDiff": pc.PerturbDiff}
    )
    rows: Scores = {}
    for screen in arguments.screens:
        rows |= SCREENS[screen](models, arguments.seeds)
    table = pd.DataFrame(rows).T.reindex(columns=[*BASELINES, *models, "ceiling"])
    print(table.rename_axis(["screen", "held out"]).round(2).fillna("-").to_string())


if __name__ == "__main__":
    main()
