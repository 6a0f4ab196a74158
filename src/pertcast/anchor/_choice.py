"""The choice of a way to forecast, by leaving training populations out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pertcast.anchor._correction import GeneCorrection
from pertcast.anchor._forecasts import Transfer
from pertcast.anchor._regimes import left_out, measured_elsewhere, unit_of
from pertcast.anchor._weights import WEIGHTINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pertcast.anchor._forecasts import Forecasts
    from pertcast.anchor._populations import Populations
    from pertcast.anchor._query import AnchorQuery
    from pertcast.anchor._regimes import Regime

__all__ = ["LeftOut", "choose_transfer", "leave_out", "left_out_forecasts", "sample_rows"]

logger = logging.getLogger(__name__)

_MIN_JUDGED = 40
_MAX_JUDGED = 120
_JUDGED_PAIRS = 24_000
_MAX_FOLDS = 5
_MIN_UNITS = 3


class LeftOut(NamedTuple):
    """A training population to forecast from others."""

    row: int
    query: AnchorQuery
    rest: np.ndarray
    """Populations that may be used."""


def sample_rows(rows: np.ndarray, n_populations: int, *, seed: int) -> np.ndarray:
    """Training populations to judge by, of those in question: all, or 40 to 120 of many."""
    n_judged = int(np.clip(_JUDGED_PAIRS // n_populations, _MIN_JUDGED, _MAX_JUDGED))
    return rows if len(rows) <= n_judged else np.sort(np.random.default_rng(seed).choice(rows, n_judged, replace=False))


def leave_out(forecasts: Forecasts, regime: Regime, *, seed: int) -> list[LeftOut]:
    """Training populations whose perturbation is also measured elsewhere; [] below three units.

    Parameters
    ----------
    forecasts
        Forecasts from subsets.
    regime
        What is new about a population that is left out.
    seed
        Seed of subsampling.
    """
    p = forecasts.populations
    if regime == "perturbation" and len(p.rows_of) == 1:
        return []
    rows = sample_rows(measured_elsewhere(p, regime), len(p), seed=seed).tolist()
    found = [LeftOut(row, p.query(row), np.flatnonzero(~left_out(p, row, regime))) for row in rows]
    return found if len({unit_of(p, each.row, regime) for each in found}) >= _MIN_UNITS else []


def choose_transfer(forecasts: Forecasts, regime: Regime, *, seed: int) -> Transfer:
    """Candidate with the smallest weighted squared error; the process if too little can be left out to judge.

    Parameters
    ----------
    forecasts
        Forecasts from subsets.
    regime
        What is new.
    seed
        Seed of subsampling.
    """
    p, judged = forecasts.populations, leave_out(forecasts, regime, seed=seed)
    if not judged:
        return Transfer()
    truth = np.stack([p.shift[each.row] for each in judged])
    trust = p.weight[[each.row for each in judged]][:, None]
    best = Transfer()
    by_process = np.stack([forecasts.by_process(query, rest) for _, query, rest in judged])
    error = _error(by_process - truth, trust)
    for weighting in WEIGHTINGS:
        weighted = [forecasts.by_weighting(q, forecasts.sources(q, rest), weighting) for _, q, rest in judged]
        forecast = np.stack(weighted)
        length = _error(forecast, trust)
        scale = float(np.clip((trust * forecast * truth).sum() / length, 0, 1)) if length > 0 else 0.0
        total = _error(scale * forecast - truth, trust)
        if total < error:
            error, best = total, Transfer(weighting, scale)
    residuals = _Residuals.of(forecasts, judged, best, by_process)
    corrections = residuals.cross_fitted(_folds(p, judged, regime))
    means = corrections.mean(axis=1, keepdims=True)
    kept = _mean_kept(means, residuals.residual, trust)
    rest = residuals.residual - corrections + (1 - kept) * means
    without, with_it = _error(residuals.residual, trust), _error(rest, trust)
    logger.info("Anchor, new %s: squared error %.4g; with correction %.4g.", regime, without, with_it)
    return best._replace(correction=residuals.fit(mean_kept=kept)) if with_it < without else best


def left_out_forecasts(forecasts: Forecasts, regime: Regime, transfer: Transfer, *, seed: int) -> dict[int, np.ndarray]:
    """Forecasts ``[G]`` of training populations that are left out, by their row.

    Parameters
    ----------
    forecasts
        Forecasts from subsets.
    regime
        What is new about a population that is left out.
    transfer
        How it is forecast; its correction is fitted again for each fold of units, without that fold.
    seed
        Seed of subsampling.
    """
    judged = leave_out(forecasts, regime, seed=seed)
    if not judged:
        return {}
    by_process = np.stack([forecasts.by_process(query, rest) for _, query, rest in judged])
    residuals = _Residuals.of(forecasts, judged, transfer, by_process)
    found = residuals.base
    if transfer.correction is not None:
        folds, kept = _folds(forecasts.populations, judged, regime), transfer.correction.mean_kept
        found = found + residuals.cross_fitted(folds, mean_kept=kept)
    return {each.row: forecast for each, forecast in zip(judged, found, strict=True)}


class _Residuals(NamedTuple):
    """What forecasts of n populations lack, and what the correction may know about it."""

    base: np.ndarray
    """Forecasts without correction, ``[n, G]``."""
    residual: np.ndarray
    """Measured shift minus forecast, ``[n, G]``."""
    features: list[np.ndarray]
    weight: list[float]

    @classmethod
    def of(
        cls, forecasts: Forecasts, judged: Sequence[LeftOut], transfer: Transfer, by_process: np.ndarray
    ) -> _Residuals:
        p = forecasts.populations
        shifts = by_process
        if transfer.weighting is not None:
            shifts = np.stack([forecasts.by_transfer(query, rest, transfer) for _, query, rest in judged])
        features = [
            forecasts.features(query, rest, shift, process)
            for (_, query, rest), shift, process in zip(judged, shifts, by_process, strict=True)
        ]
        rows = [each.row for each in judged]
        return cls(shifts, p.shift[rows] - shifts, features, [float(p.weight[row]) for row in rows])

    def fit(self, rows: np.ndarray | None = None, *, mean_kept: float = 1.0) -> GeneCorrection:
        """Fit a correction on some of the populations, or on all."""
        rows = np.arange(len(self.weight)) if rows is None else rows
        return GeneCorrection(mean_kept).fit(
            [self.features[row] for row in rows], list(self.residual[rows]), [self.weight[row] for row in rows]
        )

    def cross_fitted(self, folds: np.ndarray, *, mean_kept: float = 1.0) -> np.ndarray:
        """Corrections by what was fitted on the other folds, ``[n, G]``."""
        found = np.zeros_like(self.residual)
        for fold in range(folds.max() + 1):
            fitted = self.fit(np.flatnonzero(folds != fold), mean_kept=mean_kept)
            for row in np.flatnonzero(folds == fold):
                found[row] = fitted.predict(self.features[row])
        return found


def _mean_kept(means: np.ndarray, residual: np.ndarray, trust: np.ndarray) -> float:
    """Share, 0 to 1, of the means ``[n, 1]`` of corrections over the genes that lacks least of residuals ``[n, G]``."""
    squares = float((trust * np.square(means)).sum())
    lacking = residual.mean(axis=1, keepdims=True)
    return float(np.clip((trust * means * lacking).sum() / squares, 0, 1)) if squares > 0 else 1.0


def _folds(populations: Populations, judged: Sequence[LeftOut], regime: Regime) -> np.ndarray:
    """Fold of each population that is left out; a unit is in one fold."""
    of = [unit_of(populations, each.row, regime) for each in judged]
    units = sorted(set(of))
    fold_of = {unit: number % min(_MAX_FOLDS, len(units)) for number, unit in enumerate(units)}
    return np.array([fold_of[unit] for unit in of])


def _error(residual: np.ndarray, trust: np.ndarray) -> float:
    return float((trust * np.square(residual)).sum())
