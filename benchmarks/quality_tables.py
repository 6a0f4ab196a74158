"""Tables of the results of `quality.py`, in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from tasks import TASKS
from variants import MODELS, VARIANTS

import pertcast as pc

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

METRICS = {
    "energy_distance": "energy distance",
    "mmd": "MMD",
    "shift_pearson": "Pearson",
    "shift_pearson_specific": "Pearson, specific",
    "de_overlap": "DE overlap",
    "de_calibration": "DE calibration",
    "variance_ratio": "sd ratio",
}


SHIFTS = ("PerturbationShift", "ContextWeightedShift")

TITLES = {"NoEffect": "no effect", "PerturbationShift": "mean shift", "ContextWeightedShift": "weighted shift"}

LOWER = ("energy_distance", "mmd")
"""Metrics of which lower values are better; of the other headline metrics higher ones are."""

HEADLINE = ("energy_distance", "mmd", "shift_pearson", "shift_pearson_specific", "de_overlap")


def best_baseline(scores: pd.DataFrame, metric: str, model: str) -> tuple[str, pd.DataFrame]:
    """Baseline with the best mean in a metric, and the values of all on the conditions of a model.

    Only baselines count that can predict every condition that the model can.
    """
    here = scores[scores["metric"] == metric]
    wide = here.pivot_table(index="condition", columns="model", values="value")
    if model not in wide:
        return "", wide.iloc[:0]
    wide = wide[wide[model].notna()].dropna(axis=1)
    baselines = sorted(set(here.loc[here["role"] == "baseline", "model"]) & set(wide))
    sign = 1 if metric in LOWER else -1
    return (sign * wide[baselines].mean()).idxmin() if baselines and len(wide) else "", wide


def without_seed(conditions: pd.Index) -> pd.Index:
    """Names of conditions, ``split | seed | condition``, without the seed."""
    return conditions.str.replace(r"^(\d+) \| \d+ \| ", r"\1 | ", regex=True)


def verdicts(scores: pd.DataFrame, model: str = "PerturbDiff") -> str:
    """A model beside the best baseline of each task and metric: ``+`` better, ``=`` within noise, ``-`` worse.

    Noise is twice the standard error over conditions of the paired difference, means over seeds taken first.
    """
    lines = ["| task | " + " | ".join(METRICS[name] for name in HEADLINE) + " |", "|---" * (len(HEADLINE) + 1) + "|"]
    for task in TASKS:
        here = scores[scores["task"] == task.name]
        if model in set(here["model"]):
            cells = [_verdict(here, metric, model) for metric in HEADLINE]
            lines.append(f"| {task.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _verdict(scores: pd.DataFrame, metric: str, model: str) -> str:
    baseline, wide = best_baseline(scores, metric, model)
    if not baseline:
        return "-"
    gain = (wide[baseline] - wide[model]) * (1 if metric in LOWER else -1)
    gain = gain.groupby(without_seed(gain.index)).mean()
    return f"{wide[model].mean():.2g} / {wide[baseline].mean():.2g} {sign(gain)}"


def sign(gain: pd.Series) -> str:
    """``+``, ``=`` or ``-``: how far the mean of gains is from 0, in twice its standard error."""
    error = 2 * float(gain.std()) / len(gain) ** 0.5 if len(gain) > 1 else float("inf")
    return "=" if abs(gain.mean()) <= error else "+" if gain.mean() > 0 else "-"


def table(scores: pd.DataFrame) -> str:
    """One task as a Markdown table, the best energy distance first; n conditions have one."""
    summary = pc.tl.summarize(scores)
    wide = summary.pivot_table(index="model", columns="metric", values="mean", dropna=False)
    wide = wide.reindex(columns=list(METRICS)).sort_values(
        ["energy_distance", "shift_pearson"], ascending=[True, False]
    )
    share = summary[summary["metric"] == "energy_distance"].set_index("model")["normalised"]
    wide.insert(1, "gap closed", share.reindex(wide.index))
    defined = scores[scores["value"].notna()].groupby(["metric", "model"])["condition"].nunique()
    n = defined["energy_distance"].reindex(wide.index).fillna(defined["shift_pearson"]).fillna(0).astype(int)
    lines = ["| model | n | " + " | ".join(METRICS.get(str(c), str(c)) for c in wide.columns) + " |"]
    lines.append("|---" * (len(wide.columns) + 2) + "|")
    for model, row in wide.iterrows():
        if n[model]:
            numbers = ["-" if pd.isna(value) else f"{value:.3g}" for value in row]
            lines.append(f"| {model} | {n[model]} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def overview(scores: pd.DataFrame, model: str = "PerturbDiff") -> str:
    """One row for each task: energy distance and Pearson of a model, of simple baselines and of the best one."""
    shown = ["NoEffect", *SHIFTS]
    lines = [
        "| task | no effect | mean shift | weighted shift | best baseline | " + model + " | ceiling | gap closed |"
    ]
    lines.append("|---" * 8 + "|")
    for task in TASKS:
        here = scores[scores["task"] == task.name]
        cells = {}
        for metric in ("energy_distance", "shift_pearson"):
            best, wide = best_baseline(here, metric, model)
            if wide.empty:
                break
            means = wide.mean()
            names = [*shown, best, model, "ceiling"]
            cells[metric] = [f"{means[name]:.2f}" if name in means else "-" for name in names]
        if len(cells) == 2:
            pairs = [e if r == "-" else f"{e} ({r})" for e, r in zip(*cells.values(), strict=True)]
            gap = _gap_closed(here, model)
            share = "-" if pd.isna(gap) else f"{gap:.2f}"
            lines.append(f"| {task.name} | " + " | ".join([*pairs, share]) + " |")
    return "\n".join(lines)


def mean_gap(scores: pd.DataFrame, model: str = "PerturbDiff") -> str:
    """Mean over tasks of the share of the gap that is closed, as it is and cut off at the ceiling."""
    shares = pd.Series({task.name: _gap_closed(scores[scores["task"] == task.name], model) for task in TASKS}).dropna()
    return f"Mean over {len(shares)} tasks: {shares.mean():.2f}; cut off at 1: {shares.clip(upper=1).mean():.2f}."


def by_split(scores: pd.DataFrame, model: str = "PerturbDiff") -> str:
    """Energy distance on each split of each task: a model / the best baseline of that split."""
    split = scores["condition"].str.split(" | ", regex=False).str[0]
    lines = ["| task | " + " | ".join(sorted(split.unique())) + " |", "|---" * (split.nunique() + 1) + "|"]
    for task in TASKS:
        cells = []
        for number in sorted(split.unique()):
            here = scores[(scores["task"] == task.name) & (split == number)]
            best, wide = best_baseline(here, "energy_distance", model)
            cells.append(f"{wide[model].mean():.2f} / {wide[best].mean():.2f}" if best else "-")
        if set(cells) != {"-"}:
            lines.append(f"| {task.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _gap_closed(scores: pd.DataFrame, model: str) -> float:
    """Normalised score of the energy distance on one task; NaN where there is none."""
    here = scores[scores["metric"] == "energy_distance"]
    if model not in set(here["model"]):
        return float("nan")
    return float(pc.tl.summarize(here).set_index("model")["normalised"][model])


def side_by_side(scores: pd.DataFrame, names: Iterable[str], baselines: Sequence[str] = ()) -> str:
    """Energy distance of some models on the conditions that all of them can predict, means over seeds taken first."""
    models = [name for name in names if name in set(scores["model"])]
    shown = ["NoEffect", *baselines, "best baseline", *models, "ceiling"]
    lines = ["| task | n | " + " | ".join(TITLES.get(name, name) for name in shown) + " |"]
    lines.append("|---" * (len(shown) + 2) + "|")
    for task in TASKS:
        here = scores[(scores["task"] == task.name) & (scores["metric"] == "energy_distance")]
        wide = here.pivot_table(index="condition", columns="model", values="value")
        wide = wide.groupby(without_seed(wide.index)).mean()
        wide = wide[wide[[name for name in models if name in wide]].notna().all(axis=1)].dropna(axis=1)
        if wide.empty:
            continue
        known = [name for name in set(here.loc[here["role"] == "baseline", "model"]) if name in wide]
        means = wide.mean()
        means["best baseline"] = means[known].min()
        cells = [f"{means[name]:.2f}" if name in means else "-" for name in shown]
        lines.append(f"| {task.name} | {len(wide)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def seed_spread(scores: pd.DataFrame, names: Iterable[str]) -> str:
    """Energy distance of some models, mean over conditions: smallest and largest of the seeds."""
    models = [name for name in names if name in set(scores["model"])]
    lines = ["| task | " + " | ".join(models) + " |", "|---" * (len(models) + 1) + "|"]
    energy = scores[scores["metric"] == "energy_distance"]
    energy = energy.assign(seed=energy["condition"].str.split(" | ", regex=False).str[1])
    means = energy.groupby(["task", "model", "seed"])["value"].mean().groupby(["task", "model"]).agg(["min", "max"])
    for task in TASKS:
        found = [means.loc[(task.name, name)] if (task.name, name) in means.index else None for name in models]
        if any(each is not None for each in found):
            cells = ["-" if each is None else f"{each['min']:.2f} to {each['max']:.2f}" for each in found]
            lines.append(f"| {task.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def calibration(scores: pd.DataFrame, names: Sequence[str] = ("NoEffect", *SHIFTS, "PerturbDiff", "ceiling")) -> str:
    """Medians over conditions, means over seeds taken first: standard deviations and numbers of significant genes.

    Both are shown as predicted over measured, first that of the standard deviations, then that of the numbers plus 1.
    """
    lines = ["| task | " + " | ".join(TITLES.get(name, name) for name in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for task in TASKS:
        medians = {}
        for metric in ("variance_ratio", "de_calibration"):
            here = scores[(scores["task"] == task.name) & (scores["metric"] == metric)]
            wide = here.pivot_table(index="condition", columns="model", values="value")
            medians[metric] = wide.groupby(without_seed(wide.index)).mean().median()
        cells = []
        for name in names:
            spread, number = (medians[metric].get(name, float("nan")) for metric in medians)
            ratio = 10**number
            calls = "" if pd.isna(ratio) else f" / {ratio:.0f}" if ratio >= 10 else f" / {ratio:.2g}"
            cells.append("-" if pd.isna(spread) else f"{spread:.2f}{calls}")
        if set(cells) != {"-"}:
            lines.append(f"| {task.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(out: Path) -> str:
    """All tables that the files of a folder give."""
    files = sorted(out.glob("*.csv"))
    if not files:
        return "No results yet."
    scores = pd.concat([pd.read_csv(path) for path in files])
    text = [f"### Overview: energy distance (Pearson)\n\n{overview(scores)}\n\nGap closed. {mean_gap(scores)}\n"]
    text.append(f"### PerturbDiff / best baseline on each split: energy distance\n\n{by_split(scores)}\n")
    text.append(f"### PerturbDiff / best baseline\n\n{verdicts(scores)}\n")
    text.append(f"### Standard deviations / numbers of significant genes, over measured\n\n{calibration(scores)}\n")
    text.append(f"### Models side by side: energy distance\n\n{side_by_side(scores, MODELS, SHIFTS)}\n")
    text.append(f"### Smallest and largest of the seeds\n\n{seed_spread(scores, [*MODELS, *VARIANTS])}\n")
    text.append(f"### Variants: energy distance\n\n{side_by_side(scores, ['PerturbDiff', *VARIANTS])}\n")
    for task in TASKS:
        here = scores[scores["task"] == task.name]
        if len(here):
            text.append(f"### {task.name}\n\n{here['condition'].nunique()} conditions x seeds.\n\n{table(here)}\n")
    return "\n".join(text)
