"""The demonstration's screen, what it holds out, and how it reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["DEFAULT", "METRICS", "QUICK", "DemoSize", "HeldOut", "choose_held_out", "format_scores"]

METRICS = {
    "energy_distance": "Energy distance to the real cells, all genes (lower is better)",
    "shift_pearson": "Pearson correlation of the mean shift, all genes (higher is better)",
}
"""Metrics of the demonstration, and how the table calls them."""


_ORDER = ("control", "mean shift", "weighted shift", "PerturbDiff", "noise ceiling")


class DemoSize(NamedTuple):
    """Size of the demonstration.

    ``n_combinations`` of at least 2 leaves combinations to learn from when one is held out. Effects and sequencing are
    strong enough for the energy distance to tell control cells from perturbed ones at these numbers of cells.
    """

    n_cells_per_condition: int
    n_genes: int
    n_cell_types: int
    n_donors: int
    n_perturbations: int
    n_combinations: int
    effect_size: float = 2.0
    median_counts: float = 3000.0
    max_epochs: int | None = None


DEFAULT = DemoSize(75, 800, n_cell_types=6, n_donors=2, n_perturbations=5, n_combinations=3)
QUICK = DemoSize(50, 300, n_cell_types=5, n_donors=2, n_perturbations=3, n_combinations=2)


class HeldOut(NamedTuple):
    """What is held out: all perturbed cells of a cell type, and a combination in all cell types."""

    cell_type: str
    combination: str

    def mask(self, obs: pd.DataFrame) -> np.ndarray:
        """Tell which cells are held out, bool ``[N]``; controls never are.

        Parameters
        ----------
        obs
            Table of cells with the columns ``perturbation`` and ``cell_type``.
        """
        of_type = (obs["cell_type"] == self.cell_type) & (obs["perturbation"] != "control")
        return (of_type | (obs["perturbation"] == self.combination)).to_numpy()


def choose_held_out(obs: pd.DataFrame, rng: np.random.Generator) -> HeldOut:
    """Choose a cell type and a combination at random.

    Parameters
    ----------
    obs
        Table of cells with the columns ``perturbation`` and ``cell_type``.
    rng
        Source of randomness.

    Raises
    ------
    ValueError
        If the screen has no combination.
    """
    combinations = sorted(name for name in obs["perturbation"].unique() if "+" in name)
    if not combinations:
        raise ValueError("The screen has no combination of perturbations to hold out. Simulate at least one.")
    return HeldOut(str(rng.choice(sorted(obs["cell_type"].unique()))), str(rng.choice(combinations)))


def format_scores(scores: pd.DataFrame, metric: str) -> str:
    """Lay out one metric as text: a row for each held-out condition and their mean, a column for each model.

    Parameters
    ----------
    scores
        Columns ``perturbation``, ``cell_type``, ``model``, ``metric`` and ``value``; rows in the order to print.
    metric
        Metric to show.

    Examples
    --------
    >>> import pandas as pd
    >>> row = {"perturbation": "A", "cell_type": "T", "model": "control", "metric": "m", "value": 0.5}
    >>> format_scores(pd.DataFrame([row]), "m").splitlines()[-1].split()
    ['mean', '0.500']
    """
    chosen = scores[scores["metric"] == metric]
    wide = chosen.set_index(["perturbation", "cell_type", "model"])["value"].unstack("model")
    models = list(chosen["model"].unique())
    wide = wide[sorted(models, key=lambda name: (_ORDER.index(name) if name in _ORDER else 0, name))]
    wide.loc[("mean", ""), :] = wide.mean()
    lines = wide.reset_index().rename(columns={"cell_type": "cell type"}).rename_axis(columns=None)
    return lines.to_string(index=False, float_format="{:.3f}".format, na_rep="-")
