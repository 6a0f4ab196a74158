"""Zeros and mean of predicted populations."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from pertcast.representation import Hurdle

if TYPE_CHECKING:
    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._tasks import PredictionTask
    from pertcast.module import PopulationModule

__all__ = ["ZeroRestorer"]

_MAX_CONTROLS = 2000
_KEPT_VALUES = 2**25


class ZeroRestorer:
    """Gives predicted populations the zeros of sparse expression.

    The mean of a population is that of the network and that of the anchor, half each where the gate is 1: both are
    forecasts, and their errors differ. The anchor alone would lose the decreases of rare genes by cutting at 0.

    What is known of the controls of a population is kept for the next perturbation, up to a fixed amount of memory.
    Populations may be treated in several threads.

    Parameters
    ----------
    module
        Trained module.
    query
        Control cells.
    """

    def __init__(self, module: PopulationModule, query: ControlQuery) -> None:
        self.query = query
        self._share = 1 - float(module.gate.value) / 2 if module.anchored else 0.0
        self._hurdles: dict[ControlPopulation, Hurdle] = {}
        self._n_kept, self._lock = 0, Lock()
        self._source_means: dict[ControlPopulation, np.ndarray] = {}

    def __call__(
        self, task: PredictionTask, cells: np.ndarray, shift: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Give the cells of one task zeros.

        Parameters
        ----------
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
        hurdle = self._hurdle(task.population, rng)
        mean = cells.mean(axis=0, dtype=np.float64)
        if self._share > 0:
            mean = self._share * np.maximum(self._source_mean(task) + shift, 0) + (1 - self._share) * mean
        return hurdle.apply(cells, rng, mean)

    def _hurdle(self, population: ControlPopulation, rng: np.random.Generator) -> Hurdle:
        """Hurdle of the controls of a population; of some of them, drawn for each task, where there are many."""
        if population in self._hurdles:
            return self._hurdles[population]
        pool = population.pool
        if len(pool) > _MAX_CONTROLS:
            return Hurdle(self.query.gather(np.sort(rng.choice(pool, _MAX_CONTROLS, replace=False))))
        control = self.query.gather(pool)
        hurdle = Hurdle(control)
        with self._lock:
            if population not in self._hurdles and self._n_kept + control.size <= _KEPT_VALUES:
                self._hurdles[population] = hurdle
                self._n_kept += control.size
        return hurdle

    def _source_mean(self, task: PredictionTask) -> np.ndarray:
        """Mean of the cells that a task starts from; one for each control cell is the common case."""
        if len(task.sources) != len(task.population.rows):
            return self.query.mean(task.sources)
        if task.population not in self._source_means:
            self._source_means[task.population] = self.query.mean(task.sources)
        return self._source_means[task.population]
