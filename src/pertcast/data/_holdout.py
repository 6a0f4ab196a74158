"""Choosing conditions to hold out for validation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from pertcast.data._codes import NAME_SEPARATOR
from pertcast.data._dosages import dosage_name

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping

    from pertcast.data._index import ConditionIndex

__all__ = ["HoldOut", "HoldOutKind", "Remainder", "hold_out", "unit_labels"]

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


class Remainder:
    """What is left for training while units are taken away, as long as nothing disappears from it.

    Parameters
    ----------
    tokens
        What each condition brings, such as its single perturbations. Conditions that are not listed are gone already.

    Examples
    --------
    >>> left = Remainder({0: ["A"], 1: ["A"], 2: ["B"]})
    >>> left.can_spare([0]), left.can_spare([2])
    (True, False)
    >>> left.take([1])
    >>> left.can_spare([0])
    False
    """

    def __init__(self, tokens: Mapping[int, Collection[Hashable]]) -> None:
        self._tokens = dict(tokens)
        self._left = Counter(token for brought in tokens.values() for token in brought)

    def can_spare(self, conditions: Iterable[int]) -> bool:
        """Whether some of these conditions are left, and everything that they bring is also brought by others.

        Parameters
        ----------
        conditions
            Conditions of a unit.
        """
        still = [condition for condition in conditions if condition in self._tokens]
        lost = Counter(token for condition in still for token in self._tokens[condition])
        return bool(still) and all(self._left[token] > count for token, count in lost.items())

    def take(self, conditions: Iterable[int]) -> None:
        """Take conditions away.

        Parameters
        ----------
        conditions
            Conditions of a unit.
        """
        for condition in conditions:
            self._left.subtract(self._tokens.pop(condition, ()))


def unit_labels(index: ConditionIndex, conditions: np.ndarray, kind: HoldOutKind) -> list[str]:
    """Name of the unit of each condition.

    Parameters
    ----------
    index
        Index of the screen.
    conditions
        Ids of the conditions.
    kind
        Kind of the units, see :func:`hold_out`.
    """
    perturbation = [index.perturbation_names[code] for code in index.perturbation[conditions]]
    context = [index.context_names[code] for code in index.context[conditions]]
    if kind == "context":
        return context
    if kind == "batch":
        return [index.batch_names[code] for code in index.batch[conditions]]
    if kind == "condition":
        has_dosages = len(np.unique(index.dosage[~index.is_control])) > 1
        dosage = [[dosage_name(dosage) for dosage in index.dosage[conditions]]] if has_dosages else []
        return [NAME_SEPARATOR.join(row) for row in zip(perturbation, *dosage, context, strict=True)]
    return perturbation


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
    of_code = [index.parts(code) for code in range(len(index.perturbation_names))]
    members: dict[str, list[int]] = {}
    for label, condition in zip(unit_labels(index, conditions, kind), conditions.tolist(), strict=True):
        members.setdefault(label, []).append(condition)
    names = sorted(members)
    parts = {condition: of_code[index.perturbation[condition]] for condition in conditions.tolist()}
    rest = Remainder(dict.fromkeys(parts, ()) if embedded else parts)

    units = [members[name] for name in names]
    eligible = [i for i, unit in enumerate(units) if kind != "combination" or len(parts[unit[0]]) > 1]
    n_units = len(names)
    if kind not in ("context", "batch"):
        eligible = [i for i in eligible if rest.can_spare(units[i])]
        n_units = len(eligible)
    if n_units < least:
        return None
    n_wanted = min(max(1, round(size * n_units)), len(names) - 1)
    held: list[int] = []
    for i in np.random.default_rng(seed).permutation(np.array(eligible, dtype=np.int64)).tolist():
        if len(held) == n_wanted:
            break
        if rest.can_spare(units[i]):
            rest.take(units[i])
            held.append(i)
    if not held:
        return None
    chosen = np.sort(np.concatenate([units[i] for i in held]))
    return HoldOut(kind, tuple(names[i] for i in sorted(held)), chosen)
