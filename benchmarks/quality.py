"""Models, variants of PerturbDiff and every baseline on the held-out parts of real screens, with several seeds.

python benchmarks/quality.py --out FOLDER [--tasks kang norman] [--models all] [--variants all] [--seeds 3] [--jobs 2]

Every task x split x seed is one file in FOLDER; a run that was stopped goes on where it was. The tables are printed
and written to FOLDER/quality.md: means over conditions and seeds, and the share of the gap between the best baseline
and the noise ceiling that is closed (in energy distance).
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
from tasks import TASKS, Task
from variants import MODELS, VARIANTS

import pertcast as pc

METRICS = {
    "energy_distance": "energy distance",
    "mmd": "MMD",
    "shift_pearson": "Pearson",
    "shift_pearson_specific": "Pearson, specific",
    "de_overlap": "DE overlap",
    "de_calibration": "DE calibration",
    "variance_ratio": "sd ratio",
}


def run_job(number: int, split_number: int, seed: int, names: list[str], out: Path, accelerator: str) -> str:
    """Train and score some models on one split of one task with one seed, and write the table."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("pertcast").setLevel(logging.ERROR)
    task, start = TASKS[number], time.perf_counter()
    path = job_file(out, task, split_number, seed)
    split = next(islice(task.splits(task.read()), split_number, None))
    done = pd.read_csv(path) if path.exists() else baselines_of(out, task, split_number, seed)
    missing = {name: (MODELS | VARIANTS)[name] for name in names if done.empty or name not in set(done["model"])}
    if not missing:
        return f"{path.stem}: nothing to do"
    scores = pc.tl.benchmark(
        missing,
        split,
        setup=task.setup,
        task=task.name,
        metrics=list(METRICS),
        baselines="all" if done.empty else [],
        train_kwargs={"enable_progress_bar": False, "accelerator": accelerator},
        seed=seed,
        progressbar=False,
    )
    scores["condition"] = f"{split_number} | {seed} | " + scores["condition"]
    scores = scores if done.empty else pd.concat([done, scores[scores["model"].isin(missing)]])
    scores.to_csv(path.with_suffix(".part"), index=False)
    path.with_suffix(".part").rename(path)
    return f"{path.stem}: {time.perf_counter() - start:.0f} s"


def baselines_of(out: Path, task: Task, split_number: int, seed: int) -> pd.DataFrame:
    """Baselines and ceiling of a split, which are measured with the first seed only; empty before that."""
    path = job_file(out, task, split_number, 0)
    if seed == 0 or not path.exists():
        return pd.DataFrame()
    scores = pd.read_csv(path)
    scores = scores[~scores["model"].isin([*MODELS, *VARIANTS])].copy()
    scores["condition"] = scores["condition"].str.replace(
        f"{split_number} | 0 | ", f"{split_number} | {seed} | ", regex=False
    )
    return scores


def job_file(out: Path, task: Task, split_number: int, seed: int) -> Path:
    """File of one job."""
    return out / f"{re.sub('[^a-z0-9]+', '-', task.name)}_{split_number}_{seed}.csv"


def table(scores: pd.DataFrame) -> str:
    """One task as a Markdown table, the best energy distance first."""
    summary = pc.tl.summarize(scores)
    wide = summary.pivot_table(index="model", columns="metric", values="mean", dropna=False)
    wide = wide.reindex(columns=list(METRICS)).sort_values(
        ["energy_distance", "shift_pearson"], ascending=[True, False]
    )
    share = summary[summary["metric"] == "energy_distance"].set_index("model")["normalised"]
    wide.insert(1, "gap closed", share.reindex(wide.index))
    defined = scores[scores["metric"].isin(["shift_pearson", "energy_distance"]) & scores["value"].notna()]
    n = defined.groupby("model")["condition"].nunique()
    lines = ["| model | n | " + " | ".join(METRICS.get(str(c), str(c)) for c in wide.columns) + " |"]
    lines.append("|---" * (len(wide.columns) + 2) + "|")
    for model, row in wide.iterrows():
        if n.get(model, 0):
            numbers = ["-" if pd.isna(value) else f"{value:.3g}" for value in row]
            lines.append(f"| {model} | {n[model]} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def overview(scores: pd.DataFrame, model: str = "PerturbDiff") -> str:
    """One row for each task: energy distance and Pearson of a model, of simple baselines and of the best one."""
    shown = ["NoEffect", "PerturbationShift", "ContextWeightedShift"]
    lines = [
        "| task | no effect | mean shift | weighted shift | best baseline | " + model + " | ceiling | gap closed |"
    ]
    lines.append("|---" * 8 + "|")
    for task in TASKS:
        here = scores[scores["task"] == task.name]
        cells = {}
        for metric, sign in (("energy_distance", 1), ("shift_pearson", -1)):
            part = here[here["metric"] == metric]
            wide = part.pivot_table(index="condition", columns="model", values="value")
            if model not in wide:
                break
            wide = wide[wide[model].notna()].dropna(axis=1)
            means, roles = wide.mean(), dict(zip(part["model"], part["role"], strict=True))
            baselines = means[[name for name in means.index if roles[name] == "baseline"]]
            best = (sign * baselines).idxmin() if len(baselines) else ""
            names = [*shown, best, model, "ceiling"]
            cells[metric] = [f"{means[name]:.2f}" if name in means else "-" for name in names]
        if len(cells) == 2:
            pairs = [e if r == "-" else f"{e} ({r})" for e, r in zip(*cells.values(), strict=True)]
            summary = pc.tl.summarize(here).query("metric == 'energy_distance'").set_index("model")["normalised"]
            share = "-" if pd.isna(summary[model]) else f"{summary[model]:.2f}"
            lines.append(f"| {task.name} | " + " | ".join([*pairs, share]) + " |")
    return "\n".join(lines)


def side_by_side(scores: pd.DataFrame) -> str:
    """Energy distance of every model on the conditions that all of them and the mean shift can predict."""
    models = [name for name in MODELS if name in set(scores["model"])]
    shown = ["NoEffect", "PerturbationShift", "ContextWeightedShift", "best baseline", *models, "ceiling"]
    titles = ["no effect", "mean shift", "weighted shift", *shown[3:]]
    lines = ["| task | n | " + " | ".join(titles) + " |", "|---" * (len(shown) + 2) + "|"]
    for task in TASKS:
        here = scores[(scores["task"] == task.name) & (scores["metric"] == "energy_distance")]
        wide = here.pivot_table(index="condition", columns="model", values="value")
        if not set(models) <= set(wide):
            continue
        wide = wide[wide[models].notna().all(axis=1)].dropna(axis=1)
        baselines = [name for name in set(here.loc[here["role"] == "baseline", "model"]) if name in wide]
        means = wide.mean()
        means["best baseline"] = means[baselines].min()
        cells = [f"{means[name]:.2f}" if name in means else "-" for name in shown]
        lines.append(f"| {task.name} | {len(wide)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(out: Path) -> str:
    """All tables that the files of a folder give."""
    files = sorted(out.glob("*.csv"))
    if not files:
        return "No results yet."
    scores = pd.concat([pd.read_csv(path) for path in files])
    text = [f"### Overview: energy distance (Pearson)\n\n{overview(scores)}\n"]
    text.append(f"### Models side by side: energy distance\n\n{side_by_side(scores)}\n")
    for task in TASKS:
        here = scores[scores["task"] == task.name]
        if len(here):
            text.append(f"### {task.name}\n\n{here['condition'].nunique()} conditions x seeds.\n\n{table(here)}\n")
    return "\n".join(text)


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", help="first words of task names; all by default")
    parser.add_argument("--models", nargs="*", default=["PerturbDiff"], help=f"'all' or some of {', '.join(MODELS)}")
    parser.add_argument("--variants", nargs="*", default=[], help=f"'all' or some of {', '.join(VARIANTS)}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--splits", type=int, default=None, help="at most so many splits of a task")
    parser.add_argument("--jobs", type=int, default=1, help="processes (%(default)s)")
    parser.add_argument("--accelerator", default="cpu")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    names = [*(MODELS if arguments.models == ["all"] else arguments.models)]
    names += VARIANTS if arguments.variants == ["all"] else arguments.variants
    unknown = [name for name in names if name not in MODELS | VARIANTS]
    if unknown:
        sys.exit(f"Unknown: {unknown}. Known: {', '.join(MODELS | VARIANTS)}.")

    jobs: list[tuple[int, int, int]] = []
    for number, task in enumerate(TASKS):
        if not arguments.tasks or any(task.name.startswith(word) for word in arguments.tasks):
            count = sum(1 for _ in islice(task.splits(task.read()), arguments.splits))
            jobs += [(number, split, seed) for seed in range(arguments.seeds) for split in range(count)]
    jobs.sort(key=lambda job: job[2])
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rest: tuple[Any, ...] = (names, arguments.out, arguments.accelerator)
    with ProcessPoolExecutor(arguments.jobs, max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(run_job, *job, *rest) for job in jobs]):
            print(future.exception() or future.result(), flush=True)
    (arguments.out / "quality.md").write_text(report(arguments.out), encoding="utf-8")
    print(report(arguments.out))


if __name__ == "__main__":
    main()
