"""How well an anchor forecasts training populations that are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from pertcast.anchor._choice import left_out_forecasts, sample_rows
from pertcast.anchor._regimes import without_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pertcast.anchor._anchor import ShiftAnchor
    from pertcast.anchor._regimes import Regime

__all__ = ["ForecastError", "LeftOutKind", "forecast_errors"]

LeftOutKind = Literal["context", "batch", "condition", "combination", "perturbation"]

_REGIMES: dict[LeftOutKind, Regime] = {"context": "context", "batch": "batch", "condition": "perturbation"}
_MIN_UNITS = 3


class ForecastError(NamedTuple):
    """Error of the forecast of one training population that was left out.

    The sampling noise that the mean of n perturbed cells has, ``n_genes * cell_variance / n`` with the variance of an
    average population, is taken off both squares. So they are right on average over populations, and can be below 0.
    Their ratio, summed over populations, is 0 for perfect forecasts and 1 for those of no effect, which predict the
    mean of the measured controls. The noise of that mean is a part of the shift that populations with the same controls
    share.

    Examples
    --------
    >>> error = ForecastError("context", 0, squared_error=0.5, squared_shift=2.0, control_noise=0.1, pearson=0.9)
    >>> error.squared_error / error.squared_shift
    0.25
    """

    left_out: LeftOutKind
    """What was left out with it, that is all populations of its context, of its batch, of its perturbation in its
    context (``"condition"``), of its combination, or with its perturbation, alone and in combinations."""
    row: int
    """The population."""
    squared_error: float
    """Squared distance of forecast and measured shift, over all genes."""
    squared_shift: float
    """Squared length of the measured shift."""
    control_noise: float
    """What of it must be sampling noise of the mean of the controls, which is no effect."""
    pearson: float
    """Correlation of forecast and measured shift over genes; NaN where one of them is constant."""


def forecast_errors(anchor: ShiftAnchor) -> list[ForecastError]:
    """Forecast training populations from others, leaving them out in every way that allows to.

    The populations are those by which the anchor chose how to forecast, so the errors are slightly too small; the
    correction by trees is fitted again without the residuals that it corrects. Combinations and perturbations are
    forecast without the correction of the perturbed gene, so that their errors are too large where it helps. Of
    contexts, batches and conditions only those populations have an error whose perturbation is also measured elsewhere.
    A kind with fewer than three units is left out.

    Parameters
    ----------
    anchor
        Fitted anchor.

    Returns
    -------
    Populations for each kind of what is left out: up to 120 of up to 200 that were trained on, and 40 of 600 or more.

    Examples
    --------
    Five contexts respond in the same way, so each is forecast by the others:

    >>> from pertcast.anchor import Populations, ShiftAnchor
    >>> rng, n = np.random.default_rng(0), 5
    >>> populations = Populations(
    ...     perturbation=[("a",)] * n,
    ...     context=np.array(list("ABCDE"), dtype=object),
    ...     batch=np.array(["1"] * n, dtype=object),
    ...     dosage=np.ones(n),
    ...     group=np.arange(n),
    ...     control_mean=np.ones((n, 4)),
    ...     shift=np.tile([1.0, -1.0, 2.0, 0.0], (n, 1)),
    ...     state=rng.normal(size=(n, 2)),
    ...     n_control=np.full(n, 50),
    ...     n_perturbed=np.full(n, 50),
    ...     cell_variance=0.0,
    ... )
    >>> errors = forecast_errors(ShiftAnchor(populations, nonnegative=False))
    >>> [error.left_out for error in errors], max(round(error.squared_error, 3) for error in errors)
    (['context', 'context', 'context', 'context', 'context'], 0.0)
    """
    forecasts, p = anchor.forecasts, anchor.populations
    found = []
    for kind, regime in _REGIMES.items():
        shifts = left_out_forecasts(forecasts, regime, anchor.transfers[regime], seed=anchor.seed)
        found += [_error(anchor, kind, row, shift) for row, shift in shifts.items()]
    kinds: tuple[LeftOutKind, ...] = ("combination", "perturbation")
    for kind in kinds:
        rest = dict(_without_name(anchor, kind))
        if len({p.perturbation[row] for row in rest}) >= _MIN_UNITS:
            found += [
                _error(anchor, kind, row, forecasts.by_process(p.query(row), others)) for row, others in rest.items()
            ]
    return found


def _without_name(anchor: ShiftAnchor, kind: LeftOutKind) -> Iterator[tuple[int, np.ndarray]]:
    """Populations of combinations or of single perturbations, each with those that do not hold it."""
    p = anchor.populations
    is_combination = np.array([len(name) > 1 for name in p.perturbation])
    rows = np.flatnonzero(is_combination == (kind == "combination"))
    for row in sample_rows(rows, len(p), seed=anchor.seed).tolist():
        yield row, without_name(p, p.perturbation[row])


def _error(anchor: ShiftAnchor, kind: LeftOutKind, row: int, shift: np.ndarray) -> ForecastError:
    p = anchor.populations
    truth = p.shift[row]
    if anchor.nonnegative:
        shift = np.maximum(shift, -p.control(row))
    noise, control_noise = (len(truth) * p.cell_variance / float(n[row]) for n in (p.n_perturbed, p.n_control))
    varies = np.ptp(shift) > 0 and np.ptp(truth) > 0
    pearson = float(np.corrcoef(shift, truth)[0, 1]) if varies else float("nan")
    error, length = (float(np.square(each).sum() - noise) for each in (shift - truth, truth))
    return ForecastError(kind, row, error, length, control_noise, pearson)
