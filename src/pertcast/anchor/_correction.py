"""A correction of the shift that all genes share."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from threadpoolctl import ThreadpoolController

__all__ = ["GeneCorrection"]

_ROWS_OF_ONE_THREAD = 10_000
_MAX_ROWS = 40_000


class GeneCorrection:
    """Boosted trees from what the sources say about a gene to what its shift still lacks.

    Genes are exchangeable: a rule such as "a gene that is silent in the controls and rose in some sources rises less
    than their mean" is learned from all genes of all training populations at once, so a handful of contexts is
    enough. The target of each row is the shift that was measured minus the response of the other contexts.

    Parameters
    ----------
    seed
        Seed of the choice of rows.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 400)[:, None]
    >>> correction = GeneCorrection(seed=0).fit([x], [0.5 * x[:, 0]], [1.0])
    >>> bool(abs(correction.predict(np.array([[0.8]])) - 0.4)[0] < 0.1)
    True
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed
        self._trees: Any = None

    def fit(
        self, features: Sequence[np.ndarray], residuals: Sequence[np.ndarray], weights: Sequence[float]
    ) -> GeneCorrection:
        """Fit on training populations.

        Parameters
        ----------
        features
            Features of each population, each ``[G, F]``.
        residuals
            What the shift of each population lacks, each ``[G]``.
        weights
            Weight of each population.
        """
        from sklearn.ensemble import HistGradientBoostingRegressor

        x, y = np.concatenate(features), np.concatenate(residuals)
        # Rows are drawn in proportion to their weight: the weighted fit of scikit-learn takes ten times as long.
        weight = np.repeat(np.asarray(weights, float), [len(r) for r in residuals])
        drawn = np.random.default_rng(self.seed).choice(len(y), min(len(y), _MAX_ROWS), p=weight / weight.sum())
        x, y = x[drawn], y[drawn]
        leaf = int(np.clip(len(y) // 50, 5, 200))
        trees = HistGradientBoostingRegressor(
            max_depth=4, max_iter=60, learning_rate=0.1, min_samples_leaf=leaf, early_stopping=False, random_state=0
        )
        with _threads_for(len(y)):
            self._trees = trees.fit(x, y)
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the correction of each gene, ``[G]``, for features ``[G, F]``."""
        with _threads_for(len(features)):
            return self._trees.predict(features)


def _threads_for(n_rows: int) -> AbstractContextManager[Any]:
    """Few rows get one thread: threads wait for each other, on a busy machine far longer than the work takes."""
    return _thread_pools().limit(limits=1, user_api="openmp") if n_rows <= _ROWS_OF_ONE_THREAD else nullcontext()


@cache
def _thread_pools() -> ThreadpoolController:
    """Look for the thread pools once, which takes longer than a forecast."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
