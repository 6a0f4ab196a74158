"""What training must not see, and what it should have seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pertcast.data._holdout import unit_labels
from pertcast.data._messages import shorten
from pertcast.data._split import Part
from pertcast.pp._units import parts_of_conditions, units_of

if TYPE_CHECKING:
    from pertcast.data._index import ConditionIndex
    from pertcast.pp._request import SplitKind

__all__ = ["require_no_leak", "unseen_names"]


def require_no_leak(index: ConditionIndex, part: np.ndarray, kind: SplitKind) -> None:
    """Raise if training sees what the split claims to hold out.

    Parameters
    ----------
    index
        Index of the screen.
    part
        Code of :class:`~pertcast.data._split.Part` for each condition, ``[C]``.
    kind
        What is held out.

    Raises
    ------
    ValueError
        If a held-out unit is also in an earlier part: one of training in validation or test, one of validation in
        test.
    """
    if kind in ("perturbation", "combination"):
        _require_unseen_parts(index, part, kind)
    if kind == "perturbation":
        return
    members = units_of(index, kind)
    if kind == "combination":
        members = {}
        for condition, name in zip(index.perturbed.tolist(), unit_labels(index, index.perturbed, kind), strict=True):
            members.setdefault(name, []).append(condition)
    leaks = [name for name, conditions in members.items() if len(np.unique(part[conditions])) > 1]
    if leaks:
        noun = {"combination": "perturbation", "dosage": "perturbation and dosage"}.get(kind, kind)
        raise ValueError(
            f"{len(leaks)} units of kind={kind!r} have perturbed cells in more than one part of the split, which leaks "
            f"them: {shorten(leaks)}. Give all perturbed cells of one {noun} one label."
        )


def _require_unseen_parts(index: ConditionIndex, part: np.ndarray, kind: SplitKind) -> None:
    """Raise unless each held-out perturbation has a part that no earlier part of the split holds.

    For combinations, whose parts training may see, this is asked of held-out single perturbations only.
    """
    parts = parts_of_conditions(index)
    earliest: dict[str, int] = {}
    for condition, names in parts.items():
        for name in names:
            earliest[name] = min(earliest.get(name, Part.TEST), int(part[condition]))
    leaks = sorted(
        {
            index.perturbation_names[index.perturbation[condition]]
            for condition, names in parts.items()
            if (kind == "perturbation" or len(names) == 1) and max(earliest[name] for name in names) < part[condition]
        }
    )
    if leaks:
        raise ValueError(
            f"{len(leaks)} held-out perturbation(s) are not unseen: every part of them is also in an earlier part of "
            f"the split, alone or within a combination: {shorten(leaks)}. Hold out all perturbed cells that received a "
            "held-out perturbation, in combinations as well."
        )


def unseen_names(index: ConditionIndex, part: np.ndarray) -> tuple[list[str], list[str]]:
    """Single perturbations and contexts of the held-out conditions of which training has no perturbed cells, sorted.

    Parameters
    ----------
    index
        Index of the screen.
    part
        Code of :class:`~pertcast.data._split.Part` for each condition, ``[C]``.
    """
    pool = index.perturbed
    trained, held = pool[part[pool] == Part.TRAIN], pool[part[pool] != Part.TRAIN]

    def parts(conditions: np.ndarray) -> set[str]:
        return {name for code in np.unique(index.perturbation[conditions]) for name in index.parts(code)}

    contexts = np.setdiff1d(index.context[held], index.context[trained])
    return sorted(parts(held) - parts(trained)), sorted(index.context_names[code] for code in contexts)
