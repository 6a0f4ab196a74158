"""Forecasts of the mean shift from any subset of the training populations."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pertcast.anchor._response import gene_features, response, share_of_expression
from pertcast.anchor._weights import Weighting, source_weights

if TYPE_CHECKING:
    from pertcast.anchor._correction import GeneCorrection
    from pertcast.anchor._populations import Populations
    from pertcast.anchor._process import ShiftProcess
    from pertcast.anchor._query import AnchorQuery

__all__ = ["Forecasts", "Transfer"]


class Transfer(NamedTuple):
    """How the shift is forecast where one thing is new.

    Examples
    --------
    >>> Transfer()  # the Gaussian process, not corrected
    Transfer(weighting=None, shrinkage=1.0, correction=None)
    >>> Transfer(Weighting("kernel", 0.3), shrinkage=0.9).shrinkage
    0.9
    """

    weighting: Weighting | None = None
    """Weighting of the populations that show the same perturbation; None for the Gaussian process."""
    shrinkage: float = 1.0
    """Factor of the weighted shift."""
    correction: GeneCorrection | None = None
    """Correction that all genes share; None where it does not help."""


class Forecasts:
    """Forecasts by the Gaussian process, and by weightings of the populations that show the same perturbation.

    Parameters
    ----------
    populations
        Training populations.
    process
        Gaussian process fitted to them.
    nonnegative
        Whether the data cannot be negative; decreases are then shares of the expression.
    """

    def __init__(self, populations: Populations, process: ShiftProcess, *, nonnegative: bool) -> None:
        self.populations, self.process, self.nonnegative = populations, process, nonnegative

    def sources(self, query: AnchorQuery, rows: np.ndarray) -> np.ndarray:
        """Populations of the same perturbation among some."""
        return np.intersect1d(self.populations.rows_of.get(query.perturbation, ()), rows).astype(int)

    def by_transfer(self, query: AnchorQuery, rows: np.ndarray, transfer: Transfer) -> np.ndarray:
        """Forecast from some of the populations in the way of a transfer, without its correction, ``[G]``."""
        sources = self.sources(query, rows)
        if transfer.weighting is None or not len(sources):
            return self.by_process(query, rows)
        return transfer.shrinkage * self.by_weighting(query, sources, transfer.weighting)

    def by_process(self, query: AnchorQuery, rows: np.ndarray) -> np.ndarray:
        """Forecast of the process from some of the populations, ``[G]``."""
        p = self.populations
        used, (signal, noise) = self.process.weights(query.conditions, rows)
        measured = p.shift[used]
        shift, size = signal @ measured, np.abs(signal)
        if self.nonnegative and size.sum() > 0:
            level = size @ p.control_mean[p.group[used]] / size.sum()
            shift = share_of_expression(shift, query.control_mean, level)
        return shift + noise @ measured

    def by_weighting(self, query: AnchorQuery, sources: np.ndarray, weighting: Weighting) -> np.ndarray:
        """Weighted shift of some populations of the same perturbation, ``[G]``."""
        p = self.populations
        group = p.group[sources]
        weights = source_weights(p.state[group], query.state, self._trust(query, sources), weighting)
        return response(
            weights, query.control_mean, p.control_mean[group], p.shift[sources], nonnegative=self.nonnegative
        )

    def features(self, query: AnchorQuery, rows: np.ndarray, shift: np.ndarray, by_process: np.ndarray) -> np.ndarray:
        """Inputs of the correction of a forecast, ``[G, 14]``."""
        views = gene_features(self.populations, self.sources(query, rows), query.state, query.control_mean)
        return np.c_[views, shift, by_process]

    def _trust(self, query: AnchorQuery, sources: np.ndarray) -> np.ndarray:
        p, dosages = self.populations, self.process.kernel.dosages
        if not dosages.several:
            return p.weight[sources]
        distance = dosages.distance(p.dosage[sources], np.array([query.dosage]))[:, 0]
        return p.weight[sources] * np.maximum(np.exp(-0.5 * np.square(distance - distance.min())), 1e-6)
