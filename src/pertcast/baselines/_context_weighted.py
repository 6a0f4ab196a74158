r"""The baseline that adds the shift of similar contexts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast._numbers import check_number
from pertcast.anchor import Weighting, source_weights
from pertcast.baselines._shifts import ShiftBaseline

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from pertcast.data._query import ControlPopulation, ControlQuery

__all__ = ["ContextWeightedShift"]


class ContextWeightedShift(ShiftBaseline):
    r"""Adds to each control cell the shift of the perturbation in training contexts, weighted by their similarity.

    The weight of context j is proportional to :math:`\exp(-d_j / (a \, \mathrm{median}_j \, d_j))`, where :math:`d_j`
    is the Euclidean distance between the mean of the controls that describe the population and the mean of the
    controls of context j, over the contexts in which the perturbation was measured, and a is the bandwidth. Without
    batches a context that was trained on is at distance 0 from itself, so it dominates where it is predicted. Means of
    contexts are over their batches: where batches differ more than contexts do, a population can be nearer to another
    context than to its own. A combination that was not measured gets the sum of the shifts of its parts. Values are not
    clipped, so the sum may be below 0.

    Parameters
    ----------
    adata
        Screen that was registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Registry of a saved model, in place of the screen.
    bandwidth
        Bandwidth a, above 0; with a large one this is :class:`PerturbationShift`.

    Raises
    ------
    TypeError
        If the bandwidth is no number.
    ValueError
        If it is infinite, or not above 0.

    Examples
    --------
    A cell type that was trained on is nearest to itself: its own shift has nearly all the weight.

    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import pertcast as pc
    >>> obs = pd.DataFrame(
    ...     {"perturbation": ["control", "a"] * 2, "cell_type": ["B", "B", "T", "T"]}, index=list("wxyz")
    ... )
    >>> adata = ad.AnnData(np.array([[0.5, 1], [1.5, 1], [2.5, 0], [5.5, 1]], dtype=np.float32), obs=obs)
    >>> pc.baselines.ContextWeightedShift.setup_anndata(adata, cell_type_key="cell_type")
    >>> model = pc.baselines.ContextWeightedShift(adata)
    >>> model.train()
    >>> model.predict(adata, ["a"], progressbar=False).X.round(2)
    array([[1.5, 1. ],
           [5.5, 1. ]], dtype=float32)
    """

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        bandwidth: float = 0.3,
    ) -> None:
        self.bandwidth = check_number("bandwidth", bandwidth, above=0)
        super().__init__(adata, registry)
        self.init_params_ = self._get_init_params(locals())

    def _weights(self, query: ControlQuery, population: ControlPopulation, contexts: np.ndarray) -> np.ndarray:
        weighting = Weighting("kernel", self.bandwidth)
        mean = query.mean(population.pool)
        return source_weights(self.control_means_[contexts], mean, np.ones(len(contexts)), weighting)
