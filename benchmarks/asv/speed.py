"""Benchmarks for airspeed velocity: speed and memory from commit to commit, on simulated screens.

`asv run` in `benchmarks/`; `asv run --python=same --quick` for the installed package. For ratios to the published
configuration see `benchmarks/speed.py`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

QUIET = {"enable_progress_bar": False, "accelerator": "cpu", "validation_size": 0, "max_epochs": 1}


class Import:
    """What a user waits for before anything is done."""

    def time_import(self) -> None:
        """Import the package in a new process, interpreter included."""
        subprocess.run([sys.executable, "-c", "import pertcast"], check=True)


class Training:
    """Steps of training, with what comes before the first one."""

    params = ([300, 2000], [64, 256], [(128, 3), (256, 4)])
    param_names = ("genes", "set_size", "width_x_depth")
    timeout = 300

    def setup(self, n_genes: int, set_size: int, size: tuple[int, int]) -> None:
        from speed_cases import make_model, screen

        sizes = {"n_hidden": size[0], "n_layers": size[1], "set_size": set_size, "n_sets": 256 // set_size}
        self.model: Any = make_model(screen(n_genes), **sizes)

    def time_one_step(self, *_: Any) -> None:
        """Preparation and one step."""
        self.model.train(steps_per_epoch=1, **QUIET)

    def time_eleven_steps(self, *_: Any) -> None:
        """Preparation and eleven steps: the difference is that of ten."""
        self.model.train(steps_per_epoch=11, **QUIET)


class Prediction:
    """Cells of all perturbations in all contexts, from controls alone."""

    params = ([300, 2000], [10, 200])
    param_names = ("genes", "conditions")
    timeout = 300

    def setup(self, n_genes: int, n_conditions: int) -> None:
        from speed_cases import controls_of, make_model, screen

        adata = screen(n_genes, n_perturbations=n_conditions // 2, n_cells=20, n_controls=60)
        self.model: Any = make_model(adata)
        self.model.train(steps_per_epoch=1, **QUIET)
        self.controls = controls_of(adata)

    def time_predict(self, *_: Any) -> None:
        """One cell for each control and perturbation."""
        self.model.predict(self.controls, progressbar=False)

    def peakmem_predict(self, *_: Any) -> None:
        """The same, and its peak memory with the output."""
        self.model.predict(self.controls, progressbar=False)


class Index:
    """Finding the conditions of a large screen, and their controls."""

    params = (100, 1000, 100_000)
    param_names = ("conditions",)

    def time_index(self, n_conditions: int) -> None:
        """Index ten cells of each condition, a million at most."""
        from speed_rows import index_row

        index_row({"cells": 10 * n_conditions, "conditions": n_conditions, "clock": "wall"})
