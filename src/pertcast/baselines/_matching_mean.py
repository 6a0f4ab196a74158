"""The baseline that predicts the mean of the conditions that share a perturbation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.baselines._conditions import ConditionMeans, rows_at
from pertcast.baselines._means import MeanBaseline
from pertcast.data._dosages import dosage_key
from pertcast.data._grammar import parse_perturbation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._request import Request
    from pertcast.data._screen import Screen, ScreenMetadata
    from pertcast.data._stand_ins import Unseen

__all__ = ["MatchingMean"]


class MatchingMean(MeanBaseline):
    """Predicts the mean of the training conditions that share a perturbation with the one asked for.

    For a combination these are all training conditions that hold at least one of its parts, alone or combined: those
    of the same context where there are any, else those of all contexts. For a single perturbation they are its own
    conditions in all contexts. The centroids (means) of these conditions count the same, whatever their number of
    cells. Only conditions at the dosage asked for match or, where there are none, those at the nearest one.

    The name is that of Systema (Viñas Torné et al. 2025, doi:10.1038/s41587-025-02777-8), which averages over the two
    single perturbations of a combination.

    Parameters
    ----------
    adata
        Screen that was registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Registry of a saved model, in place of the screen.
    residuals
        Whether to add what a control cell differs from the mean of its controls. Without residuals all predicted cells
        of a population are equal: a point prediction, marked by ``is_point``, of which only the mean can be evaluated.

    Notes
    -----
    :meth:`predict` raises a :class:`ValueError` where nothing matches: for a combination if none of its parts, and for
    a single perturbation if it itself was not measured.

    Examples
    --------
    The mean of the perturbed cells of both cell types:

    >>> import anndata as ad
    >>> import numpy as np
    >>> import pandas as pd
    >>> import pertcast as pc
    >>> obs = pd.DataFrame(
    ...     {"perturbation": ["control", "a"] * 2, "cell_type": ["B", "B", "T", "T"]}, index=list("wxyz")
    ... )
    >>> adata = ad.AnnData(np.array([[0.5, 1], [1.5, 1], [2.5, 0], [5.5, 1]], dtype=np.float32), obs=obs)
    >>> pc.baselines.MatchingMean.setup_anndata(adata, cell_type_key="cell_type")
    >>> model = pc.baselines.MatchingMean(adata)
    >>> model.train()
    >>> model.predict(adata, ["a"], progressbar=False).X
    array([[3.5, 1. ],
           [3.5, 1. ]], dtype=float32)
    """

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        residuals: bool = False,
    ) -> None:
        super().__init__(adata, registry, residuals=residuals)
        self.centroids_ = np.zeros((0, 0), dtype=np.float32)
        self.context_of_centroid_ = np.zeros(0, dtype=np.int64)
        self.context_names_: tuple[str, ...] = ()
        self.own_rows_: dict[tuple[str, float], list[int]] = {}
        self.rows_with_part_: dict[tuple[str, float], list[int]] = {}
        self.init_params_ = self._get_init_params(locals())

    def _fit(self, screen: Screen, conditions: np.ndarray) -> None:
        means = ConditionMeans.from_screen(screen, conditions)
        self.centroids_ = means.mean.astype(np.float32)
        self.context_of_centroid_, self.context_names_ = means.context, means.context_names
        self.own_rows_, self.rows_with_part_ = means.rows, {}
        for (name, dosage), rows in means.rows.items():
            for part in parse_perturbation(name, screen.metadata.control):
                self.rows_with_part_.setdefault((part, dosage), []).extend(rows)

    def _mean(self, query: ControlQuery, population: ControlPopulation, request: Request) -> np.ndarray:
        rows = self._matching_rows(request, query.metadata)
        name = population.context_name
        if len(parse_perturbation(request.perturbation, query.metadata.control)) > 1 and name in self.context_names_:
            here = rows[self.context_of_centroid_[rows] == self.context_names_.index(name)]
            rows = here if len(here) else rows
        return self.centroids_[rows].mean(axis=0, dtype=np.float64)

    def _matching_rows(self, request: Request, metadata: ScreenMetadata) -> np.ndarray:
        """Rows of the centroids that match, of all contexts."""
        dosage, parts = dosage_key(request.dosage), parse_perturbation(request.perturbation, metadata.control)
        table = self.own_rows_ if len(parts) == 1 else self.rows_with_part_
        found = [row for part in parts for row in table.get((part, dosage), ())]
        found = found or [row for part in parts for row in rows_at(table, part, dosage)]
        if not found:
            raise self._unmeasured("mean", parts, request)
        return np.unique(found)

    def _check_requests(
        self, requests: Sequence[Request], metadata: ScreenMetadata, *, unseen: Unseen
    ) -> dict[str, tuple[str, ...]]:
        stand_ins = super()._check_requests(requests, metadata, unseen=unseen)
        for request in requests:
            self._matching_rows(request, metadata)
        return stand_ins
