r"""How strongly single perturbations act, relative to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

if TYPE_CHECKING:
    from pertcast.anchor._conditions import Conditions

__all__ = ["fit_strengths", "measured_alone"]

_BOUNDS = (-6.0, 4.0)


def measured_alone(conditions: Conditions) -> list[str]:
    """Single perturbations that were measured by themselves, sorted.

    Parameters
    ----------
    conditions
        Training conditions.
    """
    return sorted({parts[0] for parts in conditions.perturbation if len(parts) == 1})


def fit_strengths(
    conditions: Conditions, own: np.ndarray, rest: np.ndarray, second: np.ndarray, n_genes: int
) -> dict[str, float]:
    r"""Fit the variance of the response of each single perturbation, relative to the others.

    Most perturbations of a screen do little and a few do much. With one variance for all of them the weak ones keep
    noise and the strong ones are shrunk. The covariance is :math:`Z \, \mathrm{diag}(r) Z^\top \circ C + R` with the
    parts Z of the conditions; the strengths r maximise its marginal likelihood times a log-normal prior of unit width
    around 1. Perturbations that were measured in combinations only keep 1: what a combination does cannot be told
    apart by its parts.

    Parameters
    ----------
    conditions
        n training conditions.
    own
        Covariance C of the responses to the same perturbation, ``[n, n]``.
    rest
        Covariance R of everything else, noise included, ``[n, n]``.
    second
        Mean over genes of the products of measured shifts, ``[n, n]``.
    n_genes
        Number of independent genes.

    Returns
    -------
    Strength of each perturbation that was measured alone; empty if that are fewer than two.

    References
    ----------
    Automatic relevance determination: MacKay (1992), Bayesian Interpolation, Neural Computation 4.
    """
    names = measured_alone(conditions)
    if len(names) < 2:
        return {}
    parts = sorted({part for each in conditions.perturbation for part in each})
    counts = np.array([[each.count(part) for part in parts] for each in conditions.perturbation], dtype=float)
    columns = np.searchsorted(parts, names)
    of_names = counts[:, columns]
    fixed = rest + (np.delete(counts, columns, axis=1) @ np.delete(counts, columns, axis=1).T) * own
    identity = np.eye(len(own))

    def objective(log_strength: np.ndarray) -> tuple[float, np.ndarray]:
        strength = np.exp(log_strength)
        factor, lower = cho_factor(fixed + ((of_names * strength) @ of_names.T) * own)
        inverse = cho_solve((factor, lower), identity)
        explained = inverse @ second
        value = 0.5 * n_genes * (np.trace(explained) + 2 * np.log(np.diag(factor)).sum())
        slope = ((inverse - explained @ inverse) * own) @ of_names
        gradient = 0.5 * n_genes * strength * (of_names * slope).sum(axis=0)
        return value + 0.5 * float(log_strength @ log_strength), gradient + log_strength

    found = minimize(objective, np.zeros(len(names)), jac=True, method="L-BFGS-B", bounds=[_BOUNDS] * len(names))
    return dict(zip(names, np.exp(found.x).tolist(), strict=True))
