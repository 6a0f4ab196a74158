"""Finding the units that a user names."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.data._dosages import dosage_name
from pertcast.data._grammar import canonical_name, parse_perturbation
from pertcast.data._messages import did_you_mean, shorten

if TYPE_CHECKING:
    from pertcast.data._index import ConditionIndex
    from pertcast.pp._request import SplitKind
    from pertcast.pp._units import Units

__all__ = ["find_units"]


def find_units(index: ConditionIndex, kind: SplitKind, units: Units, hold_out: Any) -> list[str]:
    """Return the names of the units that `hold_out` asks for, sorted.

    Parameters
    ----------
    index
        Index of the screen.
    kind
        What is held out.
    units
        Units of this kind.
    hold_out
        A name or several; for ``"condition"`` tuples, for ``"dosage"`` numbers.

    Raises
    ------
    TypeError
        If an entry has the wrong type.
    ValueError
        If nothing is named, or something that the screen does not hold.
    """
    is_single = isinstance(hold_out, str | Real) or (
        kind == "condition" and isinstance(hold_out, tuple) and any(isinstance(item, str) for item in hold_out)
    )
    wanted = [hold_out] if is_single else list(hold_out)
    if not wanted:
        raise ValueError(f"`hold_out` is empty. Name what kind={kind!r} is to hold out, or leave `hold_out` out.")
    found: set[str] = set()
    for item in wanted:
        if kind == "dosage":
            found.update(_with_dosage(index, units, item))
        elif kind == "condition":
            found.update(_with_condition(index, units, item))
        elif kind in ("context", "donor"):
            found.add(_known(str(item), units, kind))
        else:
            found.add(_perturbation(index, kind, units, item))
    return sorted(found)


def _known(name: str, known: Any, noun: str) -> str:
    """Return the name, or raise if it is not known."""
    if name not in known:
        raise ValueError(
            f"`hold_out` names {name!r}, which is no {noun} with perturbed cells.{did_you_mean(name, known)} There are "
            f"{shorten(known, limit=10) or 'none'}."
        )
    return name


def _canonical(index: ConditionIndex, item: object) -> tuple[str, tuple[str, ...]]:
    """Canonical name and parts of a perturbation that may be spelled otherwise."""
    control = index.perturbation_names[0]
    parts = parse_perturbation(str(item), control)
    if not parts:
        raise ValueError(
            f"`hold_out` names the control {control!r}. Control cells are what predictions start from: they stay in "
            "training. Name perturbations only."
        )
    return canonical_name(parts, control), parts


def _perturbation(index: ConditionIndex, kind: SplitKind, units: Units, item: object) -> str:
    name, parts = _canonical(index, item)
    if kind == "perturbation" and len(parts) > 1:
        raise ValueError(
            f"`hold_out` names the combination {name!r}, but kind='perturbation' holds out single perturbations, and "
            "with them every combination that holds one. Use kind='combination', or name single perturbations."
        )
    if kind == "combination" and len(parts) == 1:
        raise ValueError(
            f"`hold_out` names the single perturbation {name!r}, but kind='combination' holds out combinations. Use "
            "kind='perturbation'."
        )
    return _known(name, units, kind)


def _with_dosage(index: ConditionIndex, units: Units, item: object) -> list[str]:
    """Units at a dosage."""
    if not isinstance(item, Real) or isinstance(item, bool):
        raise TypeError(f"`hold_out` lists dosages, which are numbers, but found {item!r}.")
    dosage = np.float32(float(item))
    found = [name for name, members in units.items() if index.dosage[members[0]] == dosage]
    if not found:
        levels = np.unique(index.dosage[index.perturbed])
        raise ValueError(
            f"`hold_out` names the dosage {item}, at which there are no perturbed cells. There are "
            f"{', '.join(dosage_name(level) for level in levels)}."
        )
    return found


def _with_condition(index: ConditionIndex, units: Units, item: Any) -> list[str]:
    """Units of a (perturbation, context) or (perturbation, context, dosage)."""
    fields = "(perturbation, context) or (perturbation, context, dosage)"
    if not isinstance(item, tuple | list) or len(item) not in (2, 3):
        raise TypeError(f"For kind='condition', `hold_out` lists tuples {fields}, but found {item!r}.")
    places = set(index.context_names)
    known = set(index.perturbation_names[1:])
    context = str(item[1])
    if str(item[0]) in places and str(item[0]) not in known and context in known:
        raise ValueError(f"`hold_out` lists {item!r}, but the order is {fields}.")
    name = _known(_canonical(index, item[0])[0], sorted(known), "perturbation")
    _known(context, sorted(places), "context")
    found = [
        unit
        for unit, members in units.items()
        if index.perturbation_names[index.perturbation[members[0]]] == name
        and index.context_names[index.context[members[0]]] == context
        and (len(item) == 2 or index.dosage[members[0]] == np.float32(item[2]))
    ]
    if not found:
        raise ValueError(f"`hold_out` lists {item!r}, but the screen has no cells of this condition.")
    return found
