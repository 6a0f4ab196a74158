"""Choosing how much of the network to add to the anchor, on held-out conditions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pertcast.diffusion import energy_distance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pertcast.module import PopulationModule

__all__ = ["NO_EVIDENCE", "choose_gate"]

logger = logging.getLogger(__name__)

NO_EVIDENCE = 0.5
"""Gate without held-out conditions: nothing speaks for the network or against it."""

_VALUES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
_RESAMPLES = 2000


@torch.no_grad()
def choose_gate(module: PopulationModule, batches: Iterable[Any], *, seed: int) -> None:
    """Set the gate of a module by the energy distance on held-out conditions.

    The best value is found on 2000 bootstrap samples of the conditions, and the gate is the mean of these: near the
    best value where conditions agree, and in between where they do not. A condition counts by the number of its cells
    that were drawn, because the distance to few cells is mostly noise.

    Parameters
    ----------
    module
        Trained module, in evaluation mode.
    batches
        Batches of held-out conditions.
    seed
        Seed of the noise and of the bootstrap.

    References
    ----------
    Breiman (1996), Bagging Predictors, Machine Learning 24.
    """
    distances: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    for number, batch in enumerate(batches):
        tensors = {key: value.to(module.device) for key, value in batch.items()}
        mask = tensors["mask"]
        found = []
        for value in _VALUES:
            module.gate.set(float(value))
            generator = torch.Generator(device=module.device).manual_seed(seed + number)
            cells, target = module.one_step(tensors, generator)
            found.append(energy_distance(cells, target, mask, mask).cpu().double().numpy())
        distances.append(np.stack(found, axis=1))
        sizes.append(mask.sum(dim=1).cpu().numpy())
    table, size = np.concatenate(distances), np.concatenate(sizes)
    module.gate.set(_bagged_best(table, size, seed=seed))
    alone, whole = size @ table[:, [0, -1]] / size.sum()
    logger.info(
        "Gate of the network: %.2f (energy distance on %d held-out conditions: anchor alone %.3f, whole network %.3f).",
        float(module.gate.value),
        len(size),
        alone,
        whole,
    )


def _bagged_best(table: np.ndarray, size: np.ndarray, *, seed: int) -> float:
    """Mean of the best values on bootstrap samples of conditions, whatever their order; [C, V] distances."""
    order = np.lexsort((*table.T, size))
    n = len(order)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    return float(_VALUES[((counts * size[order]) @ table[order]).argmin(axis=1)].mean())
