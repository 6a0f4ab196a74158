"""Random pairs of perturbed cells and matched controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pertcast.data._groups import RowGroups
    from pertcast.data._screen import Screen

__all__ = ["CellPairs", "PairSampler"]


class CellPairs(NamedTuple):
    """Row numbers of n pairs of cells."""

    population: np.ndarray
    """Population of each pair, in [0, P)."""
    perturbed: np.ndarray
    """A perturbed cell of the population."""
    control: np.ndarray
    """A control matched to the population."""
    other: np.ndarray
    """A second control, drawn like the first."""


@dataclass(frozen=True, eq=False, repr=False)
class PairSampler:
    """Draws pairs of cells from P populations, each population equally often and with replacement.

    Parameters
    ----------
    perturbed
        Perturbed cells of the populations, P groups of rows.
    controls
        Controls matched to them, P groups of rows.
    """

    perturbed: RowGroups
    controls: RowGroups

    @classmethod
    def from_screen(cls, screen: Screen, conditions: np.ndarray) -> PairSampler:
        """Pair conditions of a screen with their matched controls.

        Parameters
        ----------
        screen
            Registered screen.
        conditions
            Ids of perturbed conditions.
        """
        groups = screen.controls.groups.select(screen.controls.group[conditions])
        return cls(screen.index.groups.select(conditions), groups)

    def draw(self, n: int, rng: np.random.Generator) -> CellPairs:
        """Draw pairs.

        Parameters
        ----------
        n
            Number of pairs.
        rng
            Source of randomness.
        """
        population = rng.integers(len(self.perturbed), size=n)
        return CellPairs(
            population,
            _one_of_each(self.perturbed, population, rng),
            _one_of_each(self.controls, population, rng),
            _one_of_each(self.controls, population, rng),
        )

    def all_rows(self) -> np.ndarray:
        """Row numbers of all cells that may be drawn, sorted and without repeats."""
        return np.union1d(self.perturbed.all_rows(), self.controls.all_rows())

    def __repr__(self) -> str:
        """Return counts on one line."""
        return f"PairSampler[n_populations={len(self.perturbed)}]"


def _one_of_each(groups: RowGroups, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one row of each group that is named."""
    return groups.order[groups.start[group] + rng.integers(groups.sizes[group])]
