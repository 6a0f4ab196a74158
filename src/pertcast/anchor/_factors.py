"""Cholesky factors of the covariance of subsets of the populations."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import cho_factor

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CovarianceFactors"]

_LEAST_KEPT = 16


class CovarianceFactors:
    """Factors of the covariance of subsets, from what was computed for similar subsets.

    Forecasts use up to a thousand populations, and for conditions of one context nearly the same ones. The covariance
    of a subset is kept, and of further ones only the rows that are not in it are computed. Of more contexts than can be
    kept one goes at random: forecasts go through all contexts again and again, in which the oldest is the next that is
    needed. None are kept in files.

    Parameters
    ----------
    covariance
        Covariance of some populations with others: from their numbers, ``[a]`` and ``[b]``, to ``[a, b]``.
    n_kept
        Number of contexts whose covariances are kept.

    Examples
    --------
    >>> points = np.array([0.0, 1.0, 3.0])
    >>> factors = CovarianceFactors(lambda a, b: np.exp(-np.abs(points[a][:, None] - points[b])))
    >>> whole = factors.of(np.array([0, 1, 2]), like="B cells")
    >>> factor, lower = factors.of(np.array([0, 2]), like="B cells")
    >>> np.round(np.triu(factor).T @ np.triu(factor), 3).tolist()  # the covariance of points 0 and 3
    [[1.0, 0.05], [0.05, 1.0]]
    """

    def __init__(
        self, covariance: Callable[[np.ndarray, np.ndarray], np.ndarray], *, n_kept: int = _LEAST_KEPT
    ) -> None:
        self._covariance, self._n_kept = covariance, max(n_kept, _LEAST_KEPT)
        self._rng, self._lock = np.random.default_rng(0), Lock()
        self._kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._last: tuple[bytes, tuple[np.ndarray, bool]] | None = None

    def keep(self, rows: np.ndarray, *, like: str) -> None:
        """Compute the covariance of some populations, from which that of similar subsets is taken.

        Parameters
        ----------
        rows
            Numbers of the populations, sorted.
        like
            Name of the subsets that are similar.
        """
        self._keep(like, rows, self._covariance(rows, rows))

    def _keep(self, like: str, rows: np.ndarray, covariance: np.ndarray) -> None:
        with self._lock:
            self._kept.pop(like, None)
            if len(self._kept) >= self._n_kept:
                del self._kept[sorted(self._kept)[self._rng.integers(len(self._kept))]]
            self._kept[like] = rows, covariance

    def of(self, rows: np.ndarray, *, like: str) -> tuple[np.ndarray, bool]:
        """Cholesky factor, as :func:`scipy.linalg.cho_solve` takes it; the last one is kept.

        Parameters
        ----------
        rows
            Numbers of the populations, sorted.
        like
            Name of the subsets that it is similar to.
        """
        key, last = rows.tobytes(), self._last
        if last is None or last[0] != key:
            last = self._last = key, cho_factor(self._of(rows, like), overwrite_a=True)
        return last[1]

    def _of(self, rows: np.ndarray, like: str) -> np.ndarray:
        """Covariance of a subset, a new array."""
        if (found := self._kept.get(like)) is not None:
            known, kept = found
            position = np.minimum(np.searchsorted(known, rows), len(known) - 1)
            is_known = known[position] == rows
            if 2 * is_known.sum() >= len(rows):
                return self._completed(rows, is_known, kept[np.ix_(position[is_known], position[is_known])])
        covariance = self._covariance(rows, rows)
        self._keep(like, rows, covariance)
        return covariance.copy()

    def _completed(self, rows: np.ndarray, is_known: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Covariance of a subset, from that of some of its populations."""
        if is_known.all():
            return known
        found = np.empty((len(rows), len(rows)))
        found[np.ix_(is_known, is_known)] = known
        found[~is_known] = self._covariance(rows[~is_known], rows)
        found[:, ~is_known] = found[~is_known].T
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be computed again."""
        return {**self.__dict__, "_kept": {}, "_last": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.__dict__.update(state)
        self._lock = Lock()
