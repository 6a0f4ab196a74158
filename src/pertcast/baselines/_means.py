"""Baselines that predict a mean of training conditions."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.baselines._base import Baseline, added

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from mudata import MuData

    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._request import Request

__all__ = ["MeanBaseline"]


class MeanBaseline(Baseline):
    """Base of the baselines that forecast the mean of a population, whatever its control cells are.

    Parameters
    ----------
    adata
        Screen that was registered with ``setup_anndata`` or ``setup_mudata`` of this class.
    registry
        Registry of a saved model, in place of the screen.
    residuals
        Whether to add what a control cell differs from the mean of its controls. Without residuals all predicted cells
        of a population are equal: a point prediction, marked by ``is_point``, of which only the mean can be evaluated.
    """

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        residuals: bool = False,
    ) -> None:
        super().__init__(adata, registry)
        self.is_point = not residuals
        self.init_params_ = self._get_init_params(locals())

    @abstractmethod
    def _mean(self, query: ControlQuery, population: ControlPopulation, request: Request) -> np.ndarray:
        """Forecast of the mean of a population, ``[G]``."""

    def _forecast(
        self, query: ControlQuery, population: ControlPopulation, request: Request
    ) -> Callable[[np.ndarray], np.ndarray]:
        mean = self._mean(query, population, request)
        if self.is_point:
            return lambda cells: np.broadcast_to(mean, cells.shape)
        return added(mean - query.mean(population.pool))
