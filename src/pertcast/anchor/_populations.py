"""What an anchor knows of its training populations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pertcast.anchor._conditions import Conditions
from pertcast.anchor._query import AnchorQuery

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Populations"]

HALF_TRUST = 20.0
"""Number of cells at which a mean counts half as much as one without sampling noise."""


@dataclass(frozen=True, eq=False)
class Populations:
    """Means of P perturbed populations and of their controls.

    Parameters
    ----------
    perturbation
        Single perturbations of each population, sorted: ``("A", "B")`` for ``A+B``.
    context
        Context of each population.
    batch
        Batch of each population.
    dosage
        Dosage, ``[P]``.
    group
        Row of ``control_mean`` with the controls of each population, int ``[P]``.
    control_mean
        Mean of each group of controls, ``[Q, G]``.
    shift
        Mean of the perturbed cells minus mean of the controls, ``[P, G]``.
    state
        Low-dimensional description of each group of controls, ``[Q, S]``: principal component scores of its mean.
    n_control
        Number of controls of each population, ``[P]``.
    n_perturbed
        Number of perturbed cells, ``[P]``.
    cell_variance
        Variance between the cells of a population, the mean over genes.

    Raises
    ------
    ValueError
        If the lengths disagree or a mean is not finite.

    Examples
    --------
    >>> import numpy as np
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
    >>> populations.weight.tolist()  # 80 / (80 + 20) times 20 / (20 + 20)
    [0.4, 0.4]
    >>> populations.rows_of[("a",)].tolist(), populations.control(1).tolist()
    ([0, 1], [3.0, 2.0])
    """

    perturbation: Sequence[tuple[str, ...]]
    context: np.ndarray
    batch: np.ndarray
    dosage: np.ndarray
    group: np.ndarray
    control_mean: np.ndarray
    shift: np.ndarray
    state: np.ndarray
    n_control: np.ndarray
    n_perturbed: np.ndarray
    cell_variance: float

    def __post_init__(self) -> None:
        """Check lengths and values."""
        n = len(self.perturbation)
        lengths = {name: len(getattr(self, name)) for name in ("context", "batch", "dosage", "group", "shift")}
        lengths |= {name: len(getattr(self, name)) for name in ("n_control", "n_perturbed")}
        wrong = {name: length for name, length in lengths.items() if length != n}
        if wrong:
            raise ValueError(f"There are {n} populations, but other lengths were found: {wrong}.")
        if len(self.state) != len(self.control_mean):
            raise ValueError(f"There are {len(self.control_mean)} control means, but {len(self.state)} states.")
        if not (np.isfinite(self.cell_variance) and self.cell_variance >= 0):
            raise ValueError(f"`cell_variance` is {self.cell_variance}; a variance is finite and at least 0.")
        if not (np.isfinite(self.shift).all() and np.isfinite(self.control_mean).all()):
            raise ValueError("A population mean is not finite. Every population needs perturbed cells and controls.")
        if not np.isfinite(self.state).all():
            raise ValueError("A state of the controls is not finite.")
        least = {name: int(min(getattr(self, name), default=1)) for name in ("n_control", "n_perturbed")}
        if min(least.values()) < 1:
            raise ValueError(f"Every population needs a perturbed cell and a control, but the fewest are {least}.")

    def __len__(self) -> int:
        """Return the number of populations P."""
        return len(self.perturbation)

    @cached_property
    def weight(self) -> np.ndarray:
        """Trust in each shift, between 0 and 1, ``[P]``: it grows with both numbers of cells."""
        n_control, n_perturbed = np.asarray(self.n_control, float), np.asarray(self.n_perturbed, float)
        return n_control / (n_control + HALF_TRUST) * n_perturbed / (n_perturbed + HALF_TRUST)

    @cached_property
    def rows_of(self) -> dict[tuple[str, ...], np.ndarray]:
        """Populations of each perturbation or combination."""
        rows: dict[tuple[str, ...], list[int]] = {}
        for row, parts in enumerate(self.perturbation):
            rows.setdefault(tuple(parts), []).append(row)
        return {parts: np.array(found) for parts, found in rows.items()}

    @property
    def conditions(self) -> Conditions:
        """The populations without their shifts."""
        return Conditions(
            self.perturbation, self.dosage, self.context, self.batch, self.state[self.group], self.n_control
        )

    @cached_property
    def parts(self) -> frozenset[str]:
        """Single perturbations that are measured, alone or in combinations."""
        return frozenset(part for parts in self.perturbation for part in parts)

    def control(self, row: int) -> np.ndarray:
        """Mean of the controls of a population, ``[G]``."""
        return self.control_mean[self.group[row]]

    def query(self, row: int) -> AnchorQuery:
        """Query for a population, as if it were to be forecast."""
        return AnchorQuery(
            tuple(self.perturbation[row]),
            float(self.dosage[row]),
            self.control(row),
            self.state[self.group[row]],
            self.context[row],
            self.batch[row],
            int(self.n_control[row]),
        )
