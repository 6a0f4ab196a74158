r"""Weights of source populations, from how alike their controls are to those of the target."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

__all__ = ["WEIGHTINGS", "Weighting", "source_weights"]

_ROUNDING = 1e-12
"""Spread of states that are the same, as a share of their mean square."""


class Weighting(NamedTuple):
    """One way to weight sources.

    Examples
    --------
    >>> states, trust = np.array([[0.0], [1.0]]), np.array([3.0, 1.0])
    >>> source_weights(states, np.array([0.0]), trust, Weighting("uniform")).tolist()
    [0.75, 0.25]
    """

    kind: Literal["uniform", "kernel", "ridge"]
    scale: float = 0.0


WEIGHTINGS = (
    Weighting("uniform"),
    Weighting("kernel", 0.2),
    Weighting("kernel", 0.3),
    Weighting("kernel", 1.0),
    Weighting("ridge", 0.3),
    Weighting("ridge", 1.0),
    Weighting("ridge", 3.0),
    Weighting("ridge", 10.0),
)
"""The candidates among which an anchor chooses."""


def source_weights(states: np.ndarray, state: np.ndarray, trust: np.ndarray, weighting: Weighting) -> np.ndarray:
    r"""Weights of n sources; they sum to 1.

    With trust :math:`u_j` (normalised to sum 1) and distances :math:`d_j` between states of controls:

    * uniform: :math:`w_j = u_j`;
    * kernel: :math:`w_j \propto u_j \exp(-d_j / (a \, \mathrm{median}\, d))`;
    * ridge: the weights that ridge regression of the shift on the state puts on its data. With states centred at
      their mean under u, :math:`K` their inner products and :math:`s = \sum_j u_j K_{jj}`,
      :math:`\alpha = (K + a s \, \mathrm{diag}(\bar u / u))^{-1} k` and :math:`w = u + \alpha - u \sum_j \alpha_j`.
      These may be negative: the regression extrapolates.

    Parameters
    ----------
    states
        States of the controls of the sources, ``[n, S]``.
    state
        State of the controls of the target, ``[S]``.
    trust
        Trust in each source, positive, ``[n]``.
    weighting
        Kind and scale ``a``.

    Returns
    -------
    Weights, ``[n]``.

    Examples
    --------
    >>> states = np.array([[0.0], [2.0]])
    >>> source_weights(states, np.array([1.0]), np.ones(2), Weighting("kernel", 0.3)).tolist()
    [0.5, 0.5]
    """
    uniform = trust / trust.sum()
    if weighting.kind == "uniform" or len(trust) == 1:
        return uniform
    if weighting.kind == "kernel":
        distance = np.linalg.norm(states - state, axis=1)
        middle = np.median(distance)
        beyond = distance - distance.min()
        weights = trust * (np.exp(-beyond / (weighting.scale * middle)) if middle > 0 else beyond <= 0)
        return weights / weights.sum()
    centre = uniform @ states
    centred = states - centre
    inner = centred @ centred.T
    spread = uniform @ np.diag(inner)
    if spread <= _ROUNDING * (uniform @ np.square(states).sum(axis=1)):
        return uniform
    noise = weighting.scale * spread * trust.mean() / trust
    alpha = np.linalg.solve(inner + np.diag(noise), centred @ (state - centre))
    return uniform + alpha  # alpha sums to 0: uniform @ centred is 0
