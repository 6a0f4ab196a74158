"""The anchor of a model, and what it must know of control cells."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pertcast.anchor import AnchorQuery, Populations, ShiftAnchor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pertcast.data import Screen, ShiftTable
    from pertcast.representation import PrincipalComponents

__all__ = ["Forecaster", "fit_forecaster"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Forecaster:
    """Forecasts mean shifts, for training populations and for new ones; holds means, never cells.

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
        stand_ins: Sequence[tuple[str, ...]] | None = None,
    ) -> np.ndarray:
        """Forecast the shift of a population from all training populations but itself, float32 ``[G]``.

        Parameters
        ----------
        parts
            Single perturbations, sorted.
        dosage
            Dosage.
        control_mean
            Mean of the controls, ``[G]``.
        context, batch
            Names; with a batch of None nothing measured in the context is used.
        stand_ins
            For each part the names that speak for it; others than itself count with the mean of their forecasts.
        """
        mean = np.asarray(control_mean, dtype=float)
        speakers = [(part,) for part in parts] if stand_ins is None else list(stand_ins)
        known = tuple(part for part, names in zip(parts, speakers, strict=True) if names == (part,))
        query = AnchorQuery(known, dosage, mean, self.state(mean), context, batch)
        shift = self.anchor.shift(query) if known else np.zeros_like(mean)
        for part, names in zip(parts, speakers, strict=True):
            if part not in known:
                shift = shift + self.anchor.mean_shift(query, names)
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
    )
    vocabulary = screen.vocabulary
    vectors = None if vocabulary.vectors is None else dict(zip(vocabulary.names, vocabulary.vectors, strict=True))
    anchor = ShiftAnchor(populations, nonnegative=nonnegative, vectors=vectors, seed=seed)
    logger.info("Anchor: %r.", anchor)
    return Forecaster(components, anchor, table.condition)
