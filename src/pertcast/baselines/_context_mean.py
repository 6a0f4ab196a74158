"""The baseline that predicts the mean of the perturbed cells of a context."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.baselines._conditions import ConditionMeans
from pertcast.baselines._means import MeanBaseline

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._request import Request
    from pertcast.data._screen import Screen

__all__ = ["ContextMean"]

logger = logging.getLogger(__name__)


class ContextMean(MeanBaseline):
    """Predicts the mean of the perturbed training cells of the context, whatever the perturbation.

    The mean is taken over the centroids (means) of the training conditions of the context, perturbation x dosage,
    which count the same whatever their number of cells. Perturbation and dosage of a request make no difference.

    A context without perturbed training cells has no such mean. It is given the mean of its own controls (those that
    describe the population: of its batch, or of the whole context where these are few) plus the mean shift of all
    training conditions; a warning is logged once for each such context.

    Parameters
    ----------
    adata
        Screen that was registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Registry of a saved model, in place of the screen.
    residuals
        Whether to add what a control cell differs from the mean of its controls. Without residuals all predicted cells
        of a population are equal: a point prediction, marked by ``is_point``, of which only the mean can be evaluated.

    Examples
    --------
    Each cell type has one perturbed cell, which is its mean.

    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import pertcast as pc
    >>> obs = pd.DataFrame(
    ...     {"perturbation": ["control", "a"] * 2, "cell_type": ["B", "B", "T", "T"]}, index=list("wxyz")
    ... )
    >>> adata = ad.AnnData(np.array([[0.5, 1], [1.5, 1], [2.5, 0], [5.5, 1]], dtype=np.float32), obs=obs)
    >>> pc.baselines.ContextMean.setup_anndata(adata, cell_type_key="cell_type")
    >>> model = pc.baselines.ContextMean(adata)
    >>> model.train()
    >>> model.predict(adata, ["a"], progressbar=False).X
    array([[1.5, 1. ],
           [5.5, 1. ]], dtype=float32)
    """

    ignores_perturbation = True

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        residuals: bool = False,
    ) -> None:
        super().__init__(adata, registry, residuals=residuals)
        self.context_means_: dict[str, np.ndarray] = {}
        self.mean_shift_ = np.zeros(0)
        self._reported: set[str] = set()
        self.init_params_ = self._get_init_params(locals())

    def _fit(self, screen: Screen, conditions: np.ndarray) -> None:
        means = ConditionMeans.from_screen(screen, conditions)
        self.context_means_ = {
            name: means.mean[means.context == code].mean(axis=0) for code, name in enumerate(means.context_names)
        }
        self.mean_shift_ = means.shift.mean(axis=0)

    def _mean(self, query: ControlQuery, population: ControlPopulation, request: Request) -> np.ndarray:
        name = population.context_name
        if name in self.context_means_:
            return self.context_means_[name]
        if name not in self._reported:
            self._reported.add(name)
            logger.warning(
                "No perturbed cells of the context %r were trained on. ContextMean predicts the mean of its controls "
                "plus the mean shift of all training conditions.",
                name,
            )
        return query.mean(population.pool) + self.mean_shift_
