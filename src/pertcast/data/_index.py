"""The index of a screen: which rows belong to which condition."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pertcast.data._codes import NAME_SEPARATOR, combine_codes
from pertcast.data._dosages import dosage_name
from pertcast.data._factors import ScreenFactors
from pertcast.data._grammar import canonical_names, parse_perturbation
from pertcast.data._groups import RowGroups
from pertcast.data._messages import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

__all__ = ["ConditionIndex"]

_PACKAGE = str(Path(__file__).resolve().parents[1])  # warnings name the line of the user that led here


@dataclass(frozen=True, eq=False, repr=False)
class ConditionIndex:
    """Rows of every condition of a screen, as slices of one array.

    A condition is perturbation x dosage x context x batch, and a context is cell type x categorical covariates.
    Conditions are sorted by these four codes in this order. The control has perturbation code 0 and dosage 0, so the
    control conditions come first. Rows of a condition ascend. Build it with :meth:`from_codes` or
    :meth:`from_manager`.

    Implementation: the four codes are combined into one integer for each cell and sorted once, O(N log N) for N
    cells; the index keeps 4 bytes for each cell (8 from 2^31 cells on) and a few for each condition.

    Parameters
    ----------
    groups
        The C conditions as groups of rows; all N rows occur once.
    perturbation
        Code into ``perturbation_names``, int32 ``[C]``.
    dosage
        Dosage, float32 ``[C]``; 0 for controls, and 1 for all others where the screen has no dosages.
    context
        Code into ``context_names``, int32 ``[C]``.
    batch
        Code into ``batch_names``, int32 ``[C]``.
    skipped
        Perturbed conditions with too few cells, bool ``[C]``.
    perturbation_names
        Canonical names, the control first; ``A+B`` and ``B+A`` are one.
    context_names
        One name for each context.
    batch_names
        One name for each batch.
    context_table
        The labels that make up each context: one row for each context, one column for each column of ``obs``.

    Examples
    --------
    >>> import pertcast as pc
    >>> index = pc.data.ConditionIndex.from_codes(
    ...     [1, 0, 0, 1, 2], ["control", "A", "A+B"], context=[0, 0, 1, 1, 1], context_names=["B cells", "T cells"]
    ... )
    >>> index.names()
    ['control | B cells', 'control | T cells', 'A | B cells', 'A | T cells', 'A+B | T cells']
    >>> index.perturbed.tolist(), index.rows(3).tolist()
    ([2, 3, 4], [3])
    """

    groups: RowGroups
    perturbation: np.ndarray
    dosage: np.ndarray
    context: np.ndarray
    batch: np.ndarray
    skipped: np.ndarray
    perturbation_names: tuple[str, ...]
    context_names: tuple[str, ...]
    batch_names: tuple[str, ...]
    context_table: pd.DataFrame

    @classmethod
    def from_codes(
        cls,
        perturbation: ArrayLike,
        labels: Sequence[str],
        *,
        control: str = "control",
        context: ArrayLike | None = None,
        context_names: Sequence[str] = ("all",),
        batch: ArrayLike | None = None,
        batch_names: Sequence[str] = ("all",),
        dosage: ArrayLike | None = None,
        context_table: pd.DataFrame | None = None,
        min_cells: int = 1,
        tested: np.ndarray | None = None,
    ) -> ConditionIndex:
        """Build the index from one integer code per cell and factor.

        Parameters
        ----------
        perturbation
            Code of each cell into ``labels``, ``[N]``.
        labels
            Perturbation labels as they stand in the data; spellings of one combination are merged.
        control
            Label of unperturbed cells.
        context
            Code of each cell into ``context_names``; all cells share one context by default.
        context_names
            Names of the contexts.
        batch
            Code of each cell into ``batch_names``; all cells share one batch by default.
        batch_names
            Names of the batches.
        dosage
            Dosage of each cell; that of controls is ignored.
        context_table
            See the class.
        min_cells
            Perturbed conditions with fewer cells are skipped, with a warning.
        tested
            Cells that are held out for tests, bool ``[N]``: of their conditions no warning tells.

        Raises
        ------
        ValueError
            If a code is negative or beyond its names, a dosage of a perturbed cell is not finite, lengths differ, or
            there are perturbed conditions and none has ``min_cells`` cells.

        Examples
        --------
        >>> index = ConditionIndex.from_codes([1, 0, 2, 1], ["control", "A+B", "B+A"])
        >>> index
        ConditionIndex[n_cells=4, n_conditions=1, n_contexts=1, n_controls=1, skipped=0]
        >>> index.rows(1).tolist()
        [0, 2, 3]
        """
        raw = np.asarray(perturbation).reshape(-1)
        n_cells = len(raw)
        names, canonical = canonical_names(labels, control)
        pert = canonical[_checked("perturbation", raw, n_cells, len(labels))]
        dose, doses = _dosage_codes(dosage, pert)
        none = np.zeros(n_cells, dtype=np.int8)
        ctx = _checked("context", none if context is None else context, n_cells, len(context_names))
        bat = _checked("batch", none if batch is None else batch, n_cells, len(batch_names))

        key = combine_codes(
            [(pert, len(names)), (dose, len(doses)), (ctx, len(context_names)), (bat, len(batch_names))]
        )
        order = np.argsort(key, kind="stable").astype(np.int32 if n_cells < 2**31 else np.int64)
        key = key[order]
        start = np.flatnonzero(np.r_[n_cells > 0, key[1:] != key[:-1]])
        groups = RowGroups(order, start, np.r_[start[1:], n_cells][: len(start)])
        first = order[start]
        index = cls(
            groups=groups,
            perturbation=pert[first].astype(np.int32),
            dosage=doses[dose[first]],
            context=ctx[first].astype(np.int32),
            batch=bat[first].astype(np.int32),
            skipped=(pert[first] > 0) & (groups.sizes < min_cells),
            perturbation_names=names,
            context_names=tuple(context_names),
            batch_names=tuple(batch_names),
            context_table=pd.DataFrame(index=range(len(context_names))) if context_table is None else context_table,
        )
        index._report_skipped(min_cells, index.skipped if tested is None else index.skipped & ~tested[first])
        return index

    @classmethod
    def from_factors(
        cls, factors: ScreenFactors, *, min_cells: int = 1, tested: np.ndarray | None = None
    ) -> ConditionIndex:
        """Build the index from the factors of a screen.

        Parameters
        ----------
        factors
            Codes and names.
        min_cells, tested
            See :meth:`from_codes`.
        """
        return cls.from_codes(
            factors.perturbation,
            factors.labels,
            control=factors.control,
            context=factors.context,
            context_names=factors.context_names,
            batch=factors.batch,
            batch_names=factors.batch_names,
            dosage=factors.dosage,
            context_table=factors.context_table,
            min_cells=min_cells,
            tested=tested,
        )

    @classmethod
    def from_manager(cls, manager: Any, *, min_cells: int = 1) -> ConditionIndex:
        """Build the index from an AnnData that a model registered.

        Parameters
        ----------
        manager
            The :class:`~scvi.data.AnnDataManager` of a model of this package.
        min_cells
            See :meth:`from_codes`.
        """
        return cls.from_factors(ScreenFactors.from_manager(manager), min_cells=min_cells)

    @property
    def order(self) -> np.ndarray:
        """Row numbers of all cells, condition by condition, ``[N]``."""
        return self.groups.order

    @property
    def n_cells(self) -> np.ndarray:
        """Number of cells of each condition, int64 ``[C]``."""
        return self.groups.sizes

    @property
    def is_control(self) -> np.ndarray:
        """Whether a condition is unperturbed, bool ``[C]``."""
        return self.perturbation == 0

    @property
    def perturbed(self) -> np.ndarray:
        """Ids of the perturbed conditions that are not skipped."""
        return np.flatnonzero(~self.is_control & ~self.skipped)

    def __len__(self) -> int:
        """Return the number of conditions C, controls and skipped ones included."""
        return len(self.groups)

    def rows(self, condition: int | np.integer) -> np.ndarray:
        """Row numbers of the cells of a condition, as a view."""
        return self.groups.rows(condition)

    def parts(self, perturbation: int | np.integer) -> tuple[str, ...]:
        """Single perturbations of a perturbation code, sorted; none for the control."""
        return parse_perturbation(self.perturbation_names[perturbation], self.perturbation_names[0])

    def names(self, conditions: ArrayLike | None = None) -> list[str]:
        """Readable names: perturbation, dosage (where it varies), context and batch (where there are several).

        Parameters
        ----------
        conditions
            Ids; all conditions by default.
        """
        ids = np.arange(len(self)) if conditions is None else np.asarray(conditions, dtype=np.int64)
        parts = [[self.perturbation_names[code] for code in self.perturbation[ids]]]
        if len(np.unique(self.dosage[~self.is_control])) > 1:
            parts.append([dosage_name(dosage) for dosage in self.dosage[ids]])
        if len(self.context_names) > 1:
            parts.append([self.context_names[code] for code in self.context[ids]])
        if len(self.batch_names) > 1:
            parts.append([self.batch_names[code] for code in self.batch[ids]])
        return [NAME_SEPARATOR.join(row) for row in zip(*parts, strict=True)]

    def to_frame(self) -> pd.DataFrame:
        """One row for each condition: perturbation, dosage, context, batch, n_cells, is_control, skipped."""
        return pd.DataFrame(
            {
                "perturbation": np.array(self.perturbation_names, dtype=object)[self.perturbation],
                "dosage": self.dosage,
                "context": np.array(self.context_names, dtype=object)[self.context],
                "batch": np.array(self.batch_names, dtype=object)[self.batch],
                "n_cells": self.n_cells,
                "is_control": self.is_control,
                "skipped": self.skipped,
            }
        )

    def _report_skipped(self, min_cells: int, told: np.ndarray) -> None:
        """Warn about some skipped conditions; raise if nothing is left."""
        skipped = np.flatnonzero(told if self.perturbed.size else self.skipped)
        if not skipped.size:
            return
        listed = shorten(
            f"{name} ({size})" for name, size in zip(self.names(skipped), self.n_cells[skipped], strict=True)
        )
        if not self.perturbed.size:
            raise ValueError(
                f"No perturbed condition has min_cells={min_cells} cells; the largest has "
                f"{self.n_cells[skipped].max()}. Lower `min_cells`, or drop `batch_key` or a covariate that cuts the "
                f"conditions small. Conditions and their numbers of cells: {listed}."
            )
        warnings.warn(
            f"{len(skipped)} of {np.count_nonzero(~self.is_control)} perturbed conditions have fewer than "
            f"min_cells={min_cells} cells and are skipped: {listed}.",
            UserWarning,
            skip_file_prefixes=(_PACKAGE,),
        )

    def __repr__(self) -> str:
        """Return counts on one line; conditions are the perturbed ones in use, controls are cells."""
        sizes = self.n_cells
        return (
            f"ConditionIndex[n_cells={sizes.sum()}, n_conditions={len(self.perturbed)}, "
            f"n_contexts={len(np.unique(self.context))}, n_controls={sizes[self.is_control].sum()}, "
            f"skipped={np.count_nonzero(self.skipped)}]"
        )


def _checked(factor: str, codes: ArrayLike, n_cells: int, n_names: int) -> np.ndarray:
    """Codes as a flat array, after a check of their length and range."""
    codes = np.asarray(codes).reshape(-1)
    if len(codes) != n_cells:
        raise ValueError(f"There are {len(codes)} {factor} codes for {n_cells} cells.")
    if n_cells and not (0 <= codes.min() and codes.max() < n_names):
        raise ValueError(
            f"The {factor} codes run from {codes.min()} to {codes.max()}, but there are {n_names} names "
            f"(codes 0 to {n_names - 1}). A negative code stands for a missing label."
        )
    return codes


def _dosage_codes(dosage: ArrayLike | None, perturbation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Code of the dosage of each cell, and the dosages; code 0 is the dosage 0 of the controls."""
    perturbed = perturbation > 0
    if dosage is None:
        return perturbed.astype(np.int8), np.array([0, 1], dtype=np.float32)
    values = np.asarray(dosage).reshape(-1)
    if len(values) != len(perturbation):
        raise ValueError(f"There are {len(values)} dosages for {len(perturbation)} cells.")
    values = values.astype(np.float32)
    used = values[perturbed]
    if not np.isfinite(used).all():
        raise ValueError(
            f"{np.count_nonzero(~np.isfinite(used))} perturbed cells have no finite dosage. Give each perturbed cell a "
            "number in the dosage column."
        )
    levels, inverse = np.unique(used, return_inverse=True)
    codes = np.zeros(len(values), dtype=np.int32)
    codes[perturbed] = inverse + 1
    return codes, np.r_[np.float32(0), levels].astype(np.float32)
