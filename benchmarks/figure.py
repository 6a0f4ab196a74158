"""Figure of the results of `quality.py`: python benchmarks/figure.py FOLDER docs/_static/quality.png."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

SHOWN = {
    "PerturbationShift": ("mean shift", "#BBBBBB", "s"),
    "ContextWeightedShift": ("weighted shift", "#888888", "D"),
    "best baseline": ("best baseline", "#222222", "x"),
    "PerturbDiff": ("PerturbDiff", "#E69F00", "o"),
}
"""Label, colour and marker of each model; the predictions of the package are orange."""


def shares(scores: pd.DataFrame) -> pd.DataFrame:
    """Energy distance of each task and model in units of that of no effect, over conditions that all of them have."""
    scores = scores[scores["metric"] == "energy_distance"]
    rows = {}
    for task, part in scores.groupby("task", sort=False):
        wide = part.pivot_table(index="condition", columns="model", values="value")
        means = wide[[name for name in wide if wide[name].notna().mean() > 0.9]].dropna().mean()
        baselines = set(part.loc[part["role"] == "baseline", "model"]) & set(means.index)
        means["best baseline"] = means[sorted(baselines)].min()
        if means["NoEffect"] > 0.03:  # else nothing can be told from noise
            rows[task] = (means / means["NoEffect"]).reindex([*SHOWN, "ceiling"])
    return pd.DataFrame(rows).T


def main() -> None:
    """Draw one row for each task."""
    folder, path = Path(sys.argv[1]), Path(sys.argv[2])
    table = shares(pd.concat([pd.read_csv(file) for file in sorted(folder.glob("*.csv"))])).iloc[::-1]
    figure, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
    ax.axvline(1, color="#dddddd", zorder=0)
    ax.axvline(0, color="#dddddd", zorder=0)
    for name, (label, colour, marker) in SHOWN.items():
        ax.scatter(table[name].clip(upper=1.6), range(len(table)), label=label, color=colour, marker=marker, s=45)
    ax.scatter(table["ceiling"], range(len(table)), label="noise ceiling", color="#0072B2", marker="|", s=120)
    ax.set_yticks(range(len(table)), table.index)
    ax.xaxis.set_major_locator(plt.MultipleLocator(0.5))
    ax.set_xlabel("energy distance as a share of no effect")
    figure.legend(loc="outside upper center", ncols=5, frameon=False, handletextpad=0.2, columnspacing=1)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
