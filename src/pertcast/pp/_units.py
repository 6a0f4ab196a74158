"""The units that a split holds out as a whole, and finding them by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertcast.data._codes import NAME_SEPARATOR
from pertcast.data._dosages import dosage_name
from pertcast.data._holdout import unit_labels

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from pertcast.data._index import ConditionIndex
    from pertcast.pp._request import SplitKind

__all__ = ["alone_measured", "parts_of_conditions", "promises", "units_of"]

type Units = dict[str, list[int]]


def parts_of_conditions(index: ConditionIndex) -> dict[int, tuple[str, ...]]:
    """Single perturbations of each perturbed condition, by its id.

    Parameters
    ----------
    index
        Index of the screen.
    """
    of_code = [index.parts(code) for code in range(len(index.perturbation_names))]
    return {condition: of_code[index.perturbation[condition]] for condition in index.perturbed.tolist()}


def alone_measured(index: ConditionIndex) -> frozenset[str]:
    """Perturbations that some cells have received alone.

    Parameters
    ----------
    index
        Index of the screen.
    """
    return frozenset(parts[0] for parts in parts_of_conditions(index).values() if len(parts) == 1)


def units_of(index: ConditionIndex, kind: SplitKind) -> Units:
    """Units of a kind: name to the ids of the conditions that are held out with it, sorted by name.

    Only for ``"perturbation"`` can a condition belong to several units: a combination belongs to each of its parts.
    Single perturbations are no units of ``"combination"``.

    Parameters
    ----------
    index
        Index of the screen.
    kind
        What is held out.
    """
    conditions, parts = index.perturbed, parts_of_conditions(index)
    labels: Sequence[Sequence[str]]
    if kind == "perturbation":
        labels = list(parts.values())
    elif kind == "dosage":
        pairs = zip(unit_labels(index, conditions, "perturbation"), index.dosage[conditions], strict=True)
        labels = [(f"{name}{NAME_SEPARATOR}{dosage_name(dosage)}",) for name, dosage in pairs]
    else:
        labels = [(label,) for label in unit_labels(index, conditions, "batch" if kind == "donor" else kind)]
    units: Units = {}
    for condition, names in zip(conditions.tolist(), labels, strict=True):
        if kind != "combination" or len(parts[condition]) > 1:
            for name in names:
                units.setdefault(name, []).append(condition)
    return {name: units[name] for name in sorted(units)}


def promises(index: ConditionIndex, kind: SplitKind) -> list[Mapping[int, tuple[Hashable, ...]]]:
    """What must remain in training while units are drawn, by condition: first all that is wanted, then all that must.

    Parameters
    ----------
    index
        Index of the screen.
    kind
        What is held out.
    """
    parts = parts_of_conditions(index)
    some = dict.fromkeys(parts, (("any",),))
    context = {condition: (*some[condition], ("context", int(index.context[condition]))) for condition in parts}
    if kind in ("context", "donor"):
        known = {condition: (*some[condition], *parts[condition]) for condition in parts}
        both = {condition: (*context[condition], *parts[condition]) for condition in parts}
        return [known, some] if kind == "context" else [both, known, some]
    if kind == "condition":
        name = {condition: (*context[condition], int(index.perturbation[condition])) for condition in parts}
        return [name, context]
    return [context, some]
