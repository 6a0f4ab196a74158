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
_MAX_ROWS = 200_000
_BINS = 255


class GeneCorrection:
    """Boosted trees from what the sources say about a gene to what its shift still lacks.

    Genes are exchangeable: a rule such as "a gene that is silent in the controls and rose in some sources rises less
    than their mean" is learned from all genes of all training populations at once, so a handful of contexts is
    enough. The target of each row is the shift that was measured minus the response of the other contexts. A gene whose
    shifts vary less in the other populations weighs more, by the inverse of their standard deviation. Of more than
    200,000 rows every k-th is used, in order of the first feature, so that nothing depends on how genes and populations
    are arranged.

    Parameters
    ----------
    mean_kept
        Share, 0 to 1, of the mean over all genes that corrections keep. A few contexts seldom tell by how much a whole
        profile is too high in another one.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 400)[:, None]
    >>> correction = GeneCorrection().fit([x], [0.5 * x[:, 0]], [1.0])
    >>> bool(abs(correction.predict(np.array([[0.8]])) - 0.4)[0] < 0.1)
    True
    """

    def __init__(self, mean_kept: float = 1.0) -> None:
        self.mean_kept = mean_kept
        self._edges: list[np.ndarray] = []
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
            Weight of each population; only their ratios count.
        """
        from sklearn.ensemble import HistGradientBoostingRegressor

        x, y = np.concatenate(features), np.concatenate(residuals)
        weight = _gene_weights(np.stack(residuals), np.asarray(weights, dtype=float)[:, None]).ravel()
        every = -(-len(y) // _MAX_ROWS)
        if every > 1:
            rows = np.lexsort((y, x[:, 0]))[every // 2 :: every]
            x, y, weight = x[rows], y[rows], weight[rows]
        # scikit-learn bins weighted rows as well, but takes eight times as long for it as for the trees
        self._edges = [np.unique(np.quantile(column, np.linspace(0, 1, _BINS + 1)[1:-1])) for column in x.T]
        leaf = int(np.clip(len(y) // 50, 5, 200))
        trees = HistGradientBoostingRegressor(
            max_depth=6, max_iter=120, learning_rate=0.1, min_samples_leaf=leaf, early_stopping=False, random_state=0
        )
        with _threads_for(len(y)):
            self._trees = trees.fit(self._binned(x), y, sample_weight=weight)
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the correction of each gene of a population, ``[G]``, for features ``[G, F]``."""
        with _threads_for(len(features)):
            found = self._trees.predict(self._binned(features))
        return found - (1 - self.mean_kept) * found.mean()

    def _binned(self, features: np.ndarray) -> np.ndarray:
        """Number of the bin of each feature."""
        bins = [np.searchsorted(edges, column) for edges, column in zip(self._edges, features.T, strict=True)]
        return np.stack(bins, axis=1).astype(float)


def _gene_weights(residuals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weights of genes in populations, mean 1: those of the populations over the deviation of the gene in the others.

    A gene's variance in the other populations, which are weighted as well, is averaged with that of all genes.

    Parameters
    ----------
    residuals
        ``[P, G]``.
    weights
        Of the populations, above 0, ``[P, 1]``.
    """
    squares = weights * np.square(residuals)
    others = weights.sum() - weights
    variance = (squares.sum(axis=0) - squares) / np.where(others > 0, others, 1)
    variance = np.maximum(variance, 0) + variance.mean()
    found = weights / np.sqrt(variance) if variance.min() > 0 else np.repeat(weights, residuals.shape[1], axis=1)
    return found / found.mean()


def _threads_for(n_rows: int) -> AbstractContextManager[Any]:
    """Few rows get one thread: threads wait for each other, on a busy machine far longer than the work takes."""
    return _thread_pools().limit(limits=1, user_api="openmp") if n_rows <= _ROWS_OF_ONE_THREAD else nullcontext()


@cache
def _thread_pools() -> ThreadpoolController:
    """Look for the thread pools once, which takes longer than a forecast."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
