"""Ways to forecast the mean shift, on the held-out parts of real screens: no network, only means of populations.

python benchmarks/anchors.py [--tasks kang norman] [--splits 5]

For each task, the squared error of the forecast shift, with the sampling noise of the held-out mean taken off, as a
share of the squared length of the shift (no effect has 1), and the mean correlation. Where no other condition shows the
perturbation, the weighted shifts are those of the process. Then what training says of the error of the anchor: that of
training conditions, left out in the same way, how far it is from the error on what is held out in one split, on
average, and how much of the squared shift of what is left out is noise of the controls.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from tasks import TASKS

import pertcast as pc
from pertcast.anchor import AnchorQuery, ShiftAnchor, Transfer, Weighting, forecast_errors
from pertcast.anchor._regimes import regime_of
from pertcast.data import ShiftTable, population_moments
from pertcast.model._forecast import Forecaster, fit_forecaster
from pertcast.model._statistics import fit_components, is_nonnegative

if TYPE_CHECKING:
    from anndata import AnnData

WEIGHTED = {
    "mean shift": Transfer(Weighting("uniform")),
    "context-weighted shift": Transfer(Weighting("kernel", 0.3)),
    "ridge on the state": Transfer(Weighting("ridge", 1.0)),
    "process": Transfer(),
}


@dataclass
class Case:
    """A fitted anchor and the held-out conditions of a split."""

    forecaster: Forecaster
    queries: list[AnchorQuery]
    truth: np.ndarray
    noise: np.ndarray


def make_case(split: AnnData, setup: dict[str, str]) -> Case:
    """Fit the anchor on the training part; measure the held-out shifts against the controls of the whole screen."""
    pc.PerturbDiff.setup_anndata(split, split_key="split", **setup)
    train = pc.PerturbDiff(split).screen
    conditions = train.split(validation_size=0, seed=0).train
    table = ShiftTable.from_index(train.X, train.index, train.controls, conditions)
    components = fit_components(train, conditions, 64, seed=0)
    forecaster = fit_forecaster(train, components, table, nonnegative=is_nonnegative(train.X), seed=0)

    whole = split.copy()
    pc.PerturbDiff.setup_anndata(whole, **setup)
    screen = pc.PerturbDiff(whole).screen
    index, is_test = screen.index, (split.obs["split"] == "test").to_numpy()
    held = np.array([c for c in index.perturbed if is_test[index.groups.rows(c)[0]] and screen.controls.group[c] >= 0])
    real = ShiftTable.from_index(screen.X, index, screen.controls, held)
    _, variance = population_moments(screen.X, index.groups.select(held))
    queries = [
        AnchorQuery(
            index.parts(real.perturbation[i]),
            float(real.dosage[i]),
            real.control_mean[i],
            forecaster.state(real.control_mean[i]),
            index.context_names[real.context[i]],
            index.batch_names[real.batch[i]],
            int(real.n_control[i]),
        )
        for i in range(len(real))
    ]
    return Case(forecaster, queries, real.shift, (variance / real.n_perturbed[:, None]).sum(1))


def forecasts(case: Case) -> dict[str, np.ndarray]:
    """Shifts by every way, each ``[n, G]``."""
    anchor: ShiftAnchor = case.forecaster.anchor
    rows = np.arange(len(anchor.populations))
    found = {"no effect": np.zeros_like(case.truth)}
    for name, transfer in WEIGHTED.items():
        found[name] = np.stack([anchor.forecasts.by_transfer(query, rows, transfer) for query in case.queries])
    found["anchor"] = np.stack([anchor.shift(query) for query in case.queries])
    return found


def left_out(case: Case) -> np.ndarray:
    """Squared error, squared shift and noise of the controls of training conditions, left out as in the test."""
    anchor = case.forecaster.anchor
    kinds = {_kind(anchor, query) for query in case.queries}
    errors = [error for error in forecast_errors(anchor) if error.left_out in kinds]
    return np.array([[e.squared_error, e.squared_shift, e.control_noise] for e in errors]).reshape(-1, 3).sum(0)


def held_out(case: Case, shift: np.ndarray) -> np.ndarray:
    """Squared error and squared shift of held-out conditions."""
    squares = (np.square(each).sum(1) - case.noise for each in (shift - case.truth, case.truth))
    return np.array([each.sum() for each in squares])


def _kind(anchor: ShiftAnchor, query: AnchorQuery) -> str | None:
    """What is new about a condition."""
    regime = regime_of(anchor.populations, query)
    if regime != "perturbation":
        return regime
    if query.perturbation in anchor.populations.rows_of:
        return "condition"
    return "combination" if len(query.perturbation) > 1 else "perturbation"


def main() -> None:
    """Print one row for each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", help="first words of task names; all by default")
    parser.add_argument("--splits", type=int, default=None, help="at most so many splits of a task")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    names = ["no effect", *WEIGHTED, "anchor"]
    print(
        "| task | n | " + " | ".join([*names, "left out", "off by", "noise"]) + " |\n" + "|---" * (len(names) + 5) + "|"
    )
    for task in TASKS:
        if arguments.tasks and not any(task.name.startswith(word) for word in arguments.tasks):
            continue
        cases = [make_case(split, task.setup) for split in islice(task.splits(task.read(), 0), arguments.splits)]
        cells, n = [], sum(len(case.queries) for case in cases)
        shifts = [forecasts(case) for case in cases]
        length = sum((np.square(c.truth).sum(1) - c.noise).sum() for c in cases)
        for name in names:
            pairs = list(zip(cases, (shift[name] for shift in shifts), strict=True))
            error = sum((np.square(f - c.truth).sum(1) - c.noise).sum() for c, f in pairs)
            pearson = [
                np.corrcoef(x, y)[0, 1] for c, f in pairs for x, y in zip(f, c.truth, strict=True) if x.std() > 0
            ]
            cells.append(f"{error / length:.2f}" + (f" ({np.mean(pearson):.2f})" if pearson else ""))
        training = np.array([left_out(case) for case in cases])
        real = np.array([held_out(case, shift["anchor"]) for case, shift in zip(cases, shifts, strict=True)])
        error, length, noise = training.sum(0)
        if length > 0:
            told = training[:, 1] > 0  # some splits may have nothing to leave out
            gaps = np.abs(training[told, 0] / training[told, 1] - real[told, 0] / real[told, 1])
            cells += [f"{error / length:.2f}", f"{gaps.mean():.2f}", f"{noise / length:.0%}"]
        else:
            cells += ["-"] * 3
        print(f"| {task.name} | {n} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
