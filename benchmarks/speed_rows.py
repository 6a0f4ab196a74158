"""What `speed.py` measures of one configuration; every function takes a job and can run in a process of its own."""

from __future__ import annotations

import cProfile
import os
import pstats
import time
from pathlib import Path
from typing import Any

import numpy as np
from speed_cases import (
    controls_of,
    make_model,
    matmul_rate,
    matrix_mib,
    measure_prediction,
    measure_training,
    network_cost,
    peak_mib,
    screen,
)
from variants import MODELS

import pertcast as pc

__all__ = ["CLOCKS", "agreement_row", "grid_row", "index_row", "memory_row", "model_row", "profile_row", "same_size"]

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

PARTS = {
    "network": [("nn/_population.py", "forward"), ("nn/_controls.py", "forward"), ("nn/_condition.py", "forward")],
    "noise": [("diffusion/_noise.py", "initial_noise")],
    "sampler: moves, projections, sums": [("module/_perturbdiff.py", "sample")],
    "zeros": [("model/_zeros.py", "__call__")],
    "anchor": [("model/_forecast.py", "shift")],
    "reading control cells": [("data/_query.py", "gather")],
    "writing the output": [("data/_predicted_cells.py", "add")],
}
"""Functions that make up a prediction."""


def same_size(job: dict[str, Any]) -> dict[str, float]:
    """Training and prediction of one configuration, and the share of the matrix products' rate it reaches."""
    device, quick = job["device"], job["quick"]
    many = device == "cuda"
    adata = screen(2000, n_cells=256 if quick else 1024, n_perturbations=2, n_contexts=1)
    controls = controls_of(adata)
    published = job.get("published", False)
    slow = published or job["config"].get("preset") == "reference"
    model = make_model(adata, published=published, **job["config"])
    trained = measure_training(
        model,
        device=device,
        steps=30 if many else (1 if slow else 4),
        skip=5 if many else 1,
        clock=CLOCKS[job["clock"]],
        **job["trainer"],
    )
    operations, alone = network_cost(
        model,
        device=device,
        n_sets=max(1, (2**25 if many else 2**21) // adata.n_vars // model.config.set_size),  # those of a prediction
        clock=CLOCKS[job["clock"]],
    )
    calls = model.config.n_steps * (2 if model.config.guidance_scale else 1)
    request: dict[str, Any] = {}
    steps = model.config.n_steps
    if slow and not many:  # all steps cost the same: a few tell the cost of all
        steps = 1 if quick else 4
        request = {"n_steps": steps, "n_cells": 256, "perturbations": ["p1"], "repeats": 1}
    predicted = measure_prediction(model, controls, clock=CLOCKS[job["clock"]], **request)
    cells_per_second = predicted.cells_per_second * steps / model.config.n_steps
    tokens = 65_536 if many else 2048
    rate = matmul_rate(model.config.n_hidden, tokens, device=device, clock=CLOCKS[job["clock"]])
    train_ms = trained.step_ms
    if published:  # one coin a step decides on the second pass in the published training, here all sets take it
        cells = model.config.n_sets * model.config.set_size
        train_ms -= 1e3 * 0.5 * cells / alone
    return {
        "train": trained.cells_per_second * trained.step_ms / train_ms,
        "waited": trained.waited,
        "predict": cells_per_second,
        "calls": calls,
        "operations": operations,
        "rate": rate,
        "network": operations * alone / rate,
        "whole": operations * calls * cells_per_second / rate,
        "outside": 1 - calls * cells_per_second / alone,
    }


def agreement_row(job: dict[str, Any]) -> dict[str, float]:
    """Energy distance of an unseen cell type after a full training, and the speed of its prediction."""
    adata = pc.data.simulate_screen(
        60, n_genes=300, n_cell_types=5, n_donors=1, n_perturbations=4, combinations=0, n_programmes=8, seed=0
    )
    pc.pp.split(adata, "context", hold_out=["type_0"], cell_type_key="cell_type")
    pc.PerturbDiff.setup_anndata(adata, cell_type_key="cell_type", split_key="split")
    model = pc.PerturbDiff(adata, **job["config"])
    device = "gpu" if job["device"] == "cuda" else "cpu"
    model.train(accelerator=device, devices=1, enable_progress_bar=False, **job["trainer"])
    here = adata[(adata.obs["cell_type"] == "type_0").to_numpy()].copy()
    measured = measure_prediction(model, controls_of(here), clock=CLOCKS[job["clock"]], repeats=1, first="pert_0")
    predicted = model.predict(controls_of(here), progressbar=False)
    scores = pc.tl.evaluate(
        here,
        predicted,
        control="control",
        train=adata[(adata.obs["split"] == "train").to_numpy()],
        groupby="cell_type",
        metrics=["energy_distance"],
        baselines=["PerturbationShift"],
        progressbar=False,
    )
    means = scores.groupby("model")["value"].mean()
    return {
        "steps": float(model.trainer.global_step),
        "calls": model.config.n_steps * (2 if model.config.guidance_scale else 1),
        "predict": measured.cells_per_second,
        "energy": float(means["predicted"]),
        "shift": float(means["PerturbationShift"]),
        "ceiling": float(means["ceiling"]),
    }


def grid_row(job: dict[str, Any]) -> dict[str, float]:
    """One row of the grid: everything that is measured of one configuration."""
    device, many = job["device"], job["device"] == "cuda"
    n_genes, config = job["genes"], job["config"]
    perturbations, cells = job.get("perturbations", 5), job.get("cells", 256)
    adata = screen(n_genes, n_perturbations=perturbations, n_cells=cells, n_contexts=2)
    controls = controls_of(adata)
    model = make_model(adata, **config)
    trained = measure_training(
        model,
        device=device,
        steps=30 if many else job["steps"],
        skip=5 if many else 2,
        clock=CLOCKS[job["clock"]],
        **job["trainer"],
    )
    train_peak = peak_mib()
    predicted = measure_prediction(model, controls, repeats=1 if perturbations > 100 else 2, clock=CLOCKS[job["clock"]])
    operations, _ = network_cost(model, device=device)
    settings = model.config
    batch = settings.n_sets * settings.set_size
    return {
        "genes": n_genes,
        "set_size": settings.set_size,
        "n_hidden": settings.n_hidden,
        "n_layers": settings.n_layers,
        "conditions": 2 * perturbations,
        "data_mib": matrix_mib(adata.X),
        "train": trained.cells_per_second,
        "waited": trained.waited,
        "first": trained.first_batch,
        "predict": predicted.cells_per_second,
        "train_peak": train_peak,
        "peak": peak_mib() - predicted.output_mib,
        # terms of the cost model
        "step": 1.0,
        "step_seconds": 1e-3 * trained.step_ms,
        "Gop trained": 3e-9 * batch * operations,
        "value trained": 1e-9 * batch * n_genes,
        "predict_seconds": predicted.seconds,
        "population": 2.0 * perturbations,
        "Gop predicted": 1e-9 * predicted.n_cells * operations,
        "value predicted": 1e-9 * predicted.n_cells * n_genes,
    }


def model_row(job: dict[str, Any]) -> dict[str, float]:
    """Training and prediction of one class of models with its defaults."""
    clock = CLOCKS[job["clock"]]
    adata = screen(2000, n_perturbations=5, n_cells=256, n_contexts=2)
    model = make_model(adata, MODELS[job["model"]])
    n_steps = model._budget(10, None, None).n_steps
    trained = measure_training(model, device=job["device"], steps=8, skip=2, clock=clock, **job["trainer"])
    predicted = measure_prediction(model, controls_of(adata), repeats=1, clock=clock)
    return {
        "train": trained.cells_per_second,
        "steps": n_steps,
        "seconds": trained.first_batch + 1e-3 * trained.step_ms * n_steps,
        "predict": predicted.cells_per_second,
    }


def memory_row(job: dict[str, Any]) -> dict[str, float]:
    """Peak memory of a prediction of few or many conditions, or of few or many cells, by one model."""
    model = make_model(screen(2000, n_perturbations=10, n_cells=50, n_contexts=2))
    measure_training(model, device=job["device"], steps=2, skip=1)
    # Rows that are compared hold the same controls; conditions are made by contexts that were never seen.
    controls = screen(2000, n_perturbations=0, n_controls=job["controls"], n_contexts=job["contexts"])
    names = [f"p{i + 1}" for i in range(min(10, job["conditions"]))]
    contexts = [f"c{i}" for i in range(job["conditions"] // len(names))]
    model.predict(controls, names[:1], n_cells=2, contexts=contexts[:1], progressbar=False)
    before = resident_mib()
    reset_peak()
    begin = CLOCKS[job["clock"]]()
    predicted = model.predict(controls, names, n_cells=job["cells"], contexts=contexts, progressbar=False)
    seconds = CLOCKS[job["clock"]]() - begin
    output = matrix_mib(predicted.X) + predicted.obs.memory_usage(deep=True).sum() / 2**20
    return {
        "conditions": job["conditions"],
        "seconds": seconds,
        "cells": predicted.n_obs,
        "before": before,
        "peak": peak_mib(),
        "output": float(output),
    }


def profile_row(job: dict[str, Any]) -> dict[str, float]:
    """Shares of the time of a prediction, by what is done; nested parts are taken from those around them."""
    adata = screen(2000, n_perturbations=10, n_cells=256, n_contexts=2)
    model = make_model(adata)
    measure_training(model, device=job["device"], steps=2, skip=1)
    controls = controls_of(adata)
    model.predict(controls, ["p1"], progressbar=False)
    profiler = cProfile.Profile(CLOCKS[job["clock"]])
    profiler.runcall(model.predict, controls, progressbar=False)
    seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    total = 0.0
    for (path, _, name), (_, _, own, cumulative, _) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        total += own
        for part, places in PARTS.items():
            if any(path.endswith(file) and name == function for file, function in places):
                seconds[part] += cumulative
    seconds["sampler: moves, projections, sums"] -= seconds["network"] + seconds["noise"]
    seconds["checks, tables and the rest"] = total - sum(seconds.values())
    return {part: value / total for part, value in seconds.items()}


def resident_mib() -> float:
    """Resident memory of this process now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return peak_mib()


def reset_peak() -> None:
    """Let the kernel count the peak from here, where it can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def index_row(job: dict[str, Any]) -> dict[str, float]:
    """Seconds to index cells of many conditions and match their controls."""
    from pertcast.data import ConditionIndex, match_controls

    rng = np.random.default_rng(0)
    n_cells, n = job["cells"], job["conditions"]
    perturbation = rng.integers(0, n // 20 + 1, n_cells, dtype=np.int32)
    begin = CLOCKS[job["clock"]]()
    index = ConditionIndex.from_codes(
        perturbation,
        ["control", *(f"p{i}" for i in range(n // 20))],
        context=rng.integers(0, 20, n_cells, dtype=np.int16),
        context_names=[f"c{i}" for i in range(20)],
    )
    match_controls(index)
    return {"conditions": len(index.perturbed), "seconds": CLOCKS[job["clock"]]() - begin, "cells": n_cells}
