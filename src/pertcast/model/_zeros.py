"""Zeros and mean of a predicted population."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pertcast.representation import Hurdle

if TYPE_CHECKING:
    from pertcast.data._query import ControlQuery
    from pertcast.data._tasks import PredictionTask
    from pertcast.module import PerturbDiffModule

__all__ = ["with_zeros"]

_MIN_CONTROLS = 10
_MAX_CONTROLS = 2000


def with_zeros(
    module: PerturbDiffModule,
    query: ControlQuery,
    task: PredictionTask,
    cells: np.ndarray,
    shift: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Give predicted cells the zeros of sparse expression.

    The mean of the population is that of the network and that of the anchor, half each where the gate is 1: both are
    forecasts, and their errors differ. The anchor alone would lose the decreases of rare genes by cutting at 0.

    Parameters
    ----------
    module
        Trained module.
    query
        Control cells.
    task
        What was predicted.
    cells
        Predicted cells, ``[n, G]``.
    shift
        Forecast of the mean shift, ``[G]``.
    rng
        Breaks ties and draws values.

    Returns
    -------
    float32 ``[n, G]``.
    """
    pool = task.population.pool
    if len(pool) < _MIN_CONTROLS:
        return cells
    chosen = pool if len(pool) <= _MAX_CONTROLS else np.sort(rng.choice(pool, _MAX_CONTROLS, replace=False))
    mean = cells.mean(axis=0, dtype=np.float64)
    if module.anchored:
        share = 1 - float(module.gate.value) / 2
        mean = share * np.maximum(query.mean(task.sources) + shift, 0) + (1 - share) * mean
    return Hurdle(query.gather(chosen)).apply(cells, rng, mean)
