"""Groups of cells that share one array of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["RowGroups", "concatenate_ranges"]


def concatenate_ranges(start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Concatenate the ranges ``start[i], ..., start[i] + length[i] - 1`` without a loop.

    Parameters
    ----------
    start
        First value of each range.
    length
        Number of values of each range; may be 0.

    Examples
    --------
    >>> concatenate_ranges(np.array([5, 9, 1]), np.array([2, 0, 3])).tolist()
    [5, 6, 1, 2, 3]
    """
    length = np.asarray(length, dtype=np.int64)
    end = np.cumsum(length)
    total = int(end[-1]) if end.size else 0
    return np.arange(total, dtype=np.int64) + np.repeat(np.asarray(start, dtype=np.int64) - (end - length), length)


@dataclass(frozen=True, eq=False)
class RowGroups:
    """P groups of cells, each a slice of one array of row numbers.

    Groups may overlap and may leave rows out. Nothing is copied when rows are read or groups are selected.

    Parameters
    ----------
    order
        Row numbers of cells.
    start
        First position in ``order`` of each group, shape ``[P]``.
    stop
        Position behind the last one of each group, shape ``[P]``.

    Examples
    --------
    >>> groups = RowGroups(np.array([4, 2, 7]), start=np.array([0, 1]), stop=np.array([1, 3]))
    >>> groups.rows(1).tolist(), groups.sizes.tolist()
    ([2, 7], [1, 2])
    """

    order: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def __len__(self) -> int:
        """Return the number of groups P."""
        return len(self.start)

    @property
    def sizes(self) -> np.ndarray:
        """Number of cells of each group, int64 ``[P]``."""
        return (self.stop - self.start).astype(np.int64)

    def rows(self, group: int | np.integer) -> np.ndarray:
        """Row numbers of one group, as a view."""
        return self.order[self.start[group] : self.stop[group]]

    def select(self, groups: ArrayLike) -> RowGroups:
        """Return some of the groups, in the order asked for; they share ``order``."""
        groups = np.asarray(groups, dtype=np.int64)
        return RowGroups(self.order, self.start[groups], self.stop[groups])

    def all_rows(self) -> np.ndarray:
        """Row numbers of all groups, one group after the other."""
        return self.order[concatenate_ranges(self.start, self.sizes)]

    def __repr__(self) -> str:
        """Return counts on one line."""
        return f"RowGroups[n_groups={len(self)}, n_rows={int(self.sizes.sum())}]"
