r"""How alike two conditions are: the covariance of their shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist, pdist

from pertcast.anchor._dosage import DosageKernel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pertcast.anchor._conditions import Conditions
    from pertcast.anchor._populations import Populations

__all__ = ["ConditionKernel"]

_MAX_STATES = 1000


class ConditionKernel:
    r"""Products of a similarity of perturbations and a similarity of contexts.

    The shift of a condition is the sum of a response to any perturbation, one of its own for each single perturbation,
    one that follows their vectors and, for a combination, what its parts do not add up to. Each is the same in all
    contexts, or alike in contexts with similar controls, or linear in their state. With the numbers of parts
    :math:`Z` (conditions x single perturbations) and vectors :math:`E`, the similarities of perturbations are

    * ``any``: :math:`(Z 1)(Z 1)^\top`;
    * ``own``: :math:`Z \, \mathrm{diag}(r) Z^\top` with the strength r of each single perturbation (1 until it is set);
    * ``vector``: :math:`Z E E^\top Z^\top`;
    * ``whole``: 1 for the same combination of several parts.

    Where there are dosages, ``any`` and ``vector`` are multiplied with the similarity of dose-response curves
    (:class:`~pertcast.anchor._dosage.DosageKernel`), and ``own`` becomes two: ``curve``, multiplied in the same way,
    and ``own``, multiplied with the similarity of close dosages, for what does not follow a curve. The similarities of
    contexts with states at a distance d, the median of which is m between the controls of training, are

    * ``all``: 1;
    * ``near``: :math:`\exp(-d / m)`;
    * ``linear``: the inner product of the centred states, divided by its mean.

    Parameters
    ----------
    populations
        Training populations.
    vectors
        Vectors of single perturbations; those without one have the mean vector.

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
    >>> kernel = ConditionKernel(populations)
    >>> kernel.perturbation_terms, kernel.context_terms
    (['any', 'own'], ['all', 'near'])
    >>> kernel.terms(populations.conditions, populations.conditions)[1].round(3).tolist()  # "any" times "near"
    [[1.0, 0.368], [0.368, 1.0]]
    """

    def __init__(self, populations: Populations, vectors: Mapping[str, np.ndarray] | None = None) -> None:
        states = populations.state
        if len(states) > _MAX_STATES:
            states = states[:: -(-len(states) // _MAX_STATES)]
        self.centre = states.mean(axis=0)
        self.median = float(np.median(pdist(states))) if len(states) > 1 else 0.0
        self.spread = float(np.square(states - self.centre).sum(axis=1).mean())
        self.dosages = DosageKernel(populations.dosage)
        self.vectors = _standardised(populations, vectors)
        self.strength: dict[str, float] = {}
        self.perturbation_terms = ["any", "own", "curve"] if self.dosages.several else ["any", "own"]
        self.perturbation_terms += ["vector"] if self.vectors else []
        self.perturbation_terms += ["whole"] if any(len(parts) > 1 for parts in populations.perturbation) else []
        several = self.median > 0
        self.context_terms = (
            ["all", "near", "linear"] if several and len(states) > 2 else ["all", "near"][: 1 + several]
        )

    @property
    def n_terms(self) -> int:
        """Number of products."""
        return len(self.perturbation_terms) * len(self.context_terms)

    def terms(self, a: Conditions, b: Conditions) -> np.ndarray:
        """Return every product for two lists of conditions, ``[n_terms, n_a, n_b]``."""
        of_perturbation = self._of_perturbations(a, b)
        of_context, places = self._of_contexts(a, b)
        pairs = [
            of_perturbation[first] * of_context[second][places]
            for first in self.perturbation_terms
            for second in self.context_terms
        ]
        return np.stack(pairs)

    def covariance(self, a: Conditions, b: Conditions, variance: np.ndarray) -> np.ndarray:
        """Sum of the products, each times its variance, for two lists of conditions, ``[n_a, n_b]``.

        Parameters
        ----------
        a, b
            Conditions.
        variance
            Variance of each product, ``[n_terms]``.
        """
        return self._weighted(self._of_perturbations(a, b), a, b, variance)

    def shared_controls(self, a: Conditions, b: Conditions) -> np.ndarray:
        """One over the number of controls where two conditions share them, else 0, ``[n_a, n_b]``.

        Times the variance between cells it is the covariance that two shifts have because the same mean was taken off.
        """
        code: dict[tuple[object, object], int] = {}
        of_a, of_b = (
            np.array([code.setdefault(pair, len(code)) for pair in zip(each.context, each.batch, strict=True)])
            for each in (a, b)
        )
        return (of_a[:, None] == of_b[None]) / np.maximum(a.n_control[:, None], b.n_control[None])

    def _of_perturbations(self, a: Conditions, b: Conditions) -> dict[str, np.ndarray]:
        names, code_a, code_b = _part_codes(a.perturbation, b.perturbation)
        strength = np.array([*(self.strength.get(name, 1.0) for name in names), 0.0])  # 0 where there is no part
        own = np.zeros((len(code_a), len(code_b)))
        for part in code_a.T:
            own += strength[part, None] * sum(part[:, None] == other for other in code_b.T)
        curve = self.dosages.of_curves(a.dosage, b.dosage)
        n_a, n_b = ((code >= 0).sum(axis=1) for code in (code_a, code_b))
        found = {"any": np.outer(n_a, n_b) * curve, "own": own * self.dosages.near(a.dosage, b.dosage)}
        found["curve"] = own * curve
        if self.vectors:
            zero = np.zeros_like(next(iter(self.vectors.values())))
            table = np.stack([*(self.vectors.get(name, zero) for name in names), zero])
            found["vector"] = table[code_a].sum(axis=1) @ table[code_b].sum(axis=1).T * curve
        if "whole" in self.perturbation_terms:
            same = (code_a[:, None] == code_b[None]).all(axis=2)
            found["whole"] = (same & (n_a > 1)[:, None]).astype(float)
        return found

    def of_one_perturbation(self, a: Conditions, b: Conditions, variance: np.ndarray) -> np.ndarray:
        """Covariance of the responses to the same single perturbation of strength 1, ``[n_a, n_b]``.

        Parameters
        ----------
        a, b
            Conditions.
        variance
            Variance of each product, ``[n_terms]``.
        """
        of_dosage = {"own": self.dosages.near(a.dosage, b.dosage), "curve": self.dosages.of_curves(a.dosage, b.dosage)}
        return self._weighted(of_dosage, a, b, variance)

    def _weighted(
        self, of_perturbation: dict[str, np.ndarray], a: Conditions, b: Conditions, variance: np.ndarray
    ) -> np.ndarray:
        """Sum of the products of some similarities of perturbations with those of contexts, ``[n_a, n_b]``."""
        of_context, places = self._of_contexts(a, b)
        total = np.zeros((len(a.dosage), len(b.dosage)))
        shares = variance.reshape(len(self.perturbation_terms), len(self.context_terms))
        for term, of_term in zip(self.perturbation_terms, shares, strict=True):
            if term in of_perturbation:
                similar = sum(v * of_context[name] for v, name in zip(of_term, self.context_terms, strict=True))
                total += of_perturbation[term] * similar[places]
        return total

    def _of_contexts(self, a: Conditions, b: Conditions) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, ...]]:
        """Similarities of the different states of contexts, and the places of those of the conditions among them."""
        (of_a, row_a), (of_b, row_b) = _different_states(a), _different_states(b)
        found = {"all": np.ones((len(of_a), len(of_b)))}
        if self.median > 0:
            found["near"] = np.exp(-cdist(of_a, of_b) / self.median)
            found["linear"] = (of_a - self.centre) @ (of_b - self.centre).T / self.spread
        return found, np.ix_(row_a, row_b)


def _different_states(conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
    """States of the contexts and batches of conditions, ``[q, K]``, and the row of each condition; few of many."""
    code: dict[tuple[object, object], int] = {}
    pairs = zip(conditions.context, conditions.batch, strict=True)
    row = np.array([code.setdefault(pair, len(code)) for pair in pairs], dtype=int)
    states = np.empty((len(code), conditions.state.shape[1]))
    states[row] = conditions.state
    if np.array_equal(states[row], conditions.state):
        return states, row
    return conditions.state, np.arange(len(row))


def _part_codes(a: Sequence[tuple[str, ...]], b: Sequence[tuple[str, ...]]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of all parts, and their codes for two lists of conditions, ``[n, most parts]``; -1 where there is none."""
    code: dict[str, int] = {}
    width = max((len(parts) for parts in (*a, *b)), default=1)
    of_a, of_b = (np.full((len(each), width), -1) for each in (a, b))
    for table, each in ((of_a, a), (of_b, b)):
        for row, parts in enumerate(each):
            table[row, : len(parts)] = [code.setdefault(part, len(code)) for part in parts]
    return list(code), of_a, of_b


def _standardised(populations: Populations, vectors: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    """Vectors with the mean of the measured ones taken off, of squared length 1 on average; none if they are alike."""
    if not vectors:
        return {}
    measured = sorted({part for parts in populations.perturbation for part in parts} & set(vectors))
    if len(measured) < 3:
        return {}
    table = np.stack([np.asarray(vectors[name], dtype=float) for name in measured])
    centre = table.mean(axis=0)
    length = float(np.sqrt(np.square(table - centre).sum(axis=1).mean()))
    return {name: (np.asarray(vector) - centre) / length for name, vector in vectors.items()} if length > 0 else {}
