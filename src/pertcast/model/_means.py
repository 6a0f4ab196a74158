"""Means of predicted populations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._tasks import PredictionTask
    from pertcast.module import PopulationModule

__all__ = ["PopulationMeans"]


class PopulationMeans:
    r"""Means that predicted populations are given: between those of the anchor and of the network.

    With :math:`m_a` the mean of the source cells moved by the anchor, :math:`m_n` that of the drawn cells and g the
    gate,

    .. math:: m = (1 - g / 2) \, m_a + (g / 2) \, m_n .

    Both are forecasts, and their errors differ, so each has half where the gate is 1. Where expression cannot be
    negative, moved cells are cut at 0 and the drawn ones lose decreases of rare genes; the mean of the anchor has them.
    Without an anchor the mean is that of the drawn cells.

    Parameters
    ----------
    module
        Trained module.
    query
        Control cells.
    """

    def __init__(self, module: PopulationModule, query: ControlQuery) -> None:
        self.query, self._nonnegative = query, module.nonnegative
        self._share = 1 - float(module.gate.value) / 2 if module.anchored else 0.0
        self._source_means: dict[ControlPopulation, np.ndarray] = {}

    def __call__(self, task: PredictionTask, cells: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """Mean of a population, float64 ``[G]``.

        Parameters
        ----------
        task
            What was predicted.
        cells
            Drawn cells, ``[n, G]``.
        shift
            Forecast of the mean shift, ``[G]``.
        """
        mean = cells.mean(axis=0, dtype=np.float64)
        if self._share == 0:
            return mean
        moved = self._source_mean(task) + shift
        if self._nonnegative:
            moved = np.maximum(moved, 0)
        return self._share * moved + (1 - self._share) * mean

    def _source_mean(self, task: PredictionTask) -> np.ndarray:
        """Mean of the cells that a task starts from; one for each control cell is the common case."""
        if not np.array_equal(task.sources, task.population.rows):
            return self.query.mean(task.sources)
        if task.population not in self._source_means:
            self._source_means[task.population] = self.query.mean(task.sources)
        return self._source_means[task.population]
