"""Random pairs of perturbed cells and matched controls."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pertcast.data._groups import RowGroups

if TYPE_CHECKING:
    import pandas as pd

    from pertcast.data._screen import Screen

__all__ = ["CellPairs", "PairSampler", "sorted_by_name"]

logger = logging.getLogger(__name__)


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

        Cells of a group are sorted by their names, so that draws do not depend on the order of the cells.

        Parameters
        ----------
        screen
            Registered screen.
        conditions
            Ids of perturbed conditions.
        """
        names = screen.manager.adata.obs_names
        perturbed = sorted_by_name(screen.index.groups.select(conditions), names)
        controls = sorted_by_name(screen.controls.groups, names)
        return cls(perturbed, controls.select(screen.controls.group[conditions]))

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


def sorted_by_name(groups: RowGroups, obs_names: pd.Index) -> RowGroups:
    """Sort the rows of each group by the names of their cells; left as they are where names are not unique.

    Parameters
    ----------
    groups
        Groups of rows.
    obs_names
        Names of all cells.
    """
    if not obs_names.is_unique:
        logger.info("The names of the cells are not unique, so training depends on the order of the cells.")
        return groups
    rows = groups.all_rows()
    position = np.empty(len(obs_names), dtype=np.int64)
    position[np.argsort(obs_names.to_numpy(dtype=object), kind="stable")] = np.arange(len(obs_names))
    stop = np.cumsum(groups.sizes)
    group = np.repeat(np.arange(len(groups)), groups.sizes)
    return RowGroups(rows[np.lexsort((position[rows], group))], stop - groups.sizes, stop)


def _one_of_each(groups: RowGroups, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one row of each group that is named."""
    return groups.order[groups.start[group] + rng.integers(groups.sizes[group])]
