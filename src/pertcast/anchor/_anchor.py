"""The anchor: a forecast of the mean shift for any perturbation in any context."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pertcast.anchor._correction import GeneCorrection
from pertcast.anchor._embedding import EmbeddingRegression
from pertcast.anchor._response import gene_features, response
from pertcast.anchor._weights import WEIGHTINGS, Weighting, source_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pertcast.anchor._populations import Populations

__all__ = ["AnchorQuery", "ShiftAnchor"]

logger = logging.getLogger(__name__)

_MAX_JUDGED = 120
_MAX_FOLDS = 5
_ADDITIVE_PRIOR = 3


class AnchorQuery(NamedTuple):
    """A population to forecast."""

    perturbation: tuple[str, ...]
    """Single perturbations, sorted."""
    dosage: float
    control_mean: np.ndarray
    """Mean of the controls, ``[G]``."""
    state: np.ndarray
    """State of the controls, ``[S]``."""
    context: object = None
    """Context of the population; sources in the same context and batch are not used."""
    batch: object = None
    """Batch of the population; with None no source of the same context is used, whatever its batch."""


class ShiftAnchor:
    """Forecasts the mean shift of a population from the training populations of other contexts.

    Everything that is chosen (weighting, shrinkage, whether the gene-wise correction is used, the factor of
    combinations) is chosen by forecasting training populations from the contexts other than their own. A perturbation
    that no other context shows is forecast from its parts (combinations) or from its vector, and has the shift 0 if
    there is neither: then nothing is known of it.

    Parameters
    ----------
    populations
        Training populations.
    nonnegative
        Whether the data cannot be negative; decreases are then shares of the expression.
    vectors
        Vectors of single perturbations, also of some that were never measured.
    seed
        Seed of subsampling, where there are very many populations.
    """

    def __init__(
        self,
        populations: Populations,
        *,
        nonnegative: bool,
        vectors: Mapping[str, np.ndarray] | None = None,
        seed: int = 0,
    ) -> None:
        self.populations, self.nonnegative, self.seed = populations, nonnegative, seed
        self.vectors = dict(vectors or {})
        self.weighting, self.shrinkage = Weighting("uniform"), 1.0
        self.correction: GeneCorrection | None = None
        self.fold_corrections: list[GeneCorrection] = []
        self.fold_of_context: dict[object, int] = {}
        self.combination_scale = 1.0
        self._doses = _dose_width(populations.dosage)
        self._choose_weighting()
        self._choose_correction()
        self.embedding, self._embedded = self._fit_embedding()
        self._choose_combination_scale()

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
        shift = self._shift(query)
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
        shift = np.mean([self._part(query, name) for name in names], axis=0)
        return np.maximum(shift, -query.control_mean) if self.nonnegative else shift

    def query(self, row: int, *, within_context: bool = False) -> AnchorQuery:
        """Query for a training population that leaves its own data out."""
        p = self.populations
        batch = p.batch[row] if within_context else None
        return AnchorQuery(
            p.perturbation[row], float(p.dosage[row]), p.control(row), p.state[p.group[row]], p.context[row], batch
        )

    def _shift(self, query: AnchorQuery) -> np.ndarray:
        rows, trust = self._sources(query)
        if len(rows):
            shift = self._from_sources(query, rows, trust)
            correction = self._correction_for(query)
            return shift if correction is None else shift + correction.predict(self._features(query, rows, shift))
        if len(query.perturbation) > 1:
            return self.combination_scale * np.sum([self._part(query, part) for part in query.perturbation], axis=0)
        return self._from_embedding(query)

    def _sources(self, query: AnchorQuery) -> tuple[np.ndarray, np.ndarray]:
        """Populations of the same perturbation that may be used, and the trust in each."""
        p = self.populations
        rows = p.rows_of.get(query.perturbation, np.zeros(0, dtype=int))
        own = p.context[rows] == query.context
        if query.batch is not None:
            own &= p.batch[rows] == query.batch
        rows = rows[~own]
        trust = p.weight[rows]
        if self._doses > 0 and len(rows):
            distance = np.abs(np.log(p.dosage[rows] + self._doses) - np.log(query.dosage + self._doses))
            near = np.exp(-0.5 * np.square(distance - distance.min()))
            trust = trust * np.maximum(near, 1e-6)
        return rows, trust

    def _from_sources(
        self, query: AnchorQuery, rows: np.ndarray, trust: np.ndarray, weighting: Weighting | None = None
    ) -> np.ndarray:
        p = self.populations
        group = p.group[rows]
        weights = source_weights(p.state[group], query.state, trust, weighting or self.weighting)
        shift = response(
            weights, query.control_mean, p.control_mean[group], p.shift[rows], nonnegative=self.nonnegative
        )
        return shift if weighting is not None else self.shrinkage * shift

    def _features(self, query: AnchorQuery, rows: np.ndarray, shift: np.ndarray) -> np.ndarray:
        return np.c_[gene_features(self.populations, rows, query.state, query.control_mean), shift]

    def _correction_for(self, query: AnchorQuery) -> GeneCorrection | None:
        """The correction that did not see the context of the query."""
        fold = self.fold_of_context.get(query.context)
        return self.correction if fold is None or not self.fold_corrections else self.fold_corrections[fold]

    def _judged(self) -> list[tuple[int, AnchorQuery, np.ndarray, np.ndarray]]:
        """Training populations that other contexts can forecast: row, query, sources and trust."""
        rows = np.arange(len(self.populations))
        if len(rows) > _MAX_JUDGED:
            rows = np.sort(np.random.default_rng(self.seed).choice(rows, _MAX_JUDGED, replace=False))
        found = []
        for row in rows:
            query = self.query(int(row))
            sources, trust = self._sources(query)
            if len(sources):
                found.append((int(row), query, sources, trust))
        return found

    def _choose_weighting(self) -> None:
        judged = self._judged()
        if not judged:
            return
        p = self.populations
        error, best = np.inf, None
        for weighting in WEIGHTINGS:
            forecasts = [self._from_sources(query, rows, trust, weighting) for _, query, rows, trust in judged]
            pairs = [(p.weight[row], f, p.shift[row]) for (row, *_), f in zip(judged, forecasts, strict=True)]
            along = sum(w * (f @ t) for w, f, t in pairs)
            length = sum(w * (f @ f) for w, f, _ in pairs)
            scale = float(np.clip(along / length, 0, 1)) if length > 0 else 0.0
            total = sum(w * np.square(scale * f - t).sum() for w, f, t in pairs)
            if total < error:
                error, best = total, (weighting, scale)
        if best is not None:
            self.weighting, self.shrinkage = best

    def _choose_correction(self) -> None:
        """Fit the gene-wise correction by folds of contexts, and keep it if it forecasts better than without."""
        judged = self._judged()
        contexts = sorted({str(query.context) for _, query, *_ in judged})
        if len(contexts) < 3:
            return
        p = self.populations
        n_folds = min(_MAX_FOLDS, len(contexts))
        fold_of = {context: number % n_folds for number, context in enumerate(contexts)}
        table = []
        for row, query, rows, trust in judged:
            base = self._from_sources(query, rows, trust)
            features = self._features(query, rows, base)
            table.append((fold_of[str(query.context)], features, p.shift[row] - base, p.weight[row]))
        fits = []
        for fold in range(n_folds):
            rest = [entry for entry in table if entry[0] != fold]
            fits.append(GeneCorrection(seed=self.seed).fit(*zip(*[entry[1:] for entry in rest], strict=True)))
        without = sum(w * np.square(residual).sum() for _, _, residual, w in table)
        with_it = sum(w * np.square(residual - fits[fold].predict(x)).sum() for fold, x, residual, w in table)
        logger.info(
            "Squared error of the anchor when left out: %.4g; with the gene-wise correction %.4g.", without, with_it
        )
        if with_it < without:
            self.fold_corrections = fits
            self.fold_of_context = {c: fold_of[str(c)] for c in set(p.context.tolist()) if str(c) in fold_of}
            self.correction = GeneCorrection(seed=self.seed).fit(*zip(*[e[1:] for e in table], strict=True))

    def _fit_embedding(self) -> tuple[EmbeddingRegression | None, dict[str, int]]:
        """Regression on vectors, over single perturbations averaged over their populations."""
        p = self.populations
        names = [parts[0] for parts in p.rows_of if len(parts) == 1 and parts[0] in self.vectors]
        if len(names) < 2:
            return None, {}
        shifts = np.stack([np.average(p.shift[r], axis=0, weights=p.weight[r]) for r in map(self._single_rows, names)])
        vectors = np.stack([np.asarray(self.vectors[name], dtype=float) for name in names])
        return EmbeddingRegression(vectors, shifts), {name: row for row, name in enumerate(names)}

    def _single_rows(self, name: str) -> np.ndarray:
        return self.populations.rows_of[(name,)]

    def _from_embedding(self, query: AnchorQuery) -> np.ndarray:
        name = query.perturbation[0]
        if self.embedding is None or name not in self.vectors:
            return np.zeros_like(query.control_mean)
        if name in self._embedded:
            return self.embedding.left_out[self._embedded[name]]
        return self.embedding.predict(np.asarray(self.vectors[name], dtype=float))

    def _choose_combination_scale(self) -> None:
        """Fit the factor between the sum of the parts and measured combinations, where both are known.

        The least-squares factor, cut to [0, 1], counts as many times as there are distinct combinations; additivity
        (the factor 1) counts as three of them, since a few combinations say little about the others.
        """
        p = self.populations
        along = length = 0.0
        measured = set()
        for row, parts in enumerate(p.perturbation):
            if len(parts) > 1 and all((part,) in p.rows_of for part in parts):
                total = np.sum([self._part(self.query(row), part) for part in parts], axis=0)
                along += p.weight[row] * float(total @ p.shift[row])
                length += p.weight[row] * float(total @ total)
                measured.add(tuple(parts))
        if length > 0:
            fitted, n = float(np.clip(along / length, 0, 1)), len(measured)
            self.combination_scale = (n * fitted + _ADDITIVE_PRIOR) / (n + _ADDITIVE_PRIOR)

    def _part(self, query: AnchorQuery, part: str) -> np.ndarray:
        """Shift of one part of a combination: as measured in the same context, else forecast."""
        p = self.populations
        rows = p.rows_of.get((part,), np.zeros(0, dtype=int))
        here = rows[p.context[rows] == query.context]
        if len(here):
            distance = np.abs(p.dosage[here] - query.dosage)
            here = here[distance == distance.min()]
            return np.average(p.shift[here], axis=0, weights=p.weight[here])
        return self._shift(query._replace(perturbation=(part,)))

    def __repr__(self) -> str:
        """Return the choices on one line."""
        return (
            f"ShiftAnchor[n_populations={len(self.populations)}, weighting={self.weighting.kind}"
            f"({self.weighting.scale:g}), shrinkage={self.shrinkage:.2f}, corrected={self.correction is not None}, "
            f"combination_scale={self.combination_scale:.2f}]"
        )


def _dose_width(dosage: np.ndarray) -> float:
    """Offset that makes the logarithm of dosages finite: half the smallest positive one; 0 if all are equal."""
    values = np.unique(np.asarray(dosage, dtype=float))
    positive = values[values > 0]
    return float(positive[0] / 2) if len(values) > 1 and len(positive) else 0.0
