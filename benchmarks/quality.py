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
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
from quality_tables import METRICS, report
from tasks import TASKS, Task
from variants import MODELS, VARIANTS

import pertcast as pc


def run_job(
    number: int,
    split_number: int,
    seed: int,
    division: int,
    names: list[str],
    metrics: list[str],
    out: Path,
    accelerator: str,
) -> str:
    """Train and score some models on one split of one task with one seed, and write the table."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("pertcast").setLevel(logging.ERROR)
    task, start = TASKS[number], time.perf_counter()
    path = task.file(out, split_number, seed)
    split = next(islice(task.splits(task.read(), division), split_number, None))
    done = pd.read_csv(path) if path.exists() else baselines_of(out, task, split_number, seed)
    missing = {name: (MODELS | VARIANTS)[name] for name in names if done.empty or name not in set(done["model"])}
    if not missing:
        return f"{path.stem}: nothing to do"
    scores = pc.tl.benchmark(
        missing,
        split,
        setup=task.setup,
        task=task.name,
        metrics=metrics,
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
    path = task.file(out, split_number, 0)
    if seed == 0 or not path.exists():
        return pd.DataFrame()
    scores = pd.read_csv(path)
    scores = scores[~scores["model"].isin([*MODELS, *VARIANTS])].copy()
    scores["condition"] = scores["condition"].str.replace(
        f"{split_number} | 0 | ", f"{split_number} | {seed} | ", regex=False
    )
    return scores


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", help="first words of task names; all by default")
    parser.add_argument("--models", nargs="*", default=["PerturbDiff"], help=f"'all' or some of {', '.join(MODELS)}")
    parser.add_argument("--variants", nargs="*", default=[], help=f"'all' or some of {', '.join(VARIANTS)}")
    parser.add_argument("--metrics", nargs="+", default=list(METRICS), choices=list(METRICS), help="all by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--splits", type=int, default=None, help="at most so many splits of a task")
    parser.add_argument("--division", type=int, default=0, help="how conditions are divided; use one folder for each")
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
            count = sum(1 for _ in islice(task.splits(task.read(), arguments.division), arguments.splits))
            jobs += [(number, split, seed) for seed in range(arguments.seeds) for split in range(count)]
    jobs.sort(key=lambda job: job[2])
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rest: tuple[Any, ...] = (
        arguments.division,
        names,
        arguments.metrics,
        arguments.out,
        arguments.accelerator,
    )
    with ProcessPoolExecutor(arguments.jobs, max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(run_job, *job, *rest) for job in jobs]):
            print(future.exception() or future.result(), flush=True)
    (arguments.out / "quality.md").write_text(report(arguments.out), encoding="utf-8")
    print(report(arguments.out))


if __name__ == "__main__":
    main()
