"""What is new about a condition to forecast, and how to leave training populations out in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from pertcast.anchor._populations import Populations
    from pertcast.anchor._query import AnchorQuery

__all__ = ["REGIMES", "Regime", "left_out", "regime_of", "unit_of"]

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


def unit_of(populations: Populations, row: int, regime: Regime) -> str:
    """Name of what is left out together with a training population."""
    if regime == "batch":
        return str(populations.batch[row])
    if regime == "context":
        return str(populations.context[row])
    return "+".join([*populations.perturbation[row], str(populations.context[row])])
