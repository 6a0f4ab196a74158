"""Figure of the results of `quality.py` and `independent.py`: python benchmarks/figure.py FOLDER OUT.png.

The distance of PerturbDiff is that of `independent.py`, less what its cells share; all others are those of the tables.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from independent import summary
from quality_tables import best_baseline
from tasks import TASKS

END = 1.6
"""Where the axis ends."""

SHOWN = {
    "PerturbationShift": ("mean shift", "#BBBBBB", "s"),
    "ContextWeightedShift": ("weighted shift", "#888888", "D"),
    "best baseline": ("best baseline", "#222222", "x"),
    "PerturbDiff": ("PerturbDiff, less excess", "#E69F00", "o"),
}
"""Label, colour and marker of each model; the predictions of the package are orange."""


def shares(folder: Path) -> pd.DataFrame:
    """Energy distance of each task and model in units of that of no effect, over the conditions of the tables."""
    scores = pd.concat([pd.read_csv(file) for file in sorted(folder.glob("*.csv"))])
    without, rows = summary(folder)["without"], {}
    for task in TASKS:
        best, wide = best_baseline(scores[scores["task"] == task.name], "energy_distance", "PerturbDiff")
        means = wide.mean()
        means["best baseline"], means["PerturbDiff"] = means[best], without[task.name]
        if means["NoEffect"] > 0.03:  # else nothing can be told from noise
            rows[task.name] = (means / means["NoEffect"]).reindex([*SHOWN, "ceiling"])
    return pd.DataFrame(rows).T


def main() -> None:
    """Draw one row for each task."""
    folder, path = Path(sys.argv[1]), Path(sys.argv[2])
    table = shares(folder).iloc[::-1]
    figure, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
    ax.axvline(1, color="#dddddd", zorder=0)
    ax.axvline(0, color="#dddddd", zorder=0)
    for name, (label, colour, marker) in SHOWN.items():
        ax.scatter(table[name].clip(upper=END), range(len(table)), label=label, color=colour, marker=marker, s=45)
    ax.scatter(table["ceiling"], range(len(table)), label="noise ceiling", color="#0072B2", marker="|", s=120)
    beyond = table[list(SHOWN)].max(axis=1)
    for place, value in enumerate(beyond):
        if value > END:
            ax.annotate(f"{value:.1f} →", (END, place), (-8, 0), textcoords="offset points", ha="right", va="center")
    ax.set_yticks(range(len(table)), table.index)
    ax.xaxis.set_major_locator(plt.MultipleLocator(0.5))
    ax.set_xlabel("energy distance as a share of that of no effect")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, handletextpad=0.2, columnspacing=1)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
