"""Choosing conditions to hold out for validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy.sparse as sp

from pertcast.data._codes import NAME_SEPARATOR
from pertcast.data._grammar import parse_perturbation

if TYPE_CHECKING:
    from pertcast.data._index import ConditionIndex

__all__ = ["HoldOut", "HoldOutKind", "hold_out"]

HoldOutKind = Literal["context", "batch", "combination", "perturbation", "condition", "none"]

MIN_UNITS: dict[HoldOutKind, int] = {"context": 3, "batch": 3, "combination": 5, "perturbation": 5, "condition": 5}


@dataclass(frozen=True, eq=False)
class HoldOut:
    """What is held out.

    Parameters
    ----------
    kind
        Kind of the units.
    units
        Names of the units that are held out, sorted; empty if nothing can be.
    conditions
        Ids of their conditions, sorted.
    """

    kind: HoldOutKind
    units: tuple[str, ...]
    conditions: np.ndarray


def hold_out(
    index: ConditionIndex,
    conditions: np.ndarray,
    *,
    kind: HoldOutKind | Literal["auto"] = "auto",
    size: float = 0.1,
    embedded: bool = False,
    seed: int = 0,
) -> HoldOut:
    """Hold out whole units of conditions.

    A unit is held out only if each of its single perturbations remains in what is left, or if all perturbations are
    embedded: otherwise nothing could be learned about it. Units are put in the order of their names before they are
    shuffled, so the outcome depends on names and seed alone, not on the order of cells or categories.

    Parameters
    ----------
    index
        Index of the screen.
    conditions
        Perturbed conditions to choose from.
    kind
        ``"context"``: whole contexts. ``"batch"``: whole batches. ``"combination"``: perturbations of several parts.
        ``"perturbation"``: perturbations, single ones included. ``"condition"``: a perturbation and dosage in one
        context, in all its batches. ``"none"``: nothing. ``"auto"``: the first of these with enough units: 3 contexts
        or batches of which one can be held out, or 5 of the others that can be held out.
    size
        Share of the units to hold out; at least one is.
    embedded
        Whether every perturbation has an embedding.
    seed
        Seed of the shuffle.
    """
    if kind != "none" and len(conditions):
        for candidate, least in MIN_UNITS.items() if kind == "auto" else [(kind, 1)]:
            chosen = _choose(index, conditions, candidate, least, size, embedded, seed)
            if chosen is not None:
                return chosen
    return HoldOut("none", (), np.zeros(0, dtype=np.int64))


def _choose(
    index: ConditionIndex,
    conditions: np.ndarray,
    kind: HoldOutKind,
    least: int,
    size: float,
    embedded: bool,
    seed: int,
) -> HoldOut | None:
    """Units of one kind to hold out; ``None`` if there are too few."""
    labels = _labels(index, conditions, kind)
    names, unit = np.unique(np.array(labels, dtype=object), return_inverse=True)
    uses = _part_uses(index, conditions, unit, len(names))
    left = np.asarray(uses.sum(axis=0)).reshape(-1)

    def uses_of(i: int) -> tuple[np.ndarray, np.ndarray]:
        here = slice(uses.indptr[i], uses.indptr[i + 1])
        return uses.indices[here], uses.data[here]

    def removable(i: int) -> bool:
        parts, counts = uses_of(i)
        return embedded or bool((left[parts] > counts).all())

    eligible = np.flatnonzero(_is_combination(index, names) if kind == "combination" else np.ones(len(names), bool))
    if kind in ("context", "batch"):
        n_units = len(names)
    else:
        eligible = np.array([i for i in eligible.tolist() if removable(i)], dtype=np.int64)
        n_units = len(eligible)
    if n_units < least:
        return None
    n_wanted = min(max(1, round(size * n_units)), len(names) - 1)
    held: list[int] = []
    for i in np.random.default_rng(seed).permutation(eligible).tolist():
        if len(held) == n_wanted:
            break
        if removable(i):
            held.append(i)
            parts, counts = uses_of(i)
            left[parts] -= counts
    if not held:
        return None
    return HoldOut(kind, tuple(str(names[i]) for i in sorted(held)), np.sort(conditions[np.isin(unit, held)]))


def _labels(index: ConditionIndex, conditions: np.ndarray, kind: HoldOutKind) -> list[str]:
    """Name of the unit of each condition."""
    perturbation = [index.perturbation_names[code] for code in index.perturbation[conditions]]
    context = [index.context_names[code] for code in index.context[conditions]]
    if kind == "context":
        return context
    if kind == "batch":
        return [index.batch_names[code] for code in index.batch[conditions]]
    if kind == "condition":
        dosage = [f"{dosage:g}" for dosage in index.dosage[conditions]]
        return [NAME_SEPARATOR.join(row) for row in zip(perturbation, dosage, context, strict=True)]
    return perturbation


def _is_combination(index: ConditionIndex, names: np.ndarray) -> np.ndarray:
    control = index.perturbation_names[0]
    return np.array([len(parse_perturbation(name, control)) > 1 for name in names], dtype=bool)


def _part_uses(index: ConditionIndex, conditions: np.ndarray, unit: np.ndarray, n_units: int) -> sp.csr_matrix:
    """How many conditions of each unit use each single perturbation, ``[units, parts]``."""
    control = index.perturbation_names[0]
    of_name = [parse_perturbation(name, control) for name in index.perturbation_names]
    part_id = {part: code for code, part in enumerate(sorted({part for parts in of_name for part in parts}))}
    pairs = [
        (row, part_id[part])
        for row, code in zip(unit, index.perturbation[conditions], strict=True)
        for part in of_name[code]
    ]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return sp.csr_matrix((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=(n_units, len(part_id)))
