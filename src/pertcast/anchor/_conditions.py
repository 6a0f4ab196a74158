"""What is known of conditions before any perturbed cell is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Conditions"]


class Conditions(NamedTuple):
    """What is known of n conditions before any perturbed cell is measured.

    Examples
    --------
    >>> import numpy as np
    >>> from pertcast.anchor import Populations
    >>> populations = Populations(
    ...     perturbation=[("a",), ("a",)],
    ...     context=np.array(["B", "T"], dtype=object),
    ...     batch=np.array(["1", "1"], dtype=object),
    ...     dosage=np.ones(2),
    ...     group=np.array([0, 1]),
    ...     control_mean=np.array([[1.0, 2.0], [3.0, 2.0]]),
    ...     shift=np.array([[1.0, 0.0], [3.0, 0.0]]),
    ...     state=np.array([[0.0], [1.0]]),
    ...     n_control=np.array([80, 80]),
    ...     n_perturbed=np.array([20, 20]),
    ...     cell_variance=0.0,
    ... )
    >>> conditions = populations.conditions
    >>> conditions.state.tolist(), conditions.take(np.array([1])).context.tolist()
    ([[0.0], [1.0]], ['T'])
    """

    perturbation: Sequence[tuple[str, ...]]
    """Single perturbations of each, sorted."""
    dosage: np.ndarray
    """Dosage, ``[n]``."""
    context: np.ndarray
    """Context, ``[n]``."""
    batch: np.ndarray
    """Batch, ``[n]``."""
    state: np.ndarray
    """State of the controls, ``[n, S]``."""
    n_control: np.ndarray
    """Number of controls, ``[n]``."""

    def take(self, rows: np.ndarray) -> Conditions:
        """Return some of the conditions."""
        names = [self.perturbation[row] for row in rows]
        return Conditions(names, *(np.asarray(values)[rows] for values in self[1:]))
