r"""The shift as a Gaussian process over conditions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from pertcast.anchor._factors import CovarianceFactors
from pertcast.anchor._kernel import ConditionKernel
from pertcast.anchor._strength import fit_strengths, measured_alone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pertcast.anchor._conditions import Conditions
    from pertcast.anchor._populations import Populations

__all__ = ["ShiftProcess"]

logger = logging.getLogger(__name__)

_MAX_FITTED = 300
_MAX_USED = 1000
_MAX_INDEPENDENT = 50
_PRIOR = 0.02
_INTERACTION_SHARE = 0.1
_INTERACTION_PRIOR = 10.0
_RANGE = (-12.0, 2.0)
_JITTER = 1e-6
_ANY = "any context"


class ShiftProcess:
    r"""Gaussian process regression of the shift, one covariance for all genes.

    The shift that was measured in condition i is that of an infinite population plus the noise of two means. With v
    the variance between cells of a population (its mean over genes) and n, m the numbers of perturbed cells and
    controls,

    .. math::

        \mathrm{cov}(y_i, y_j) = \sum_k e^{\theta_k} K^k_{ij} + v \, \delta_{ij} / n_i + v \, s_{ij} / m_i ,

    where s says whether two conditions share their controls. One of the terms is the response to a single
    perturbation, which has a strength of its own (:func:`~pertcast.anchor._strength.fit_strengths`). The variances
    :math:`e^\theta` maximise the marginal likelihood, in which correlated genes count as 50 independent ones, with a
    wide prior around equal shares of the mean square of the shifts. The prior of the terms for what the parts of a
    combination do not add up to is narrow, around a tenth of that: a few combinations cannot tell an interaction from a
    part that was never measured alone, and most combinations are close to additive. The forecast is the conditional
    mean: noisy measurements count little, a perturbation that was not measured has the shift that perturbations have on
    average, and what all conditions with the same controls seem to share because the mean of the controls is noisy is
    forecast too.

    Parameters
    ----------
    populations
        Training populations.
    vectors
        Vectors of single perturbations.
    seed
        Seed of the choice of populations, where there are more than 300 to fit or 1000 to use.

    References
    ----------
    Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, Eq. 2.23, 2.30 and 5.9. Combinations are
    close to additive: Ahlmann-Eltze, Huber and Anders (2025), Nature Methods 22.

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
    >>> process = ShiftProcess(populations)
    >>> rows, (signal, noise) = process.weights(populations.conditions.take(np.array([1])), np.array([0, 1]))
    >>> signal.round(2).tolist()  # what was measured without noise is its own forecast
    [0.0, 1.0]
    """

    def __init__(
        self, populations: Populations, vectors: Mapping[str, np.ndarray] | None = None, *, seed: int = 0
    ) -> None:
        self.populations, self.kernel, self.seed = populations, ConditionKernel(populations, vectors), seed
        self.conditions = populations.conditions
        self._scale = max(float(np.square(populations.shift).mean()), 1e-12)
        self._n_genes = min(populations.shift.shape[1], _MAX_INDEPENDENT)
        fitted = self._fitted()
        self.log_variance = self._fit(fitted)
        self.kernel.strength = self._strengths()
        if self.kernel.strength:
            self.log_variance = self._fit(fitted)
        of_shifts = populations.shift.size // _MAX_USED**2  # as much memory as the shifts take
        self._factors = CovarianceFactors(self._covariance, n_kept=of_shifts)
        self._few = len(populations) <= _MAX_USED
        if self._few:
            self._factors.keep(np.arange(len(populations)), like=_ANY)

    def weights(self, query: Conditions, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights of training populations in the forecast of one condition.

        Parameters
        ----------
        query
            One condition.
        rows
            Populations that may be used; the most relevant 1000 of them are.

        Returns
        -------
        The populations used, ``[n]``, and two lists of weights on their shifts, ``[2, n]``: of the shift of the
        condition, and of the noise of its controls. The forecast is the sum of both.
        """
        rows = self._relevant(query, rows)
        if not len(rows):
            return rows, np.zeros((2, 0))
        used = self.conditions.take(rows)
        signal = self.kernel.covariance(query, used, np.exp(self.log_variance))[0]
        noise = self.populations.cell_variance * self.kernel.shared_controls(query, used)[0]
        factor = self._factors.of(rows, like=_ANY if self._few else str(query.context[0]))
        return rows, cho_solve(factor, np.stack([signal, noise]).T).T

    def _relevant(self, query: Conditions, rows: np.ndarray) -> np.ndarray:
        """At most 1000 populations: those that share a perturbation first, then those of the context, then others."""
        if len(rows) <= _MAX_USED:
            return rows
        parts = set(query.perturbation[0])
        shares = np.array([not parts.isdisjoint(self.conditions.perturbation[row]) for row in rows])
        rank = 2.0 * shares + (self.conditions.context[rows] == query.context[0])
        rank += 0.5 * np.random.default_rng(self.seed).random(len(rows))
        return np.sort(rows[np.argsort(-rank, kind="stable")[:_MAX_USED]])

    def _covariance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Covariance of the measured shifts of some populations and others, ``[a, b]``."""
        of_a, of_b = self.conditions.take(a), self.conditions.take(b)
        return self.kernel.covariance(of_a, of_b, np.exp(self.log_variance)) + self._noise(a, b)

    def _noise(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Covariance of the noise of the means of some populations and others, ``[a, b]``."""
        p = self.populations
        own = p.cell_variance / p.n_perturbed[a] + _JITTER * self._scale
        shared = self.kernel.shared_controls(self.conditions.take(a), self.conditions.take(b))
        return p.cell_variance * shared + np.where(a[:, None] == b, own[:, None], 0.0)

    def _fit(self, rows: np.ndarray) -> np.ndarray:
        """Log variances of the terms."""
        used = self.conditions.take(rows)
        terms, noise, second = self.kernel.terms(used, used), self._noise(rows, rows), self._products(rows)
        centre, precision = self._prior()
        n_genes = self._n_genes

        def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
            variance = np.exp(theta)
            factor, lower = cho_factor(np.tensordot(variance, terms, 1) + noise)
            inverse = cho_solve((factor, lower), np.eye(len(rows)))
            explained = inverse @ second
            value = 0.5 * n_genes * (np.trace(explained) + 2 * np.log(np.diag(factor)).sum())
            slope = 0.5 * n_genes * variance * np.tensordot(terms, inverse - explained @ inverse, 2)
            away = theta - centre
            return value + float(precision @ np.square(away)), slope + 2 * precision * away

        low, high = np.log(self._scale) + np.array(_RANGE)
        start = np.clip(centre, low, high)
        found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=[(low, high)] * len(terms))
        shares = np.exp(found.x) / np.exp(found.x).sum()
        names = [f"{a}/{b}" for a in self.kernel.perturbation_terms for b in self.kernel.context_terms]
        logger.debug("Shares of the variance of shifts: %s.", dict(zip(names, shares.round(3).tolist(), strict=True)))
        return found.x

    def _prior(self) -> tuple[np.ndarray, np.ndarray]:
        """Centre and half the precision of the normal prior of each log variance."""
        kernel = self.kernel
        of_whole = np.repeat([term == "whole" for term in kernel.perturbation_terms], len(kernel.context_terms))
        centre = np.log(self._scale / kernel.n_terms) + np.where(of_whole, np.log(_INTERACTION_SHARE), 0.0)
        return centre, np.where(of_whole, _INTERACTION_PRIOR, _PRIOR)

    def _strengths(self) -> dict[str, float]:
        """Strengths of the perturbations that were measured alone, some hundred populations at a time."""
        p, found = self.populations, dict[str, float]()
        names = np.random.default_rng(self.seed).permutation(measured_alone(self.conditions)).tolist()
        together: list[int] = []
        several = [row for row in range(len(p)) if len(p.perturbation[row]) > 1]
        for number, name in enumerate(names, start=1):
            together += p.rows_of[(name,)][: _MAX_FITTED // 5].tolist()
            if len(together) < _MAX_FITTED and number < len(names):
                continue
            rows = np.sort(np.array([*together, *several[: max(0, _MAX_FITTED - len(together))]], dtype=int))
            used, variance = self.conditions.take(rows), np.exp(self.log_variance)
            whole = self.kernel.covariance(used, used, variance)
            own = self.kernel.of_one_perturbation(used, used, variance)
            shared = np.array([[len(set(a) & set(b)) for b in used.perturbation] for a in used.perturbation])
            rest = whole - shared * own + self._noise(rows, rows)
            found |= fit_strengths(used, own, rest, self._products(rows), self._n_genes)
            together = []
        return found if len(found) > 1 else {}

    def _products(self, rows: np.ndarray) -> np.ndarray:
        """Mean over genes of the products of measured shifts."""
        shift = self.populations.shift[rows]
        return shift @ shift.T / shift.shape[1]

    def _fitted(self) -> np.ndarray:
        """Populations to fit variances on: all populations of randomly chosen perturbations."""
        p = self.populations
        if len(p) <= _MAX_FITTED:
            return np.arange(len(p))
        rng = np.random.default_rng(self.seed)
        names = sorted(p.rows_of)
        chosen: list[int] = []
        for i in rng.permutation(len(names)):
            rows = p.rows_of[names[i]]
            chosen += rng.permutation(rows)[: _MAX_FITTED // 5].tolist()
            if len(chosen) >= _MAX_FITTED:
                break
        return np.sort(np.array(chosen[:_MAX_FITTED]))
