"""The anchor of a model, and what it must know of control cells."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pertcast.anchor import AnchorQuery, Populations, ShiftAnchor
from pertcast.data import gather_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pertcast.data import Screen, ShiftTable
    from pertcast.representation import PrincipalComponents

__all__ = ["Forecaster", "fit_forecaster"]

logger = logging.getLogger(__name__)

_MAX_SAMPLED = 64
_MAX_CELLS = 200
_NO_NOISE = 2**62


@dataclass(frozen=True, eq=False)
class Forecaster:
    """Forecasts mean shifts, for training populations and for new ones; holds means of populations.

    Parameters
    ----------
    components
        Principal components that describe controls.
    anchor
        Fitted anchor.
    condition
        Condition of each of its populations, int64 ``[P]``.
    """

    components: PrincipalComponents
    anchor: ShiftAnchor
    condition: np.ndarray

    def state(self, control_mean: np.ndarray) -> np.ndarray:
        """Describe controls by the scores of their mean, ``[..., G]`` to ``[..., S]``."""
        return (control_mean - self.components.mean) @ self.components.axes

    def shift(
        self,
        parts: tuple[str, ...],
        dosage: float,
        control_mean: np.ndarray,
        context: str,
        batch: str | None,
        *,
        n_control: int,
        stand_ins: Sequence[tuple[str, ...]] | None = None,
    ) -> np.ndarray:
        """Forecast the shift of a population from the training populations, float32 ``[G]``.

        Parameters
        ----------
        parts
            Single perturbations, sorted.
        dosage
            Dosage.
        control_mean
            Mean of the controls, ``[G]``.
        context, batch
            Names.
        n_control
            Number of controls.
        stand_ins
            For each part the names that speak for it; others than itself count with the mean of their forecasts,
            unless it has no vector: then all measured ones speak for it, and the anchor knows what they have in common.
        """
        mean = np.asarray(control_mean, dtype=float)
        speakers = [(part,) for part in parts] if stand_ins is None else list(stand_ins)
        vectors = self.anchor.vectors
        known = tuple(p for p, names in zip(parts, speakers, strict=True) if names == (p,) or p not in vectors)
        query = AnchorQuery(known, dosage, mean, self.state(mean), context, batch, n_control)
        shifts = [self.anchor.shift(query)] if known else []
        for part, names in zip(parts, speakers, strict=True):
            if part not in known:  # the noise of the controls, which every forecast holds, counts once
                once = query._replace(n_control=_NO_NOISE) if shifts else query
                shifts.append(self.anchor.mean_shift(once, names))
        shift = np.sum(shifts, axis=0)
        return shift.astype(np.float32)


def fit_forecaster(
    screen: Screen, components: PrincipalComponents, table: ShiftTable, *, nonnegative: bool, seed: int
) -> Forecaster:
    """Fit the anchor on the shifts of conditions.

    Parameters
    ----------
    screen
        Registered screen.
    components
        Principal components that describe controls.
    table
        Shifts to learn from.
    nonnegative
        Whether expression cannot be negative.
    seed
        Seed of subsampling.
    """
    index = screen.index
    names = np.array(index.context_names, dtype=object)
    batches = np.array(index.batch_names, dtype=object)
    populations = Populations(
        perturbation=[index.parts(code) for code in table.perturbation],
        context=names[table.context],
        batch=batches[table.batch],
        dosage=table.dosage,
        group=table.group,
        control_mean=table.group_mean,
        shift=table.shift,
        state=(table.group_mean - components.mean) @ components.axes,
        n_control=table.n_control,
        n_perturbed=table.n_perturbed,
        cell_variance=_cell_variance(screen, table.condition, seed=seed),
    )
    vocabulary = screen.vocabulary
    vectors = None if vocabulary.vectors is None else dict(zip(vocabulary.names, vocabulary.vectors, strict=True))
    genes = {str(name): column for column, name in enumerate(screen.metadata.var_names)}
    anchor = ShiftAnchor(populations, nonnegative=nonnegative, vectors=vectors, genes=genes, seed=seed)
    logger.info("Anchor: %r.", anchor)
    return Forecaster(components, anchor, table.condition)


def _cell_variance(screen: Screen, conditions: np.ndarray, *, seed: int) -> float:
    """Variance between the cells of a population, the mean over genes, from at most 64 populations of 200 cells."""
    rng = np.random.default_rng(seed)
    chosen = conditions if len(conditions) <= _MAX_SAMPLED else rng.choice(conditions, _MAX_SAMPLED, replace=False)
    total = degrees = 0.0
    for condition in np.sort(chosen):
        rows = screen.index.groups.rows(condition)
        rows = np.sort(rng.choice(rows, min(len(rows), _MAX_CELLS), replace=False))
        if len(rows) > 1:
            values = gather_rows(screen.X, rows)
            total += float(values.var(axis=0, dtype=np.float64).mean()) * len(rows)
            degrees += len(rows) - 1
    return total / max(degrees, 1)
