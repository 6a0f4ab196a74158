"""Choosing the units that a split holds out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from pertcast.data._holdout import Remainder

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping, Sequence

    from pertcast.data._index import ConditionIndex
    from pertcast.pp._units import Units

__all__ = ["assign_folds", "draw_units", "fold_of_dosages", "highest_dosages", "share_of"]


def share_of(size: float, n: int) -> int:
    """Share of n things as a number, at least 1.

    Parameters
    ----------
    size
        Share, in (0, 1).
    n
        How many things there are.

    Examples
    --------
    >>> share_of(0.2, 11), share_of(0.2, 2)
    (2, 1)
    """
    return max(1, round(size * n))


def draw_units(
    units: Units,
    taken: Collection[int],
    tiers: Sequence[Mapping[int, Collection[Hashable]]],
    size: float,
    rng: np.random.Generator,
) -> list[str]:
    """Draw units at random, as long as what is wanted remains in training.

    Where no unit at all can be spared by the first of the `tiers`, the next one decides.

    Parameters
    ----------
    units
        Units to draw from, sorted by name, so that names and seed alone decide.
    taken
        Conditions that are held out already.
    tiers
        See :func:`~pertcast.pp._units.promises`.
    size
        Share of the units that are not taken, to draw; at least one is.
    rng
        Random numbers.

    Returns
    -------
    Names, sorted; none if nothing can be spared. There may be fewer than `size` says.
    """
    gone = set(taken)
    free = [name for name, members in units.items() if not gone.issuperset(members)]
    order = [free[i] for i in rng.permutation(len(free))]
    for tokens in tiers:
        rest = Remainder({condition: brought for condition, brought in tokens.items() if condition not in gone})
        drawn: list[str] = []
        for name in order:
            if len(drawn) == share_of(size, len(free)):
                break
            if rest.can_spare(units[name]):
                rest.take(units[name])
                drawn.append(name)
        if drawn:
            return sorted(drawn)
    return []


def assign_folds(
    units: Units, tokens: Mapping[int, Collection[Hashable]], n_folds: int, rng: np.random.Generator
) -> dict[str, int]:
    """Deal units into folds of equal size, to within one, and spread what they share over the folds.

    Units are dealt in random order, but one after the other where they bring the same rare thing. Each goes to one of
    the smallest folds: to that with the smallest share of the units that bring the same things.

    Parameters
    ----------
    units
        Units, sorted by name.
    tokens
        What each condition brings, such as its context.
    n_folds
        Number of folds.
    rng
        Random numbers.
    """
    brought = {name: {token for row in members for token in tokens[row]} for name, members in units.items()}
    total = Counter(token for found in brought.values() for token in found)
    names = list(units)
    order = [names[i] for i in rng.permutation(len(names))]
    first: dict[Hashable, int] = {}
    for position, name in enumerate(order):
        for token in brought[name]:
            first.setdefault(token, position)
    order.sort(key=lambda name: first[min(brought[name], key=lambda token: (total[token], first[token]))])

    size = [0] * n_folds
    seen: list[Counter[Hashable]] = [Counter() for _ in range(n_folds)]
    fold_of: dict[str, int] = {}
    for name in order:
        smallest = [fold for fold in range(n_folds) if size[fold] == min(size)]
        shares = [sum(seen[fold][token] / total[token] for token in brought[name]) for fold in smallest]
        fold_of[name] = smallest[int(np.argmin(np.round(shares, 9)))]
        size[fold_of[name]] += 1
        seen[fold_of[name]].update(brought[name])
    return fold_of


def fold_of_dosages(index: ConditionIndex, units: Units, n_folds: int, rng: np.random.Generator) -> dict[str, int]:
    """Deal dosages into folds; all perturbations at one dosage are in one fold.

    Parameters
    ----------
    index
        Index of the screen.
    units
        Units of one perturbation and dosage.
    n_folds
        Number of folds.
    rng
        Random numbers.
    """
    levels = np.unique(index.dosage[index.perturbed])
    fold_of_level = dict(
        zip(levels[rng.permutation(len(levels))].tolist(), np.arange(len(levels)) % n_folds, strict=True)
    )
    return {name: int(fold_of_level[float(index.dosage[members[0]])]) for name, members in units.items()}


def highest_dosages(index: ConditionIndex, units: Units, taken: Collection[int], size: float) -> list[str]:
    """Return the units with the highest dosages of each perturbation; at least one dosage of each is left.

    Parameters
    ----------
    index
        Index of the screen.
    units
        Units of one perturbation and dosage.
    taken
        Conditions that are held out already.
    size
        Share of the dosages of each perturbation.
    """
    gone = set(taken)
    levels: dict[int, list[tuple[float, str]]] = {}
    for name, members in units.items():
        if not gone.issuperset(members):
            perturbation = int(index.perturbation[members[0]])
            levels.setdefault(perturbation, []).append((float(index.dosage[members[0]]), name))
    highest: list[str] = []
    for found in levels.values():
        n_high = min(share_of(size, len(found)), len(found) - 1)
        highest += [name for _, name in sorted(found)[len(found) - n_high :]]
    return sorted(highest)
