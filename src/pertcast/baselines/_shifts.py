"""Shifts of the training conditions, averaged over contexts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.baselines._base import Baseline, added
from pertcast.baselines._conditions import ConditionMeans, rows_at
from pertcast.data._dosages import dosage_key
from pertcast.data._grammar import parse_perturbation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData
    from mudata import MuData

    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._request import Request
    from pertcast.data._screen import Screen, ScreenMetadata
    from pertcast.data._stand_ins import Unseen

__all__ = ["ShiftBaseline"]


class ShiftBaseline(Baseline):
    """Base of the baselines that average the shift of a perturbation over training contexts, equally by default.

    The shift in a context is the mean over its populations (batches), each with equal weight. A combination that was
    not measured is given the sum of the shifts of its parts, at the same dosage. What was measured at other dosages
    only is given the shift at the nearest one (on a log scale).

    Parameters
    ----------
    adata
        Screen that was registered with ``setup_anndata`` or ``setup_mudata`` of this class.
    registry
        Registry of a saved model, in place of the screen.
    """

    def __init__(self, adata: AnnData | MuData | None = None, registry: dict[str, Any] | None = None) -> None:
        super().__init__(adata, registry)
        self.shifts_ = np.zeros((0, 0), dtype=np.float32)
        self.context_of_shift_ = np.zeros(0, dtype=np.int64)
        self.rows_: dict[tuple[str, float], list[int]] = {}
        self.control_means_ = np.zeros((0, 0))
        self.context_names_: tuple[str, ...] = ()

    def _fit(self, screen: Screen, conditions: np.ndarray) -> None:
        self._set_shifts(ConditionMeans.from_screen(screen, conditions))

    def _set_shifts(self, means: ConditionMeans) -> None:
        """Keep the shifts of training conditions."""
        self.shifts_ = means.shift.astype(np.float32)
        self.context_of_shift_ = means.context
        self.rows_ = means.rows
        self.control_means_ = means.control_mean
        self.context_names_ = means.context_names

    def _weights(self, query: ControlQuery, population: ControlPopulation, contexts: np.ndarray) -> np.ndarray:
        """Weights of training contexts (rows of ``control_means_``), which sum to 1; equal unless overridden."""
        return np.full(len(contexts), 1 / len(contexts))

    def _forecast(
        self, query: ControlQuery, population: ControlPopulation, request: Request
    ) -> Callable[[np.ndarray], np.ndarray]:
        return added(self._shift(query, population, request))

    def _shift(self, query: ControlQuery, population: ControlPopulation, request: Request) -> np.ndarray:
        """Shift of the mean of a population, ``[G]``."""
        total = np.zeros(self.shifts_.shape[1])
        for factor, rows in self._rows_of_parts(request, query.metadata):
            weights = self._weights(query, population, self.context_of_shift_[rows])
            total += factor * (weights @ self.shifts_[rows])
        return total

    def _check_requests(
        self, requests: Sequence[Request], metadata: ScreenMetadata, *, unseen: Unseen
    ) -> dict[str, tuple[str, ...]]:
        stand_ins = super()._check_requests(requests, metadata, unseen=unseen)
        for request in requests:
            self._rows_of_parts(request, metadata)
        return stand_ins

    def _rows_of_parts(self, request: Request, metadata: ScreenMetadata) -> list[tuple[float, list[int]]]:
        """List what to sum up: factors, and the rows of the shifts to average over contexts.

        These are the rows of the perturbation, or those of each part of a combination that was not measured. A dosage
        that was not measured is replaced by the nearest one, if the parts were not measured at it either.
        """
        name, dosage = request.perturbation, dosage_key(request.dosage)
        parts = parse_perturbation(name, metadata.control)
        if (name, dosage) not in self.rows_ and all((part, dosage) in self.rows_ for part in parts):
            return self._rows_of_singles(request, metadata)
        own = rows_at(self.rows_, name, dosage)
        return [(1.0, own)] if own else self._rows_of_singles(request, metadata)

    def _rows_of_singles(self, request: Request, metadata: ScreenMetadata) -> list[tuple[float, list[int]]]:
        """List the factors and rows of the single perturbations that a request is made of."""
        dosage, parts = dosage_key(request.dosage), parse_perturbation(request.perturbation, metadata.control)
        found = {part: rows_at(self.rows_, part, dosage) for part in parts}
        missing = [part for part in parts if not found[part]]
        if missing:
            raise self._unmeasured("shift", missing, request)
        return [(1.0, found[part]) for part in parts]
