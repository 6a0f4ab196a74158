"""What threads bring to training on a processor, alone and beside another busy process.

python benchmarks/threads.py [--steps 20]

Milliseconds of a training step of the default on a simulated screen with 2,000 genes, medians over the steps of one
training, in which the number of threads changes half way.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch

import pertcast as pc

if TYPE_CHECKING:
    from collections.abc import Iterator

_WARM_UP = 3


class StepTimes(pl.Callback):
    """Times training steps, the first half of them with one thread."""

    def __init__(self, n_steps: int, n_threads: int) -> None:
        self.n_steps, self.n_threads = n_steps, n_threads
        self.seconds: list[float] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        torch.set_num_threads(1 if batch_idx < self.n_steps else self.n_threads)
        self.seconds.append(time.perf_counter())

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.seconds[-1] = time.perf_counter() - self.seconds[-1]

    def milliseconds(self) -> list[float]:
        """Medians with one thread and with several."""
        halves = np.split(np.array(self.seconds), 2)
        return [1000 * float(np.median(half[_WARM_UP:])) for half in halves]


def _spin() -> None:
    while True:
        pass


@contextmanager
def busy(n: int) -> Iterator[None]:
    """Keep n other processes busy."""
    others = [multiprocessing.get_context("spawn").Process(target=_spin, daemon=True) for _ in range(n)]
    for other in others:
        other.start()
    try:
        time.sleep(5 if others else 0)  # they import torch first
        yield
    finally:
        for other in others:
            other.terminate()


def main() -> None:
    """Print one row for each number of busy processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="steps for each number of threads")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    adata = pc.data.simulate_screen(60, n_genes=2000, n_perturbations=3, combinations=0, seed=0)
    pc.PerturbDiff.setup_anndata(adata, cell_type_key="cell_type")
    n_threads = torch.get_num_threads()
    print(f"| other busy processes | 1 thread, ms a step | {n_threads} threads, ms a step | ratio |")
    print("|---|---|---|---|")
    for n in (0, 1):
        times = StepTimes(_WARM_UP + arguments.steps, n_threads)
        torch.set_num_threads(1)
        with busy(n):
            model = pc.PerturbDiff(adata, seed=0)
            model.train(max_epochs=1, steps_per_epoch=2 * times.n_steps, callbacks=[times])
        one, several = times.milliseconds()
        print(f"| {n} | {one:.0f} | {several:.0f} | {several / one:.2f} |", flush=True)


if __name__ == "__main__":
    main()
