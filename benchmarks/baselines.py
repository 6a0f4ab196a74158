"""Every baseline (and models, if asked for) on the held-out parts of real screens, beside the noise ceiling.

python benchmarks/baselines.py [--tasks kang norman] [--models PerturbDiff] [--seeds 1] [--out FOLDER]

FOLDER gets `baselines.csv` (the tidy table of all scores) and `baselines.md` (the tables below).
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from pathlib import Path

import pandas as pd
from tasks import TASKS

import pertcast as pc

SHOWN = (
    "energy_distance",
    "shift_pearson",
    "shift_pearson_specific",
    "discrimination_score",
    "variance_ratio",
    "gene_wasserstein",
    "de_overlap",
    "de_calibration",
)


TITLES = {
    "energy_distance": "energy distance",
    "shift_pearson": "Pearson",
    "shift_pearson_specific": "Pearson, specific",
    "discrimination_score": "discrimination",
    "variance_ratio": "sd ratio",
    "gene_wasserstein": "gene Wasserstein",
    "de_overlap": "DE overlap",
    "de_calibration": "DE calibration",
}


def table(scores: pd.DataFrame) -> str:
    """One task as a Markdown table: means over the n conditions that a model can predict, the best first."""
    summary = pc.tl.summarize(scores)
    wide = summary.pivot_table(index="model", columns="metric", values="mean", dropna=False)
    wide = wide.reindex(columns=list(SHOWN)).sort_values(["energy_distance", "shift_pearson"], ascending=[True, False])
    share = summary[summary["metric"] == "energy_distance"].set_index("model")["normalised"]
    wide.insert(1, "gap closed", share.reindex(wide.index))
    n = summary.pivot_table(index="model", columns="metric", values="n_conditions")["mean_squared_error"]
    wide = wide.rename(columns=TITLES)
    lines = ["| model | n | " + " | ".join(wide.columns) + " |", "|---" * (len(wide.columns) + 2) + "|"]
    for model, row in wide.iterrows():
        numbers = ["-" if pd.isna(value) else f"{value:.2f}" for value in row]
        lines.append(f"| {model} | {n[model]:.0f} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", help="first words of task names; all by default")
    parser.add_argument("--models", nargs="*", default=[], help="models of pertcast to train as well")
    parser.add_argument("--seeds", type=int, default=1, help="seeds of models and baselines (%(default)s)")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

    models = {name: getattr(pc, name) for name in arguments.models}
    found, text = [], []
    for task in TASKS:
        if arguments.tasks and not any(task.name.startswith(word) for word in arguments.tasks):
            continue
        start, adata, parts = time.perf_counter(), task.read(), []
        for number, split in enumerate(task.splits(adata)):
            for seed in range(arguments.seeds):
                scores = pc.tl.benchmark(
                    models,
                    split,
                    setup=task.setup,
                    task=task.name,
                    train_kwargs={"enable_progress_bar": False, "accelerator": "cpu"},
                    seed=seed,
                    progressbar=False,
                )
                scores["condition"] = f"{number} | {seed} | " + scores["condition"]
                parts.append(scores)
        scores = pd.concat(parts)
        found.append(scores)
        n_conditions = scores["condition"].nunique()
        text.append(f"### {task.name}\n\n{n_conditions} held-out conditions.\n\n{table(scores)}\n")
        print(f"\n{text[-1]}\n{time.perf_counter() - start:.0f} s", flush=True)
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            pd.concat(found).to_csv(arguments.out / "baselines.csv", index=False)
            (arguments.out / "baselines.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
