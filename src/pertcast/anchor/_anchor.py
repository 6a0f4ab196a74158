"""The anchor: a forecast of the mean shift for any perturbation in any context."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pertcast.anchor._correction import GeneCorrection
from pertcast.anchor._own_gene import OwnGene
from pertcast.anchor._process import ShiftProcess
from pertcast.anchor._query import AnchorQuery
from pertcast.anchor._regimes import REGIMES, left_out, regime_of, unit_of
from pertcast.anchor._response import gene_features, response, share_of_expression
from pertcast.anchor._weights import WEIGHTINGS, Weighting, source_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pertcast.anchor._populations import Populations
    from pertcast.anchor._regimes import Regime

__all__ = ["ShiftAnchor", "Transfer"]

logger = logging.getLogger(__name__)

_MIN_JUDGED = 40
_MAX_JUDGED = 120
_JUDGED_PAIRS = 24_000
_MAX_FOLDS = 5
_MIN_UNITS = 3


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
        self.own_gene = self._fit_own_gene()
        self.transfers = {regime: self._choose(regime) for regime in REGIMES}

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
        shift = self._forecast(query, rows, transfer)
        if transfer.correction is not None and len(self._sources(query, rows)):
            features = self._features(query, rows, shift, self._by_process(query, rows))
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

    def query(self, row: int) -> AnchorQuery:
        """Query for a training population."""
        p = self.populations
        return AnchorQuery(
            tuple(p.perturbation[row]),
            float(p.dosage[row]),
            p.control(row),
            p.state[p.group[row]],
            p.context[row],
            p.batch[row],
            int(p.n_control[row]),
        )

    def _forecast(self, query: AnchorQuery, rows: np.ndarray, transfer: Transfer) -> np.ndarray:
        """Forecast from some of the populations, without the correction."""
        sources = self._sources(query, rows)
        if transfer.weighting is None or not len(sources):
            return self._by_process(query, rows)
        return transfer.shrinkage * self._by_sources(query, sources, transfer.weighting)

    def _by_process(self, query: AnchorQuery, rows: np.ndarray) -> np.ndarray:
        p = self.populations
        used, (signal, noise) = self.process.weights(query.conditions, rows)
        shift, size = signal @ p.shift[used], np.abs(signal)
        if self.nonnegative and size.sum() > 0:
            level = size @ p.control_mean[p.group[used]] / size.sum()
            shift = share_of_expression(shift, query.control_mean, level)
        return shift + noise @ p.shift[used]

    def _by_sources(self, query: AnchorQuery, sources: np.ndarray, weighting: Weighting) -> np.ndarray:
        p = self.populations
        group = p.group[sources]
        weights = source_weights(p.state[group], query.state, self._trust(query, sources), weighting)
        return response(
            weights, query.control_mean, p.control_mean[group], p.shift[sources], nonnegative=self.nonnegative
        )

    def _sources(self, query: AnchorQuery, rows: np.ndarray) -> np.ndarray:
        """Populations of the same perturbation among some."""
        return np.intersect1d(self.populations.rows_of.get(query.perturbation, ()), rows).astype(int)

    def _trust(self, query: AnchorQuery, sources: np.ndarray) -> np.ndarray:
        p, dosages = self.populations, self.process.kernel.dosages
        if not dosages.several:
            return p.weight[sources]
        distance = dosages.distance(p.dosage[sources], np.array([query.dosage]))[:, 0]
        return p.weight[sources] * np.maximum(np.exp(-0.5 * np.square(distance - distance.min())), 1e-6)

    def _fit_own_gene(self) -> OwnGene:
        """Compare perturbed genes with forecasts from all other perturbations."""
        p = self.populations
        control, residual = [], []
        for (name,) in sorted(parts for parts in p.rows_of if len(parts) == 1 and parts[0] in self.genes)[:_MAX_JUDGED]:
            gene, own = self.genes[name], p.rows_of[(name,)]
            others = np.array([row for row in range(len(p)) if name not in p.perturbation[row]], dtype=int)
            lacking = [p.shift[row, gene] - self._by_process(self.query(row), others)[gene] for row in own]
            control.append(float(np.average(p.control_mean[p.group[own], gene], weights=p.weight[own])))
            residual.append(float(np.average(lacking, weights=p.weight[own])))
        return OwnGene(control, residual)

    def _features(self, query: AnchorQuery, rows: np.ndarray, shift: np.ndarray, by_process: np.ndarray) -> np.ndarray:
        """Inputs of the correction, ``[G, 14]``."""
        sources = self._sources(query, rows)
        views = gene_features(self.populations, sources, query.state, query.control_mean)
        return np.c_[views, shift, by_process]

    def _judged(self, regime: Regime) -> list[tuple[int, AnchorQuery, np.ndarray]]:
        """Training populations to forecast from others: row, query and the others."""
        p = self.populations
        rows = np.arange(len(p))
        if regime == "perturbation" and len(p.rows_of) == 1:
            return []
        n_judged = int(np.clip(_JUDGED_PAIRS // len(rows), _MIN_JUDGED, _MAX_JUDGED))
        if len(rows) > n_judged:
            rows = np.sort(np.random.default_rng(self.seed).choice(rows, n_judged, replace=False))
        found = []
        for row in rows:
            query, others = self.query(int(row)), np.flatnonzero(~left_out(p, int(row), regime))
            sources = self._sources(query, others)
            if regime == "batch":
                sources = sources[p.context[sources] == query.context]
            if len(sources):
                found.append((int(row), query, others))
        return found

    def _choose(self, regime: Regime) -> Transfer:
        """Candidate with the smallest weighted squared error; the process if too little can be left out to judge."""
        p, judged = self.populations, self._judged(regime)
        if len({unit_of(p, row, regime) for row, *_ in judged}) < _MIN_UNITS:
            return Transfer()
        truth = np.stack([p.shift[row] for row, *_ in judged])
        trust = p.weight[[row for row, *_ in judged]][:, None]
        best = Transfer()
        by_process = np.stack([self._by_process(query, rows) for _, query, rows in judged])
        error = _error(by_process, truth, trust)
        for weighting in WEIGHTINGS:
            forecast = np.stack([self._by_sources(q, self._sources(q, rows), weighting) for _, q, rows in judged])
            length = float((trust * forecast**2).sum())
            scale = float(np.clip((trust * forecast * truth).sum() / length, 0, 1)) if length > 0 else 0.0
            total = _error(scale * forecast, truth, trust)
            if total < error:
                error, best = total, Transfer(weighting, scale)
        return best._replace(correction=self._correction(regime, judged, best, by_process))

    def _correction(
        self,
        regime: Regime,
        judged: Sequence[tuple[int, AnchorQuery, np.ndarray]],
        transfer: Transfer,
        by_process: np.ndarray,
    ) -> GeneCorrection | None:
        """Fit the gene-wise correction by folds, and return it if it forecasts better than without."""
        p = self.populations
        units = sorted({unit_of(p, row, regime) for row, *_ in judged})
        fold_of = {unit: number % min(_MAX_FOLDS, len(units)) for number, unit in enumerate(units)}
        folds, table = [], []
        for (row, query, rows), process in zip(judged, by_process, strict=True):
            base = process if transfer.weighting is None else self._forecast(query, rows, transfer)
            folds.append(fold_of[unit_of(p, row, regime)])
            table.append((self._features(query, rows, base, process), p.shift[row] - base, float(p.weight[row])))
        without = with_it = 0.0
        for fold in range(max(folds) + 1):
            rest = [entry for entry, of in zip(table, folds, strict=True) if of != fold]
            fitted = GeneCorrection(seed=self.seed).fit(*zip(*rest, strict=True))
            for features, residual, weight in (e for e, of in zip(table, folds, strict=True) if of == fold):
                without += weight * np.square(residual).sum()
                with_it += weight * np.square(residual - fitted.predict(features)).sum()
        logger.info("Anchor, new %s: squared error %.4g; with correction %.4g.", regime, without, with_it)
        return GeneCorrection(seed=self.seed).fit(*zip(*table, strict=True)) if with_it < without else None

    def __repr__(self) -> str:
        """Return the choices on one line."""
        transfers = ", ".join(f"{regime}={_text(transfer)}" for regime, transfer in self.transfers.items())
        return f"ShiftAnchor[n_populations={len(self.populations)}, {transfers}]"


def _error(forecast: np.ndarray, truth: np.ndarray, trust: np.ndarray) -> float:
    return float((trust * np.square(forecast - truth)).sum())


def _text(transfer: Transfer) -> str:
    correction = "" if transfer.correction is None else " corrected"
    if transfer.weighting is None:
        return f"process{correction}"
    return f"{transfer.shrinkage:.2f} x {transfer.weighting.kind}({transfer.weighting.scale:g}){correction}"
