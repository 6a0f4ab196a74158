"""Choosing how much of the network to add to the anchor, on held-out conditions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from pertcast.diffusion import energy_distance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pertcast.module import PopulationModule

__all__ = ["choose_gate"]

logger = logging.getLogger(__name__)

_VALUES = (0.0, 0.25, 0.5, 0.75, 1.0)


@torch.no_grad()
def choose_gate(module: PopulationModule, batches: Iterable[Any], *, seed: int) -> None:
    """Set the gate of a module to the value with the lowest energy distance on held-out conditions.

    A condition counts by the number of its cells that were drawn, because the distance to few cells is mostly noise.
    Among values that are worse than the best by no more than the standard error over conditions, the smallest is
    chosen: without evidence the prediction stays with the anchor.

    Parameters
    ----------
    module
        Trained module, in evaluation mode.
    batches
        Batches of held-out conditions.
    seed
        Seed of the noise.
    """
    distances: dict[float, list[torch.Tensor]] = {value: [] for value in _VALUES}
    sizes: list[torch.Tensor] = []
    for number, batch in enumerate(batches):
        tensors = {key: value.to(module.device) for key, value in batch.items()}
        sizes.append(tensors["mask"].sum(dim=1).cpu())
        for value in _VALUES:
            module.gate.set(value)
            generator = torch.Generator(device=module.device).manual_seed(seed + number)
            cells, target = module.one_step(tensors, generator)
            distances[value].append(energy_distance(cells, target, tensors["mask"], tensors["mask"]).cpu())
    table = {value: torch.cat(found) for value, found in distances.items()}
    share = torch.cat(sizes) / torch.cat(sizes).sum()
    best = min(_VALUES, key=lambda value: float(share @ table[value]))
    chosen = next(value for value in _VALUES if _within_error(table[value] - table[best], share))
    module.gate.set(chosen)
    logger.info(
        "Gate of the network: %.2f (energy distance on %d held-out conditions %.3f; anchor alone %.3f).",
        chosen,
        len(share),
        float(share @ table[chosen]),
        float(share @ table[0.0]),
    )


def _within_error(difference: torch.Tensor, share: torch.Tensor) -> bool:
    """Whether a weighted mean difference is no larger than its standard error; shares sum to 1."""
    n, mean = len(difference), share @ difference
    error = float((share.square() @ (difference - mean).square() * n / (n - 1)).sqrt()) if n > 1 else 0.0
    return float(mean) <= error
