"""Screens with many cells or conditions: what they take beside steps and predicted cells, and from a file.

Used by `speed.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
from lightning.pytorch.callbacks import Callback
from speed_cases import controls_of, make_model, measure_training, peak_mib, screen
from speed_rows import CLOCKS

from pertcast.model._budget import default_budget

if TYPE_CHECKING:
    from speed_cases import Clock
    from speed_fit import CostModel

__all__ = ["LARGE", "ORDERS", "extrapolation", "file_row", "large_lines", "large_row", "write_row"]

LARGE = [
    {"perturbations": 25, "cells": 100, "contexts": 4},
    {"perturbations": 25, "cells": 5000, "contexts": 4},
    {"perturbations": 1000, "cells": 20, "contexts": 4},
    {"perturbations": 80, "cells": 20, "contexts": 50},
]
"""Perturbations in each context, and cells of each condition: few, many cells, many conditions, many contexts."""

ORDERS = ("by condition", "random")
"""Orders of cells in a file."""

SCREENS = {
    "Replogle-Nadig": (643_413, 8_092, 844),
    "Parse PBMC": (9_697_974, 19_244, 84),
    "Tahoe-100M": (101_200_000, 56_850, 101),
}
"""Cells, conditions (perturbation and context; donor too for PBMC), genes above 0 of a cell among 2,000."""

_N_GENES = 2000


class ValidationTimer(Callback):
    """Seconds of all rounds of validation."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.started, self.seconds = clock, 0.0, 0.0

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self.started = self.clock()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.seconds += self.clock() - self.started


def large_row(job: dict[str, Any]) -> dict[str, float]:
    """One step of training and one round of validation with all that comes before and after, and tiny predictions."""
    clock = CLOCKS[job["clock"]]
    adata = screen(_N_GENES, n_perturbations=job["perturbations"], n_cells=job["cells"], n_contexts=job["contexts"])
    model, timer = make_model(adata), ValidationTimer(clock)
    begin = clock()
    model.train(
        max_epochs=1,
        steps_per_epoch=1,
        accelerator="gpu" if job["device"] == "cuda" else "cpu",
        devices=1,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        callbacks=[timer],
    )
    beside = clock() - begin - timer.seconds
    trained_peak = peak_mib()
    controls, names = controls_of(adata), [f"p{i + 1}" for i in range(25)]
    model.predict(controls, names[:1], n_cells=1, progressbar=False)
    begin = clock()
    predicted = model.predict(controls, names, n_cells=1, progressbar=False)
    return {
        "cells": adata.n_obs,
        "conditions": job["contexts"] * job["perturbations"],
        "contexts": job["contexts"],
        "beside": beside,
        "validation": timer.seconds,
        "population": (clock() - begin) / predicted.n_obs,
        "peak": trained_peak,
    }


def write_row(job: dict[str, Any]) -> None:
    """Write the screen with many cells to a file, without compression, in both orders."""
    adata = screen(_N_GENES, n_perturbations=25, n_cells=job["cells"], n_contexts=4)
    adata.write_h5ad(job["folder"] / f"{ORDERS[0]}.h5ad")
    adata[np.random.default_rng(0).permutation(adata.n_obs)].write_h5ad(job["folder"] / f"{ORDERS[1]}.h5ad")


def file_row(job: dict[str, Any]) -> dict[str, float]:
    """Training on a file that is read as a whole or as cells are needed."""
    adata = ad.read_h5ad(job["folder"] / f"{job['order']}.h5ad", backed="r" if job["backed"] else None)
    begin = CLOCKS[job["clock"]]()
    model = make_model(adata)
    registered = CLOCKS[job["clock"]]() - begin
    trained = measure_training(model, device=job["device"], steps=20, skip=2, clock=CLOCKS[job["clock"]])
    return {
        "train": trained.cells_per_second,
        "waited": trained.waited,
        "first": registered + trained.first_batch,
        "peak": peak_mib(),
    }


def large_lines(rows: list[dict[str, float]]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of the table of :func:`large_row`."""
    header = [
        "cells", "conditions", "contexts", "before and after the steps, s", "a round of validation, s",
        "predicted population, ms", "peak of training, MiB",
    ]  # fmt: skip
    lines = [
        [
            f"{r['cells']:,.0f}",
            f"{r['conditions']:,.0f}",
            f"{r['contexts']:.0f}",
            f"{r['beside']:.1f}",
            f"{r['validation']:.1f}",
            f"{1e3 * r['population']:.0f}",
            f"{r['peak']:,.0f}",
        ]
        for r in rows
    ]
    return header, lines


def extrapolation(
    models: dict[str, CostModel], default: dict[str, float], rows: list[dict[str, float]]
) -> tuple[list[str], list[list[str]]]:
    """What large screens cost with the default model, by the rows of :func:`large_row` and costs of steps and cells.

    Beyond some thousand conditions forecasts and validation take hardly longer, so many conditions cost what they cost
    in the dearer of the last two rows; cells cost more in proportion.
    """
    few, cells, *many = rows
    conditions = max(many, key=lambda row: row["beside"])
    of_cell = max(cells["beside"] - few["beside"], 0.0) / (cells["cells"] - few["cells"])
    operations = default["Gop trained"] / (3e-9 * 256)
    step = models["seconds of a training step"](**{k: default[k] for k in ("step", "Gop trained", "value trained")})
    lines = []
    for name, (n_cells, n_conditions, stored) in SCREENS.items():
        budget = default_budget(n_conditions)
        beside = conditions["beside"] + of_cell * (n_cells - conditions["cells"])
        training = budget.n_steps * step + budget.max_epochs * max(row["validation"] for row in many)
        work = {"Gop predicted": 1e-9 * n_cells * operations, "value predicted": 1e-9 * n_cells * _N_GENES}
        populations = n_conditions * max(row["population"] for row in rows)
        predict = models["seconds of a prediction"](population=0, **work) + populations
        lines.append(
            [
                name,
                f"{n_cells / 1e6:.3g} M",
                f"{n_conditions:,}",
                f"{beside / 60:.3g}",
                f"{training / 60:.3g}",
                f"{predict / 60:.3g}",
                f"{8 * stored * n_cells / 2**30:.3g}",
            ]
        )
    header = [
        "screen", "cells", "conditions", "before and after, min", "training, min", "predicting all cells, min",
        "2,000 genes in memory (sparse), GiB",
    ]  # fmt: skip
    return header, lines
