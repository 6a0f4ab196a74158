"""What is new about a condition to forecast, and how to leave training populations out in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from pertcast.anchor._populations import Populations
    from pertcast.anchor._query import AnchorQuery

__all__ = ["REGIMES", "Regime", "left_out", "measured_elsewhere", "regime_of", "unit_of", "without_name"]

Regime = Literal["context", "batch", "perturbation"]

REGIMES: tuple[Regime, ...] = ("context", "batch", "perturbation")


def regime_of(populations: Populations, query: AnchorQuery) -> Regime | None:
    """Tell what is new about a condition.

    ``"context"``: training shows no perturbed cells in it. ``"perturbation"``: it does, but not of this perturbation.
    ``"batch"``: of this perturbation too, but in other batches. None: the condition is one of training.

    Parameters
    ----------
    populations
        Training populations.
    query
        Condition to forecast.
    """
    here = populations.context == query.context
    if not here.any():
        return "context"
    measured = populations.rows_of.get(query.perturbation, np.zeros(0, dtype=int))
    measured = measured[here[measured]]
    if not len(measured):
        return "perturbation"
    return None if (populations.batch[measured] == query.batch).any() else "batch"


def left_out(populations: Populations, row: int, regime: Regime) -> np.ndarray:
    """Training populations that could not be used if one of them were a new condition, bool ``[P]``.

    Parameters
    ----------
    populations
        Training populations.
    row
        One of them.
    regime
        What is new about it: its context (all populations of the context are left out), its batch (all of the batch),
        or its perturbation in this context (those of the same perturbation and context).
    """
    if regime == "batch":
        return populations.batch == populations.batch[row]
    own = populations.context == populations.context[row]
    if regime == "perturbation":
        same = np.zeros(len(populations), dtype=bool)
        same[populations.rows_of[tuple(populations.perturbation[row])]] = True
        own &= same
    return own


def measured_elsewhere(populations: Populations, regime: Regime) -> np.ndarray:
    """Training populations whose perturbation is still measured if they are left out, int64, sorted.

    That is in another context, or for ``"batch"`` in another batch of the same context.

    Parameters
    ----------
    populations
        Training populations.
    regime
        What would be new about them.
    """
    found = np.zeros(len(populations), dtype=bool)
    for rows in populations.rows_of.values():
        context, batch = populations.context[rows], populations.batch[rows]
        if regime == "batch":
            for name in set(context):
                here = context == name
                found[rows[here]] = len(set(batch[here])) > 1
        else:
            found[rows] = len(set(context)) > 1
    return np.flatnonzero(found)


def without_name(populations: Populations, name: tuple[str, ...]) -> np.ndarray:
    """Training populations whose perturbation does not hold all parts of a name, int64."""
    return np.flatnonzero([not set(name) <= set(parts) for parts in populations.perturbation])


def unit_of(populations: Populations, row: int, regime: Regime) -> str:
    """Name of what is left out together with a training population."""
    if regime == "batch":
        return str(populations.batch[row])
    if regime == "context":
        return str(populations.context[row])
    return "+".join([*populations.perturbation[row], str(populations.context[row])])
