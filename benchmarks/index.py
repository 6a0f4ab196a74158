"""Time and memory of indexing a large screen: conditions, matched controls, and the rows of a first training batch.

python benchmarks/index.py [--cells 10000000] [--conditions 100000]
"""

from __future__ import annotations

import argparse
import logging
import resource
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.data import ConditionIndex, PopulationSampler, match_controls

if TYPE_CHECKING:
    from collections.abc import Callable

N_CONTEXTS, N_BATCHES, CONTROL_SHARE = 20, 50, 0.05


def simulate_codes(n_cells: int, n_perturbations: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Codes of the perturbation (0 is the control), context and batch of each cell, in random order."""
    perturbation = rng.integers(1, n_perturbations + 1, n_cells, dtype=np.int32)
    perturbation[rng.random(n_cells) < CONTROL_SHARE] = 0
    context, batch = (rng.integers(0, n, n_cells, dtype=np.int16) for n in (N_CONTEXTS, N_BATCHES))
    return perturbation, context, batch


def measured(name: str, function: Callable[[], Any]) -> Any:
    """Run a function; print its seconds, then, in a second run, the peak of the memory that it allocates."""
    start = time.perf_counter()
    function()
    seconds = time.perf_counter() - start
    tracemalloc.start()
    result = function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{name:32} {seconds:8.2f} s {peak / 2**20:10.1f} MiB peak", flush=True)
    return result


def kept_bytes(*owners: Any) -> int:
    """Bytes of the distinct arrays that objects keep."""
    arrays: dict[int, np.ndarray] = {}
    for owner in owners:
        for value in vars(owner).values():
            if isinstance(value, np.ndarray):
                base = value if value.base is None else value.base
                arrays[id(base)] = base
    return sum(array.nbytes for array in arrays.values())


def main() -> None:
    """Build, match, draw, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=10_000_000)
    parser.add_argument("--conditions", type=int, default=100_000)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)

    n_perturbations = max(1, arguments.conditions // (N_CONTEXTS * N_BATCHES))
    perturbation, context, batch = simulate_codes(arguments.cells, n_perturbations, np.random.default_rng(0))
    labels = ["control", *(f"p{i}" for i in range(n_perturbations))]

    def build() -> ConditionIndex:
        return ConditionIndex.from_codes(
            perturbation,
            labels,
            context=context,
            context_names=[f"c{i}" for i in range(N_CONTEXTS)],
            batch=batch,
            batch_names=[f"b{i}" for i in range(N_BATCHES)],
        )

    index = measured("ConditionIndex", build)
    controls = measured("matched controls", lambda: match_controls(index))
    request = measured(
        "sampler and first batch",
        lambda: next(
            iter(
                PopulationSampler(
                    index.groups, controls, index.perturbed, n_sets=4, set_size=64, n_controls=128, steps_per_epoch=1
                )
            )
        ),
    )
    kept = kept_bytes(index, index.groups, controls, controls.groups)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"{arguments.cells} cells, {len(index.perturbed)} perturbed conditions")
    print(f"first batch: targets {request.target.shape}, controls {request.control.shape}")
    print(f"kept: {kept / 2**20:.1f} MiB, {kept / arguments.cells:.2f} bytes per cell")
    print(f"peak resident memory of the process: {resident / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
