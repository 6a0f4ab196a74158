"""Shifts of the training conditions, averaged over contexts."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.baselines._base import Baseline
from pertcast.data._grammar import parse_perturbation
from pertcast.data._messages import shorten
from pertcast.data._pseudobulk import ShiftTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._request import Request
    from pertcast.data._screen import Screen, ScreenMetadata
    from pertcast.data._stand_ins import Unseen

__all__ = ["ShiftBaseline"]


class ShiftBaseline(Baseline):
    """Base of the baselines that average the shift of a perturbation over training contexts.

    The shift in a context is the mean over its populations (batches), each with equal weight. A combination that was
    not measured is given the sum of the shifts of its parts, at the same dosage.

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

    def _fit(self, screen: Screen, conditions: np.ndarray) -> None:
        table = ShiftTable.from_index(screen.X, screen.index, screen.controls, conditions)
        factors = np.stack([table.perturbation, np.unique(table.dosage, return_inverse=True)[1], table.context], axis=1)
        cells, first, row = np.unique(factors, axis=0, return_index=True, return_inverse=True)
        row = row.reshape(-1)
        shifts = np.zeros((len(cells), table.shift.shape[1]))
        np.add.at(shifts, row, table.shift)
        contexts, context_of_shift = np.unique(cells[:, 2], return_inverse=True)
        names = screen.index.perturbation_names

        self.shifts_ = (shifts / np.bincount(row)[:, None]).astype(np.float32)
        self.context_of_shift_ = context_of_shift
        self.rows_ = {}
        for number, condition in enumerate(first):
            key = (names[table.perturbation[condition]], _key(table.dosage[condition]))
            self.rows_.setdefault(key, []).append(number)
        self.control_means_ = np.stack(
            [table.group_mean[np.unique(table.group[table.context == context])].mean(axis=0) for context in contexts]
        )

    @abstractmethod
    def _weights(self, query: ControlQuery, population: ControlPopulation, contexts: np.ndarray) -> np.ndarray:
        """Weights of training contexts (rows of ``control_means_``), which sum to 1."""

    def _shift(self, query: ControlQuery, population: ControlPopulation, request: Request) -> np.ndarray:
        total = np.zeros(self.shifts_.shape[1])
        for rows in self._rows_of_parts(request, query.metadata):
            total += self._weights(query, population, self.context_of_shift_[rows]) @ self.shifts_[rows]
        return total

    def _check_requests(
        self, requests: Sequence[Request], metadata: ScreenMetadata, *, unseen: Unseen
    ) -> dict[str, tuple[str, ...]]:
        stand_ins = super()._check_requests(requests, metadata, unseen=unseen)
        for request in requests:
            self._rows_of_parts(request, metadata)
        return stand_ins

    def _rows_of_parts(self, request: Request, metadata: ScreenMetadata) -> list[list[int]]:
        """Rows of the shifts to average: those of the perturbation, or of each part of a combination."""
        name, dosage = request.perturbation, _key(request.dosage)
        if (name, dosage) in self.rows_:
            return [self.rows_[name, dosage]]
        parts = parse_perturbation(name, metadata.control)
        missing = [part for part in parts if (part, dosage) not in self.rows_]
        if not missing:
            return [self.rows_[part, dosage] for part in parts]
        at = f" at dosage {request.dosage:g}" if metadata.has_dosage else ""
        elsewhere = [f"{part} at {each:g}" for part in missing for each in self.dosages_.get(part, ())]
        hint = f" They were measured as {shorten(elsewhere)}." if metadata.has_dosage and elsewhere else ""
        of = f" (of {name!r})" if len(parts) > 1 else ""
        raise ValueError(
            f"{type(self).__name__} knows no shift of {shorten(missing)}{of}{at}: no training condition "
            f"holds it.{hint} This baseline predicts what was trained on, and combinations of it."
        )


def _key(dosage: float | np.floating) -> float:
    """Dosage as a key: rounded to float32, in which the index keeps dosages."""
    return float(np.float32(dosage))
