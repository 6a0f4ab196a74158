"""A population to forecast."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pertcast.anchor._conditions import Conditions

__all__ = ["AnchorQuery"]


class AnchorQuery(NamedTuple):
    """A population to forecast.

    Examples
    --------
    >>> query = AnchorQuery(("a", "b"), 1.0, control_mean=np.array([0.5, 2.0]), state=np.array([0.3]), context="B")
    >>> query.perturbation, query.n_control, query.conditions.dosage.tolist()
    (('a', 'b'), 1, [1.0])
    """

    perturbation: tuple[str, ...]
    """Single perturbations, sorted."""
    dosage: float
    control_mean: np.ndarray
    """Mean of the controls, ``[G]``."""
    state: np.ndarray
    """State of the controls, ``[S]``."""
    context: object = None
    """Context of the population."""
    batch: object = None
    """Batch of the population. Training populations of the same context and batch are taken to share its controls."""
    n_control: int = 1
    """Number of controls."""

    @property
    def conditions(self) -> Conditions:
        """The query as a list of one condition."""
        names = np.array([self.context], dtype=object), np.array([self.batch], dtype=object)
        return Conditions(
            [self.perturbation], np.array([self.dosage]), *names, self.state[None], np.array([self.n_control])
        )
