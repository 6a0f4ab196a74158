"""Means and shifts of training conditions, averaged over batches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pertcast.data._dosages import dosage_key, nearest_dosage
from pertcast.data._pseudobulk import ShiftTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pertcast.data._matrix import Matrix
    from pertcast.data._screen import Screen

__all__ = ["ConditionMeans", "rows_at"]


def rows_at(rows: Mapping[tuple[str, float], Sequence[int]], name: str, dosage: float) -> list[int]:
    """Rows of a perturbation at a dosage, else at the nearest of its dosages; [] if it has none.

    Parameters
    ----------
    rows
        Rows of perturbations and dosages, see :class:`ConditionMeans`.
    name
        Perturbation.
    dosage
        Dosage as a key.
    """
    if (name, dosage) not in rows:
        measured = [at for known, at in rows if known == name]
        dosage = nearest_dosage(measured, dosage) if measured else dosage
    return list(rows.get((name, dosage), ()))


@dataclass(frozen=True, eq=False, repr=False)
class ConditionMeans:
    """P training conditions: perturbation x dosage x context, each the mean of its batches, which weigh the same.

    Parameters
    ----------
    rows
        Row numbers of each perturbation and dosage (see :func:`~pertcast.data._dosages.dosage_key`), one for each of
        its contexts.
    context
        Row of ``control_mean`` of each condition, int64 ``[P]``.
    context_names
        Names of the K contexts that hold training conditions.
    control_mean
        Mean of the controls of each context over its batches, float64 ``[K, G]``.
    table
        Shifts of the conditions in each batch.
    row_of_table
        Condition of each row of the table.
    """

    rows: dict[tuple[str, float], list[int]]
    context: np.ndarray
    context_names: tuple[str, ...]
    control_mean: np.ndarray
    table: ShiftTable
    row_of_table: np.ndarray

    @classmethod
    def from_screen(cls, screen: Screen, conditions: np.ndarray, X: Matrix | None = None) -> ConditionMeans:
        """Compute the means of conditions.

        Parameters
        ----------
        screen
            Registered screen.
        conditions
            Ids of conditions, which may be split by batch.
        X
            Matrix with a row for each cell of the screen; its expression by default.
        """
        index = screen.index
        table = ShiftTable.from_index(screen.X if X is None else X, index, screen.controls, conditions)
        factors = np.stack([table.perturbation, np.unique(table.dosage, return_inverse=True)[1], table.context], axis=1)
        cells, first, row = np.unique(factors, axis=0, return_index=True, return_inverse=True)
        codes, context = np.unique(cells[:, 2], return_inverse=True)
        rows: dict[tuple[str, float], list[int]] = {}
        for number, condition in enumerate(first):
            name = index.perturbation_names[table.perturbation[condition]]
            rows.setdefault((name, dosage_key(table.dosage[condition])), []).append(number)
        control_mean = [table.group_mean[np.unique(table.group[table.context == code])].mean(axis=0) for code in codes]
        return cls(
            rows=rows,
            context=context,
            context_names=tuple(index.context_names[code] for code in codes),
            control_mean=np.stack(control_mean),
            table=table,
            row_of_table=row.reshape(-1),
        )

    @cached_property
    def shift(self) -> np.ndarray:
        """Perturbed mean minus mean of the matched controls, float64 ``[P, G]``."""
        return self._over_batches(self.table.shift)

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean of the perturbed cells, float64 ``[P, G]``."""
        return self._over_batches(self.table.shift + self.table.control_mean)

    def _over_batches(self, values: np.ndarray) -> np.ndarray:
        total = np.zeros((len(self), values.shape[1]))
        np.add.at(total, self.row_of_table, values)
        return total / np.bincount(self.row_of_table)[:, None]

    def __len__(self) -> int:
        """Return the number of conditions P."""
        return len(self.context)

    def __repr__(self) -> str:
        """Return counts on one line."""
        return f"ConditionMeans[n_conditions={len(self)}, n_contexts={len(self.context_names)}]"
