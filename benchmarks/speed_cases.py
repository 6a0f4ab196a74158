"""Screens, models and measurements of `speed.py`; every function can be called alone."""

from __future__ import annotations

import resource
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from lightning.pytorch.callbacks import Callback
from speed_published import PublishedNetwork
from torch.utils.flop_counter import FlopCounterMode

import pertcast as pc

if TYPE_CHECKING:
    from collections.abc import Callable

    type Clock = Callable[[], float]

__all__ = [
    "PUBLISHED",
    "Prediction",
    "Training",
    "controls_of",
    "make_model",
    "matmul_rate",
    "measure_prediction",
    "measure_training",
    "network_cost",
    "peak_mib",
    "screen",
]

PUBLISHED: dict[str, Any] = {"n_hidden": 512, "n_layers": 8, "n_heads": 8, "set_size": 256, "n_controls": 256}
"""Width, depth, heads and set size of the published configuration."""


def screen(
    n_genes: int, *, n_perturbations: int = 10, n_cells: int = 100, n_controls: int | None = None, n_contexts: int = 2
) -> ad.AnnData:
    """Log-normalised sparse counts, about one value in six above 0: controls and perturbed cells of some contexts."""
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.3, 0.5, n_genes)
    blocks, names, contexts = [], [], []
    for context in range(n_contexts):
        of_context = rates * np.exp(rng.normal(0, 0.3, n_genes))
        for number in range(n_perturbations + 1):
            n = n_cells if number else (n_controls or n_cells)
            change = np.exp(rng.normal(0, 0.5, n_genes) * (rng.random(n_genes) < 0.05)) if number else 1.0
            counts = rng.poisson(of_context * change, (n, n_genes)).astype(np.float32)
            blocks.append(sp.csr_matrix(np.log1p(0.8 * counts)))
            names += [f"p{number}" if number else "control"] * n
            contexts += [f"c{context}"] * n
    obs = pd.DataFrame({"perturbation": names, "context": contexts}, index=[f"cell{i}" for i in range(len(names))])
    return ad.AnnData(sp.vstack(blocks, format="csr"), obs=obs)


def controls_of(adata: ad.AnnData) -> ad.AnnData:
    return adata[(adata.obs["perturbation"] == "control").to_numpy()].copy()


def make_model(adata: ad.AnnData, cls: Any = pc.PerturbDiff, *, published: bool = False, **config: Any) -> Any:
    """Make an untrained model; ``published`` puts the published network into it."""
    cls.setup_anndata(adata, cell_type_key="context")
    model = cls(adata, **config)
    if published:
        module: Any = model.module
        sizes = {name: getattr(model.config, name) for name in ("n_hidden", "n_layers", "n_heads")}
        module.network["cells"] = PublishedNetwork(adata.n_vars, **sizes)
        module.average.network["cells"] = PublishedNetwork(adata.n_vars, **sizes).requires_grad_(requires_grad=False)
    return model


class StepTimer(Callback):
    """Seconds of the steps after the first few, and of what the loader kept them waiting."""

    def __init__(self, skip: int, clock: Clock) -> None:
        self.skip, self.clock, self.first, self.waited, self.done = skip, clock, 0.0, 0.0, 0
        self.started, self.ended = 0.0, 0.0
        self.seconds: list[float] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        now = self.clock()
        if batch_idx == 0:
            self.first = now
        if self.done == self.skip:
            _synchronize()
            now = self.started = self.clock()
        elif self.done > self.skip:
            self.waited += now - self.ended

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.done += 1
        if self.done == trainer.num_training_batches:
            _synchronize()
        last, self.ended = self.ended, self.clock()
        if self.done > self.skip + 1:
            self.seconds.append(self.ended - last)


@dataclass(frozen=True)
class Training:
    """What training costs."""

    cells_per_second: float
    step_ms: float
    waited: float
    first_batch: float


@dataclass(frozen=True)
class Prediction:
    """What prediction costs."""

    cells_per_second: float
    seconds: float
    n_cells: int
    output_mib: float


def measure_training(
    model: Any, *, device: str, steps: int, skip: int = 3, clock: Clock = time.perf_counter, **trainer: Any
) -> Training:
    """Train for some steps, without validation; the first ones are not counted. Steps take their median time."""
    timer = StepTimer(skip, clock)
    begin = clock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.train(
            max_epochs=1,
            steps_per_epoch=steps + skip + 1,
            validation_size=0,
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            enable_progress_bar=False,
            callbacks=[timer],
            **trainer,
        )
    total = timer.ended - timer.started
    step = total / (steps + 1) if device == "cuda" else float(np.median(timer.seconds))
    model.module.gate.set(1.0)
    cells = model.config.n_sets * model.config.set_size
    return Training(cells / step, 1e3 * step, timer.waited / total, timer.first - begin)


def measure_prediction(
    model: Any,
    controls: ad.AnnData,
    *,
    repeats: int = 2,
    clock: Clock = time.perf_counter,
    first: str = "p1",
    **request: Any,
) -> Prediction:
    """Predict after a warm-up with one perturbation; the fastest of some repeats."""
    few = {"n_steps": min(request["n_steps"], 2)} if "n_steps" in request else {}
    model.predict(controls, [first], n_cells=2, progressbar=False, **few)
    best, cells = np.inf, None
    for _ in range(repeats):
        begin = clock()
        cells = model.predict(controls, progressbar=False, **request)
        best = min(best, clock() - begin)
    assert cells is not None
    return Prediction(cells.n_obs / best, best, cells.n_obs, matrix_mib(cells.X))


def network_cost(model: Any, *, device: str, n_sets: int = 4, clock: Clock = time.perf_counter) -> tuple[float, float]:
    """Operations of one call of the network for a cell, and cells a second that the network alone makes in calls."""
    config, network = model.config, model.module.average.network["cells"]
    generator = torch.Generator().manual_seed(0)
    n_features = model.module.input.n_features

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    network = network.to(device)
    shape = (n_sets, config.set_size)
    mask = torch.ones(shape, dtype=torch.bool, device=device)
    cells, source, condition = normal(*shape, n_features), normal(*shape, n_features), normal(n_sets, config.n_hidden)
    with torch.inference_mode():
        control_mask = torch.ones(n_sets, config.n_controls, dtype=torch.bool, device=device)
        controls = network.encode_controls(normal(n_sets, config.n_controls, n_features), control_mask)

        def call() -> None:
            network(cells, source, mask, torch.ones(n_sets, device=device), condition, controls)

        with FlopCounterMode(display=False) as counter:
            call()
        seconds = fastest(call, clock=clock)
    n_cells = n_sets * config.set_size
    return counter.get_total_flops() / n_cells, n_cells / seconds


def matmul_rate(n_hidden: int, n_tokens: int, *, device: str, clock: Clock = time.perf_counter) -> float:
    """Operations a second of bare matrix products with the shapes of a block: tokens [T, D] by D, 3 D, 4 D and back."""
    operations = seconds = 0.0
    for rows, columns in ((n_hidden, 3 * n_hidden), (n_hidden, 4 * n_hidden), (4 * n_hidden, n_hidden)):
        a = torch.randn(n_tokens, rows, device=device)
        b = torch.randn(rows, columns, device=device)
        out = torch.empty(n_tokens, columns, device=device)
        seconds += fastest(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), clock=clock)
        operations += 2.0 * n_tokens * rows * columns
    return operations / seconds


def fastest(call: Callable[[], Any], *, clock: Clock, repeats: int = 12, budget: float = 1.0) -> float:
    """Seconds of the fastest of some calls, no more of them than fit into a budget of seconds."""
    call()
    best, spent = np.inf, 0.0
    for _ in range(repeats):
        _synchronize()
        begin = clock()
        call()
        _synchronize()
        seconds = clock() - begin
        best, spent = min(best, seconds), spent + seconds
        if spent > budget:
            break
    return float(best)


def matrix_mib(X: Any) -> float:
    parts = [X] if isinstance(X, np.ndarray) else [X.data, X.indices, X.indptr]
    return sum(part.nbytes for part in parts) / 2**20


def peak_mib() -> float:
    """Peak of the resident memory of this process; ``ru_maxrss`` may be that of the process which started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(float(row.split()[1]) / 1024 for row in status.read_text().splitlines() if row.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
