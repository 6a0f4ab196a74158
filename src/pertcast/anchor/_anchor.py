"""The anchor: a forecast of the mean shift for any perturbation in any context."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pertcast.anchor._choice import choose_transfer
from pertcast.anchor._forecasts import Forecasts, Transfer
from pertcast.anchor._own_gene import OwnGene
from pertcast.anchor._process import ShiftProcess
from pertcast.anchor._regimes import REGIMES, regime_of, without_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pertcast.anchor._populations import Populations
    from pertcast.anchor._query import AnchorQuery

__all__ = ["ShiftAnchor"]

_MAX_OWN_GENES = 120


class ShiftAnchor:
    """Forecasts the mean shift of a population from the training populations.

    A condition is new because of its context, its batch, or its perturbation in that context (see
    :func:`~pertcast.anchor._regimes.regime_of`). How it is forecast is chosen by leaving training populations out in
    the same way. The candidates are a Gaussian process over all conditions (:class:`ShiftProcess`) and weightings of
    the populations that show the same perturbation; a correction by trees that all genes share is added if it helps.
    Where fewer than three units can be left out, and for conditions of training, the process forecasts.

    Parameters
    ----------
    populations
        Training populations.
    nonnegative
        Whether the data cannot be negative; decreases are then shares of the expression.
    vectors
        Vectors of single perturbations, also of some that were never measured.
    genes
        Column of the gene that a single perturbation is named after, for those that are.
    seed
        Seed of subsampling, where there are very many populations.

    Examples
    --------
    >>> import numpy as np
    >>> from pertcast.anchor import AnchorQuery, Populations
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
    >>> anchor = ShiftAnchor(populations, nonnegative=False)
    >>> query = AnchorQuery(("a",), 1.0, control_mean=np.array([2.0, 2.0]), state=np.array([0.5]), context="new")
    >>> anchor.shift(query).round(1).tolist()  # nearly halfway between both contexts: two are little to go by
    [1.9, 0.0]
    """

    def __init__(
        self,
        populations: Populations,
        *,
        nonnegative: bool,
        vectors: Mapping[str, np.ndarray] | None = None,
        genes: Mapping[str, int] | None = None,
        seed: int = 0,
    ) -> None:
        self.populations, self.nonnegative, self.seed = populations, nonnegative, seed
        self.genes, self.vectors = dict(genes or {}), frozenset(vectors or ())
        self.process = ShiftProcess(populations, vectors, seed=seed)
        self.forecasts = Forecasts(populations, self.process, nonnegative=nonnegative)
        self.own_gene = self._fit_own_gene()
        self.transfers = {regime: choose_transfer(self.forecasts, regime, seed=seed) for regime in REGIMES}

    def shift(self, query: AnchorQuery) -> np.ndarray:
        """Forecast of the mean shift of a population.

        Parameters
        ----------
        query
            The population.

        Returns
        -------
        float64 ``[G]``; with non-negative data never below minus the mean of the controls.
        """
        rows = np.arange(len(self.populations))
        regime = regime_of(self.populations, query)
        transfer = Transfer() if regime is None else self.transfers[regime]
        shift = self.forecasts.by_transfer(query, rows, transfer)
        if transfer.correction is not None and len(self.forecasts.sources(query, rows)):
            features = self.forecasts.features(query, rows, shift, self.forecasts.by_process(query, rows))
            shift = shift + transfer.correction.predict(features)
        for part in set(query.perturbation) & set(self.genes) - self.populations.parts:
            shift[self.genes[part]] += self.own_gene.shift(query.control_mean[self.genes[part]])
        return np.maximum(shift, -query.control_mean) if self.nonnegative else shift

    def mean_shift(self, query: AnchorQuery, names: Sequence[str]) -> np.ndarray:
        """Forecast for a single perturbation that others stand in for: the mean of their forecasts.

        Parameters
        ----------
        query
            The population; its perturbation is not used.
        names
            Single perturbations, at least one.

        Returns
        -------
        float64 ``[G]``; with non-negative data never below minus the mean of the controls.
        """
        return np.mean([self.shift(query._replace(perturbation=(name,))) for name in names], axis=0)

    def _fit_own_gene(self) -> OwnGene:
        """Compare perturbed genes with forecasts from all other perturbations."""
        p = self.populations
        by_process, control, residual = self.forecasts.by_process, [], []
        names = sorted(parts for parts in p.rows_of if len(parts) == 1 and parts[0] in self.genes)
        for (name,) in names[:_MAX_OWN_GENES]:
            gene, own = self.genes[name], p.rows_of[(name,)]
            others = without_name(p, (name,))
            lacking = [p.shift[row, gene] - by_process(p.query(row), others)[gene] for row in own]
            control.append(float(np.average(p.control_mean[p.group[own], gene], weights=p.weight[own])))
            residual.append(float(np.average(lacking, weights=p.weight[own])))
        return OwnGene(control, residual)

    def __repr__(self) -> str:
        """Return the choices on one line."""
        transfers = ", ".join(f"{regime}={_text(transfer)}" for regime, transfer in self.transfers.items())
        return f"ShiftAnchor[n_populations={len(self.populations)}, {transfers}]"


def _text(transfer: Transfer) -> str:
    correction = "" if transfer.correction is None else " corrected"
    if transfer.weighting is None:
        return f"process{correction}"
    return f"{transfer.shrinkage:.2f} x {transfer.weighting.kind}({transfer.weighting.scale:g}){correction}"
