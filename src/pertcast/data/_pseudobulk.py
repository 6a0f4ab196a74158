"""Means and variances of populations, and the shifts between them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from pertcast.data._on_disk import RowsOnDisk

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pertcast.data._controls import MatchedControls
    from pertcast.data._groups import RowGroups
    from pertcast.data._index import ConditionIndex
    from pertcast.data._matrix import Matrix

__all__ = ["ShiftTable", "population_means", "population_moments"]

_CHUNK_VALUES = 2**24


def population_means(X: Matrix, groups: RowGroups) -> np.ndarray:
    """Mean of each group of cells.

    Parameters
    ----------
    X
        Matrix ``[cells, G]``.
    groups
        P groups of rows, which may overlap; a group without cells has mean NaN.

    Returns
    -------
    float64 ``[P, G]``.

    Examples
    --------
    >>> from pertcast.data._groups import RowGroups
    >>> groups = RowGroups(np.array([0, 2, 1]), start=np.array([0, 2]), stop=np.array([2, 3]))
    >>> population_means(np.array([[1.0], [5.0], [3.0]]), groups).tolist()
    [[2.0], [5.0]]
    """
    (total,) = _sums(X, groups, powers=(1,))
    return _per_cell(total, groups.sizes)


def population_moments(X: Matrix, groups: RowGroups) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each group of cells.

    Parameters
    ----------
    X
        Matrix ``[cells, G]``.
    groups
        P groups of rows, which may overlap; NaN for a group without cells.

    Returns
    -------
    Means and variances (divided by the number of cells), both float64 ``[P, G]``. Variances come from the mean
    square, in float64: their rounding error is of the order of 1e-16 times the squared mean.

    Examples
    --------
    >>> import numpy as np
    >>> import pertcast as pc
    >>> groups = pc.data.RowGroups(np.array([0, 2, 1]), start=np.array([0, 2]), stop=np.array([2, 3]))
    >>> means, variances = pc.data.population_moments(np.array([[1.0], [5.0], [3.0]]), groups)
    >>> means.tolist(), variances.tolist()
    ([[2.0], [5.0]], [[1.0], [0.0]])
    """
    total, square = _sums(X, groups, powers=(1, 2))
    means = _per_cell(total, groups.sizes)
    return means, np.maximum(_per_cell(square, groups.sizes) - means**2, 0)


def _per_cell(total: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return total / sizes[:, None]


def _sums(X: Matrix, groups: RowGroups, powers: tuple[int, ...]) -> list[np.ndarray]:
    """Sum powers over each group: products with an indicator matrix, a chunk of cells at a time.

    A chunk holds about 2^24 values if it is dense, whatever the number of cells. Files are read once, in their order.
    """
    n_genes = X.shape[1]
    sums = [np.zeros((len(groups), n_genes)) for _ in powers]
    rows = groups.all_rows()
    group = np.repeat(np.arange(len(groups), dtype=np.int32), groups.sizes)
    if isinstance(X, RowsOnDisk) and (np.diff(rows) < 0).any():
        order = np.argsort(rows, kind="stable")
        rows, group = rows[order], group[order]
    chunk = max(1, _CHUNK_VALUES // max(1, n_genes))
    for first in range(0, len(rows), chunk):
        present, here = np.unique(group[first : first + chunk], return_inverse=True)
        indicator = sp.csr_matrix((np.ones(len(here)), (here, np.arange(len(here)))), shape=(len(present), len(here)))
        values = X[rows[first : first + chunk]].astype(np.float64)
        for power, total in zip(powers, sums, strict=True):
            product = indicator @ _power(values, power)
            if sp.issparse(product):
                product = product.tocoo()
                total[present[product.row], product.col] += product.data
            else:
                total[present] += product
    return sums


def _power(values: Any, power: int) -> Any:
    if power == 1:
        return values
    return values.power(power) if sp.issparse(values) else values**power


@dataclass(frozen=True, eq=False, repr=False)
class ShiftTable:
    """Mean of the controls, and shift of the mean, for each of P perturbed conditions.

    Parameters
    ----------
    condition
        Ids in the index, int64 ``[P]``.
    shift
        Mean of the perturbed cells minus mean of the matched controls, float64 ``[P, G]``.
    group_mean
        Means of the Q groups of controls, float64 ``[Q, G]``.
    group
        Group of controls of each condition, int64 ``[P]``.
    n_perturbed
        Number of perturbed cells, int64 ``[P]``.
    n_control
        Number of matched controls, int64 ``[P]``.
    perturbation
        Perturbation code of the index, int32 ``[P]``.
    dosage
        Dosage, float32 ``[P]``.
    context
        Context code of the index, int32 ``[P]``.
    batch
        Batch code of the index, int32 ``[P]``.

    Examples
    --------
    >>> import numpy as np
    >>> import pertcast as pc
    >>> X = np.array([[1.0, 0.0], [3.0, 0.0], [4.0, 1.0], [6.0, 1.0]])
    >>> index = pc.data.ConditionIndex.from_codes([0, 0, 1, 1], ["control", "A"])
    >>> table = pc.data.ShiftTable.from_index(X, index, pc.data.match_controls(index))
    >>> table.control_mean.tolist(), table.shift.tolist()
    ([[2.0, 0.0]], [[3.0, 1.0]])
    """

    condition: np.ndarray
    shift: np.ndarray
    group_mean: np.ndarray
    group: np.ndarray
    n_perturbed: np.ndarray
    n_control: np.ndarray
    perturbation: np.ndarray
    dosage: np.ndarray
    context: np.ndarray
    batch: np.ndarray

    @classmethod
    def from_index(
        cls,
        X: Matrix,
        index: ConditionIndex,
        controls: MatchedControls,
        conditions: ArrayLike | None = None,
    ) -> ShiftTable:
        """Compute the shifts of conditions.

        Parameters
        ----------
        X
            Matrix ``[cells, G]``.
        index
            Index of the screen.
        controls
            Matched controls of the conditions.
        conditions
            Ids; the perturbed conditions that are not skipped by default.

        Raises
        ------
        ValueError
            If a condition has no matched controls.
        """
        ids = index.perturbed if conditions is None else np.asarray(conditions, dtype=np.int64)
        used, group = np.unique(controls.group[ids], return_inverse=True)
        if used.size and used[0] < 0:
            without = ids[controls.group[ids] < 0]
            raise ValueError(
                f"No controls were matched to {len(without)} conditions, for example condition {without[0]}."
            )
        control_groups = controls.groups.select(used)
        group_mean = population_means(X, control_groups)
        shift = population_means(X, index.groups.select(ids))
        for first in range(0, len(ids), 1024):
            shift[first : first + 1024] -= group_mean[group[first : first + 1024]]
        return cls(
            condition=ids,
            shift=shift,
            group_mean=group_mean,
            group=group,
            n_perturbed=index.n_cells[ids],
            n_control=control_groups.sizes[group],
            perturbation=index.perturbation[ids],
            dosage=index.dosage[ids],
            context=index.context[ids],
            batch=index.batch[ids],
        )

    def select(self, rows: np.ndarray) -> ShiftTable:
        """Return some of the conditions, in the order asked for.

        Parameters
        ----------
        rows
            Positions of the conditions in this table.

        Returns
        -------
        A table with copies of their shifts, and of the means of their controls alone.
        """
        used, group = np.unique(self.group[rows], return_inverse=True)
        names = {each.name for each in fields(self)} - {"group_mean", "group"}
        return ShiftTable(
            group_mean=self.group_mean[used], group=group, **{name: getattr(self, name)[rows] for name in names}
        )

    @property
    def control_mean(self) -> np.ndarray:
        """Mean of the matched controls of each condition, float64 ``[P, G]`` (a new array)."""
        return self.group_mean[self.group]

    def __len__(self) -> int:
        """Return the number of conditions P."""
        return len(self.condition)

    def __repr__(self) -> str:
        """Return counts on one line."""
        return (
            f"ShiftTable[n_conditions={len(self)}, n_control_groups={len(self.group_mean)}, "
            f"n_genes={self.shift.shape[1]}]"
        )
