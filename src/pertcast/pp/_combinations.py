"""Holding out combinations of which training sees only some parts."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from pertcast.data._messages import shorten
from pertcast.data._split import Part
from pertcast.pp._choose import share_of
from pertcast.pp._units import alone_measured, parts_of_conditions, units_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from pertcast.data._index import ConditionIndex

__all__ = ["WithheldParts"]


class WithheldParts:
    """Single perturbations that training sees nowhere, so that combinations have as many seen parts as asked.

    A part is seen if training has it alone, and withheld if it is in no training condition, neither alone nor within
    a combination. A combination fits if exactly `n_seen` of its parts are seen and all others withheld.

    Parameters
    ----------
    index
        Index of the screen.
    n_seen
        How many parts of a held-out combination training sees.
    """

    def __init__(self, index: ConditionIndex, n_seen: int) -> None:
        self.n_seen = n_seen
        self.alone = alone_measured(index)
        self.withheld: dict[str, Part] = {}
        self.chosen: dict[str, Part] = {}
        parts = parts_of_conditions(index)
        self._n_conditions = len(parts)
        self._of_part = units_of(index, "perturbation")
        self._of_combination = units_of(index, "combination")
        self._parts = {name: parts[members[0]] for name, members in self._of_combination.items()}

    def part_of(self, name: str) -> Part | None:
        """Part of the split in which a combination is held out and fits; ``None`` if it is trained on or does not fit.

        Parameters
        ----------
        name
            Canonical name of a combination.
        """
        parts = self._parts[name]
        hidden = [part for part in parts if part in self.withheld]
        seen = [part for part in parts if part in self.alone and part not in self.withheld]
        held = max([self.withheld[part] for part in hidden] + [self.chosen.get(name, Part.TRAIN)])
        fits = len(seen) == self.n_seen and len(seen) + len(hidden) == len(parts)
        return held if fits and held != Part.TRAIN else None

    def fitting(self, part: Part) -> list[str]:
        """Combinations that are held out in a part of the split and fit, sorted.

        Parameters
        ----------
        part
            Part of the split.
        """
        return [name for name in self._parts if self.part_of(name) == part]

    def conditions(self, part: Part) -> set[int]:
        """Conditions that one part of the split holds.

        Parameters
        ----------
        part
            ``Part.VALIDATION`` or ``Part.TEST``.
        """
        members = [row for name, own in self.withheld.items() if own == part for row in self._of_part[name]]
        return {
            *members,
            *(row for name, own in self.chosen.items() if own == part for row in self._of_combination[name]),
        }

    def draw(self, part: Part, size: float, rng: np.random.Generator) -> None:
        """Hold out a share of the combinations that can fit, or a few more.

        Parameters
        ----------
        part
            Part of the split to put them in.
        size
            Share of the combinations.
        rng
            Random numbers.

        Raises
        ------
        ValueError
            If none can be held out.
        """
        free = [name for name in self._parts if not self._is_gone(name) and self._can_fit(name)]
        for i in rng.permutation(len(free)):
            if len(self.fitting(part)) >= share_of(size, len(free)):
                break
            self._hold(free[i], part, rng)
        if not self.fitting(part):
            raise ValueError(
                f"No combination can be held out for {part.name.lower()} with n_seen={self.n_seen}: of "
                f"{len(self._parts)} combinations, {len(free)} have {self.n_seen} part(s) that were measured alone "
                "and are not held out already, and training needs some of the other conditions. Use another `n_seen`."
            )

    def hold(self, names: Iterable[str], part: Part, rng: np.random.Generator) -> None:
        """Hold out these combinations, one after the other; a choice that was made is not taken back.

        Parameters
        ----------
        names
            Canonical names.
        part
            Part of the split to put them in.
        rng
            Random numbers; they decide which parts are withheld where several choices cost training the same.

        Raises
        ------
        ValueError
            If one does not fit beside those before it.
        """
        for name in names:
            if not self._hold(name, part, rng):
                alone = [part for part in self._parts[name] if part in self.alone]
                raise ValueError(
                    f"No way was found to hold out the combination {name!r} with n_seen={self.n_seen}: measured alone "
                    f"are {shorten(alone) or 'none of its parts'}, and the combinations before it need "
                    f"{shorten(sorted(self._seen())) or 'nothing'} in training and "
                    f"{shorten(sorted(self.withheld)) or 'nothing'} withheld. Name fewer, use another `n_seen`, or say "
                    "yourself what training must not see: kind='perturbation' with the parts in `hold_out`."
                )

    def _hold(self, name: str, part: Part, rng: np.random.Generator) -> bool:
        """Hold out one combination; false if that is impossible."""
        parts, keep = self._parts[name], self._seen()
        must = {part for part in parts if part in self.withheld}
        gone = self.conditions(Part.TEST) | self.conditions(Part.VALIDATION)
        options = []
        for hidden in combinations(parts, len(parts) - self.n_seen) if len(parts) >= self.n_seen else ():
            fits = must <= set(hidden) and keep.isdisjoint(hidden) and self.alone.issuperset(set(parts) - set(hidden))
            lost = gone.union(self._of_combination[name], *(self._of_part[part] for part in hidden))
            if fits and len(lost) < self._n_conditions:
                options.append((len(lost), hidden))
        if not options:
            return False
        cheapest = [hidden for cost, hidden in options if cost == min(options)[0]]
        hidden = cheapest[int(rng.integers(len(cheapest)))]
        self.chosen[name] = part
        for single in hidden:
            self.withheld.setdefault(single, part)
        return True

    def _seen(self) -> set[str]:
        """Parts that the combinations that fit need in training."""
        fitting = [name for name in self._parts if self.part_of(name) is not None]
        return {part for name in fitting for part in self._parts[name] if part not in self.withheld}

    def _can_fit(self, name: str) -> bool:
        parts = self._parts[name]
        return len(parts) >= self.n_seen and len(self.alone.intersection(parts)) >= self.n_seen

    def _is_gone(self, name: str) -> bool:
        return name in self.chosen or any(part in self.withheld for part in self._parts[name])
