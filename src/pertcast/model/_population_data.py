"""Populations as their own controls: two samples of each, for a model that encodes one and generates the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pertcast.data import MatchedControls, MatchLevel, RowGroups, population_moments

if TYPE_CHECKING:
    from pertcast.data import ConditionSplit, Screen

__all__ = ["paired_with_itself", "typical_distance", "with_controls"]


def paired_with_itself(screen: Screen) -> Screen:
    """Match every condition, the control ones included, with its own cells.

    What was a control set in a batch is then another sample of the same population. Control cells that the split
    labels ``test`` are left out; a control condition without any others has no cells.

    Parameters
    ----------
    screen
        Registered screen.
    """
    index = screen.index
    usable = np.isin(index.order, screen.controls.groups.all_rows())
    keep = usable | np.repeat(~index.is_control, index.groups.sizes)
    position = np.concatenate([[0], np.cumsum(keep)])
    groups = RowGroups(index.order[keep], position[index.groups.start], position[index.groups.stop])
    level = np.full(len(index), MatchLevel.CONTEXT_BATCH, dtype=np.int8)
    own = MatchedControls(groups, np.arange(len(index), dtype=np.int32), level)
    return replace(screen, index=replace(index, groups=groups), controls=own)


def with_controls(split: ConditionSplit, screen: Screen, *, min_cells: int) -> ConditionSplit:
    """Add the control conditions to the training conditions.

    Parameters
    ----------
    split
        Split of the perturbed conditions.
    screen
        What :func:`paired_with_itself` made.
    min_cells
        Smallest number of cells of a population.
    """
    controls = np.flatnonzero(screen.index.is_control & (screen.index.n_cells >= min_cells))
    return replace(split, train=np.union1d(split.train, controls))


def typical_distance(screen: Screen, conditions: np.ndarray) -> float:
    """Root mean square distance of populations from their centre.

    Populations are taken for Gaussians with a diagonal covariance: their means and standard deviations are then
    coordinates in which the Euclidean distance is the 2-Wasserstein distance.

    Parameters
    ----------
    screen
        Registered screen.
    conditions
        Conditions to compare.

    Returns
    -------
    In the units of the data.
    """
    means, variances = population_moments(screen.X, screen.index.groups.select(conditions))
    coordinates = np.concatenate([means, np.sqrt(variances)], axis=1)
    return max(float(np.sqrt(coordinates.var(axis=0).sum())), 1e-6)
