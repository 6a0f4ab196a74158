"""Means over conditions, their intervals, and the share of the gap to the noise ceiling that a model closes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pertcast.tl._registry import METRICS

if TYPE_CHECKING:
    from pertcast.tl._metric import Metric

__all__ = ["summarize"]

_NEEDED = ("task", "condition", "model", "role", "metric", "value")


def summarize(
    scores: pd.DataFrame, *, n_bootstrap: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    r"""Average scores over conditions and set them against the best baseline and the noise ceiling.

    The normalised score of a model is the share of the gap between the best baseline and the ceiling that it closes:

    .. math:: s = \frac{\ell(\mathrm{best\ baseline}) - \ell(\mathrm{model})}
                       {\ell(\mathrm{best\ baseline}) - \ell(\mathrm{ceiling})}

    with the loss :math:`\ell`, the mean over conditions of values turned so that lower is better: the distance from 0,
    or of logarithms from that of 1, where these are best, so that too high and too low do not make up for each other.
    It is 0 for the best baseline, 1 at the
    ceiling, and below 0 for a model that a baseline beats. Intervals are bootstrap percentiles over conditions; the
    best baseline is chosen anew in every resample.

    Parameters
    ----------
    scores
        Table of :func:`evaluate` or :func:`benchmark`.
    n_bootstrap
        Number of resamples.
    confidence
        Mass of the intervals, in (0, 1).
    seed
        Seed of the resampling.

    Returns
    -------
    One row for each task, metric and model: ``mean``, ``low``, ``high``, ``loss`` (NaN for a metric that is not known),
    ``n_conditions`` (those where the metric is defined), ``normalised``, ``normalised_low``, ``normalised_high`` and
    ``reason``, which says why there is no normalised score. Baselines that are not defined on all conditions of a model
    are not compared with it.

    Raises
    ------
    ValueError
        If columns are missing or a number is out of its range.

    Examples
    --------
    >>> rows = [("NoEffect", "baseline", 2.0), ("mine", "model", 0.5), ("ceiling", "ceiling", 0.0)]
    >>> scores = pd.DataFrame(rows, columns=["model", "role", "value"])
    >>> scores = scores.assign(task="", condition="A | B cells", metric="energy_distance")
    >>> summarize(scores).set_index("model")["normalised"].to_dict()
    {'NoEffect': 0.0, 'ceiling': 1.0, 'mine': 0.75}
    """
    missing = [column for column in _NEEDED if column not in scores]
    if missing:
        raise ValueError(f"`scores` lacks the columns {missing}. Use the table that `pc.tl.evaluate` returns.")
    if n_bootstrap < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"`n_bootstrap` must be at least 1 and `confidence` in (0, 1), but found {n_bootstrap} and {confidence}."
        )
    rows = []
    scores = scores.assign(task=scores["task"].astype(object).fillna(""))  # files do not tell no name from none
    for (task, metric), part in scores.groupby(["task", "metric"], sort=True):
        table = part.pivot_table(index="condition", columns="model", values="value", dropna=False, aggfunc="mean")
        roles = dict(zip(part["model"], part["role"], strict=True))
        table = table.reindex(columns=sorted(roles))
        draws = np.random.default_rng(seed).integers(len(table), size=(n_bootstrap, len(table)))
        for model in table.columns:
            found = {"task": task, "metric": metric, "model": model, "role": roles[model]}
            found |= _interval(table[model].to_numpy(float), draws, confidence)
            known = METRICS.get(str(metric))
            losses = np.empty(0) if known is None else known.loss(table[model].dropna().to_numpy(float))
            found["loss"] = float(losses.mean()) if len(losses) else np.nan
            values = part.loc[part["model"] == model]
            if known is None:
                found["reason"] = "the direction of this metric is not known"
            elif found["n_conditions"] == 0:
                found["reason"] = str(values["reason"].iloc[0]) if "reason" in values else "not defined"
            elif known.depends_on_size:
                found["reason"] = "it depends on the number of cells, of which the ceiling has half"
            else:
                found |= _normalised(table, roles, model, known, draws, confidence)
            rows.append(found)
    columns = ["task", "metric", "model", "role", "mean", "low", "high", "loss", "n_conditions"]
    columns += ["normalised", "normalised_low", "normalised_high", "reason"]
    summary = pd.DataFrame(rows, columns=columns)
    summary["reason"] = ["" if pd.isna(reason) else str(reason) for reason in summary["reason"]]
    return summary


def _interval(values: np.ndarray, draws: np.ndarray, confidence: float) -> dict[str, float]:
    """Mean over the defined values, and its bootstrap interval."""
    defined = np.isfinite(values)
    if not defined.any():
        return {"mean": np.nan, "low": np.nan, "high": np.nan, "n_conditions": 0}
    low, high = _percentiles(_means(values[:, None], draws)[:, 0], confidence)
    return {"mean": float(values[defined].mean()), "low": low, "high": high, "n_conditions": int(defined.sum())}


def _means(values: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Mean of the defined values in every resample, ``[R, C]``; NaN in a resample without any."""
    defined = np.isfinite(values)
    filled = np.where(defined, values, 0.0)
    counts = np.stack([np.bincount(draw, minlength=len(values)) for draw in draws]).astype(float)
    with np.errstate(invalid="ignore"):
        return (counts @ filled) / (counts @ defined)


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _normalised(
    table: pd.DataFrame, roles: dict[str, str], model: str, metric: Metric, draws: np.ndarray, confidence: float
) -> dict[str, object]:
    """Share of the gap between the best baseline and the ceiling that a model closes."""
    ceilings = [name for name, role in roles.items() if role == "ceiling"]
    if not ceilings:
        return {"reason": "no noise ceiling in the table"}
    losses = table.apply(lambda column: metric.loss(column.to_numpy(float)))
    kept = np.isfinite(losses[model]) & np.isfinite(losses[ceilings[0]])
    if not kept.any():
        return {"reason": "not defined on any condition for both the model and the ceiling"}
    baselines = [n for n, role in roles.items() if role == "baseline" and np.isfinite(losses.loc[kept, n]).all()]
    if not baselines:
        return {"reason": "no baseline is defined on the same conditions"}
    values = losses[[model, ceilings[0], *baselines]].to_numpy(float, copy=True)
    values[~kept.to_numpy()] = np.nan
    resampled = np.concatenate([np.nanmean(values, axis=0)[None], _means(values, draws)])
    best = resampled[:, 2:].min(axis=1)
    gap = best - resampled[:, 1]
    if not min(gap[0], _percentiles(gap[1:], confidence)[0]) > 0:
        return {"reason": "the best baseline cannot be told from the noise ceiling"}
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(gap > 0, (best - resampled[:, 0]) / gap, np.nan)
    low, high = _percentiles(share[1:], confidence)
    return {"normalised": float(share[0]), "normalised_low": low, "normalised_high": high}
