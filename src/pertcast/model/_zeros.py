"""Zeros of predicted populations."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from pertcast.representation import Hurdle
from pertcast.representation._total import limit_total, shared_total

if TYPE_CHECKING:
    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._tasks import PredictionTask

__all__ = ["ZeroRestorer"]

_MAX_CONTROLS = 2000
_KEPT_VALUES = 2**25


class ZeroRestorer:
    """Gives predicted populations the zeros of sparse expression, and no more counts than normalised cells have.

    What is known of the controls of a population is kept for the next perturbation, up to a fixed amount of memory.
    Populations may be treated in several threads.

    Parameters
    ----------
    query
        Control cells.
    """

    def __init__(self, query: ControlQuery) -> None:
        self.query = query
        self._hurdles: dict[ControlPopulation, tuple[Hurdle, float | None]] = {}
        self._n_kept, self._lock = 0, Lock()

    def __call__(
        self, task: PredictionTask, cells: np.ndarray, mean: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Give the cells of one task zeros.

        Parameters
        ----------
        task
            What was predicted.
        cells
            Predicted cells, ``[n, G]``.
        mean
            Mean that they are given, ``[G]``, before their counts are limited.
        rng
            Breaks ties and draws values.

        Returns
        -------
        float32 ``[n, G]``.
        """
        hurdle, total = self._hurdle(task.population)
        restored = hurdle.apply(cells, rng, mean)
        return restored if total is None else limit_total(restored, total)

    def _hurdle(self, population: ControlPopulation) -> tuple[Hurdle, float | None]:
        """Hurdle and total of the controls of a population; if they are many, of 2000 that their names decide on."""
        if population in self._hurdles:
            return self._hurdles[population]
        pool = population.pool
        if len(pool) > _MAX_CONTROLS:
            pool = pool[np.sort(np.random.default_rng(0).choice(len(pool), _MAX_CONTROLS, replace=False))]
        control = self.query.gather(pool)
        found = Hurdle(control), shared_total(control)
        with self._lock:
            if population not in self._hurdles and self._n_kept + control.size <= _KEPT_VALUES:
                self._hurdles[population] = found
                self._n_kept += control.size
        return found
