"""Deciding which conditions of a screen are for training, validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pertcast.data._messages import shorten
from pertcast.data._split import Part
from pertcast.pp._choose import assign_folds, draw_units, fold_of_dosages, highest_dosages
from pertcast.pp._combinations import WithheldParts
from pertcast.pp._names import find_units
from pertcast.pp._units import alone_measured, parts_of_conditions, promises, units_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from pertcast.data._index import ConditionIndex
    from pertcast.pp._request import SplitRequest
    from pertcast.pp._units import Units

__all__ = ["SplitPlan", "plan_split"]


@dataclass(frozen=True, eq=False)
class SplitPlan:
    """Which conditions are in which part.

    Parameters
    ----------
    part
        Code of :class:`~pertcast.data._split.Part` for each condition, int8 ``[C]``; control conditions are for
        training.
    test
        Names of the units that are held out for testing, sorted.
    validation
        Names of the units that are held out for validation, sorted.
    withheld
        Single perturbations that are kept from training because `n_seen` asks for it, sorted.
    """

    part: np.ndarray
    test: tuple[str, ...]
    validation: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()


def plan_split(index: ConditionIndex, request: SplitRequest) -> SplitPlan:
    """Decide which units are held out.

    Parameters
    ----------
    index
        Index of the screen.
    request
        What to hold out.

    Raises
    ------
    TypeError
        If `hold_out` lists something of a wrong type.
    ValueError
        If nothing can be held out, nothing is left for training, or `hold_out` names something unknown.
    """
    rng = np.random.default_rng(request.seed)
    units = units_of(index, request.kind)
    if request.kind == "combination":
        if not units:
            raise ValueError("The screen has no combinations to hold out: no perturbation is written as 'A+B'.")
        if not _sees_all_parts(index, request, units):
            return _plan_withheld(index, request, units, rng)
    candidates = _with_seen_parts(index, units) if request.kind == "combination" else units

    if request.hold_out is not None:
        test = find_units(index, request.kind, units, request.hold_out)
        _require_seen_parts(index, request, test, candidates)
    elif request.n_folds is not None:
        test = _fold(index, request, candidates, rng)
    else:
        test = _draw(index, request, candidates, (), request.test_size, rng)
    held = {condition for name in test for condition in units[name]}
    validation: list[str] = []
    if request.validation_size:
        validation = _draw(index, request, candidates, held, request.validation_size, rng)
    return SplitPlan(
        _parts(index, held, {condition for name in validation for condition in units[name]}),
        tuple(test),
        tuple(validation),
    )


def _parts(index: ConditionIndex, test: Collection[int], validation: Collection[int]) -> np.ndarray:
    """Part of each condition; raises if nothing is left for training."""
    part = np.zeros(len(index), dtype=np.int8)
    part[list(validation)] = Part.VALIDATION
    part[list(test)] = Part.TEST  # a condition that both would hold out is for testing
    if not (part[index.perturbed] == Part.TRAIN).any():
        raise ValueError(
            f"Nothing is left for training: all {len(index.perturbed)} perturbed conditions would be held out. Hold "
            "out fewer."
        )
    return part


def _draw(
    index: ConditionIndex,
    request: SplitRequest,
    candidates: Units,
    taken: Collection[int],
    size: float,
    rng: np.random.Generator,
) -> list[str]:
    """Draw units of a share, or raise if none can be spared."""
    if request.kind == "dosage":
        drawn = highest_dosages(index, candidates, taken, size)
    else:
        drawn = draw_units(candidates, taken, promises(index, request.kind), size, rng)
    if not drawn:
        gone = set(taken)
        free = [name for name, members in candidates.items() if not gone.issuperset(members)]
        why = {
            "combination": "Combinations are drawn from those whose parts were all measured alone.",
            "condition": "Each context must keep a condition for training; with one perturbation, use kind='context'.",
            "dosage": "Each perturbation must keep a dosage for training.",
        }.get(request.kind, "Something must be left for training.")
        stage, advice = ("test", "Use another kind, or name what to hold out in `hold_out`.")
        if taken:
            stage, advice = ("validation", "Hold out less for testing, or leave `validation_size` out.")
        raise ValueError(
            f"Nothing can be held out for {stage} with kind={request.kind!r}. There are {len(free)} to choose from: "
            f"{shorten(free) or 'none'}. {why} {advice}"
        )
    return drawn


def _fold(index: ConditionIndex, request: SplitRequest, candidates: Units, rng: np.random.Generator) -> list[str]:
    """Units of the fold that is asked for."""
    n_folds = request.n_folds or 0
    is_dosage = request.kind == "dosage"
    n_units = len(np.unique(index.dosage[index.perturbed])) if is_dosage else len(candidates)
    if n_folds > n_units:
        raise ValueError(
            f"`n_folds={n_folds}` needs as many units of kind={request.kind!r}, but there are {n_units}: "
            f"{shorten(candidates) or 'none'}."
        )
    if is_dosage:
        fold_of = fold_of_dosages(index, candidates, n_folds, rng)
    else:
        fold_of = assign_folds(candidates, promises(index, request.kind)[0], n_folds, rng)
    return sorted(name for name, fold in fold_of.items() if fold == request.fold)


def _sees_all_parts(index: ConditionIndex, request: SplitRequest, units: Units) -> bool:
    """Whether training is to see all parts of the held-out combinations alone."""
    parts = parts_of_conditions(index)
    return request.n_seen is None or all(len(parts[members[0]]) == request.n_seen for members in units.values())


def _with_seen_parts(index: ConditionIndex, units: Units) -> Units:
    """Combinations whose parts were all measured alone."""
    alone, parts = alone_measured(index), parts_of_conditions(index)
    return {name: members for name, members in units.items() if alone.issuperset(parts[members[0]])}


def _require_seen_parts(index: ConditionIndex, request: SplitRequest, names: list[str], candidates: Units) -> None:
    """Raise if `n_seen` is asked for and a named combination has a part that was never measured alone."""
    wrong = [name for name in names if name not in candidates]
    if request.n_seen is not None and wrong:
        raise ValueError(
            f"`hold_out` names {wrong[0]!r}, but not all of its parts were measured alone, so that training cannot see "
            f"n_seen={request.n_seen} of them. Leave `n_seen` out, or name other combinations."
        )


def _plan_withheld(index: ConditionIndex, request: SplitRequest, units: Units, rng: np.random.Generator) -> SplitPlan:
    """Hold out combinations of which training sees only some parts."""
    if request.n_folds is not None:
        raise ValueError(
            f"`n_folds` needs combinations whose parts training sees all, but n_seen={request.n_seen} withholds some, "
            "and these cannot be dealt into separate folds. Leave out one of them, and use several seeds instead."
        )
    plan = WithheldParts(index, request.n_seen or 0)
    if request.hold_out is not None:
        test = find_units(index, request.kind, units, request.hold_out)
        plan.hold(test, Part.TEST, rng)
    else:
        plan.draw(Part.TEST, request.test_size, rng)
        test = plan.fitting(Part.TEST)
    if request.validation_size:
        plan.draw(Part.VALIDATION, request.validation_size, rng)
    return SplitPlan(
        _parts(index, plan.conditions(Part.TEST), plan.conditions(Part.VALIDATION)),
        tuple(test),
        tuple(plan.fitting(Part.VALIDATION)),
        tuple(sorted(plan.withheld)),
    )
