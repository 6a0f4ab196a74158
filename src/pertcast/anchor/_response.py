"""From weighted sources to the shift of each gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pertcast.anchor._weights import Weighting, source_weights

if TYPE_CHECKING:
    from pertcast.anchor._populations import Populations

__all__ = ["gene_features", "response", "share_of_expression"]

_FLOOR = 1e-3
"""Expression below which a gene counts as silent, in the units of the data."""

_TRUSTED = 0.1
"""Expression at which the share that a gene loses is half trusted for more expression than was measured."""

_VIEWS = (Weighting("uniform"), Weighting("kernel", 0.3), Weighting("ridge", 1.0))


def response(
    weights: np.ndarray, control: np.ndarray, sources: np.ndarray, shifts: np.ndarray, *, nonnegative: bool
) -> np.ndarray:
    """Shift of each gene, from the shifts of the sources.

    Increases are added. With non-negative data a decrease is a share of what is expressed, see
    :func:`share_of_expression`: a silent gene cannot fall.

    Parameters
    ----------
    weights
        Weights of the sources, ``[n]``.
    control
        Mean of the controls of the target, ``[G]``.
    sources
        Means of the controls of the sources, ``[n, G]``.
    shifts
        Shifts of the sources, ``[n, G]``.
    nonnegative
        Whether the data cannot be negative.

    Returns
    -------
    Shift, ``[G]``.

    Examples
    --------
    >>> response(np.ones(1), np.array([4.0, 4.0]), np.array([[2.0, 2.0]]), np.array([[-1.0, 1.0]]), nonnegative=True)
    array([-1.99651171,  1.        ])
    """
    shift = weights @ shifts
    if not nonnegative:
        return shift
    positive = np.maximum(weights, 0)  # an extrapolation has negative weights, of which no level can be made
    return share_of_expression(shift, control, positive @ sources / positive.sum())


def share_of_expression(shift: np.ndarray, control: np.ndarray, level: np.ndarray) -> np.ndarray:
    r"""Turn decreases into shares of what is expressed; increases stay.

    A gene that falls by d from the level b of the sources loses :math:`d / b` of what the target expresses. Where that
    is more than b, the share counts in full up to b and with the weight :math:`b^2 / (b^2 + 0.1^2)` beyond: what
    little a source expresses says little of a gene that marks the target.

    Parameters
    ----------
    shift
        Shift of sources, ``[G]``.
    control
        Mean of the controls of the target, ``[G]``.
    level
        Mean of the controls of the sources, ``[G]``.

    Returns
    -------
    Shift of the target, ``[G]``; not below minus the mean of its controls.

    Examples
    --------
    >>> share_of_expression(np.array([-1.0, 1.0]), np.array([4.0, 4.0]), np.array([1.999, 1.999]))
    array([-1.99750623,  1.        ])
    """
    before = level + _FLOOR
    reach = np.minimum(control, before) + np.maximum(control - before, 0) * before**2 / (before**2 + _TRUSTED**2)
    return np.where(shift < 0, reach * np.clip(shift / before, -1, 0), shift)


def gene_features(populations: Populations, rows: np.ndarray, state: np.ndarray, control: np.ndarray) -> np.ndarray:
    """What the sources say about each gene, ``[G, 12]``: the inputs of :class:`GeneCorrection`.

    The mean of the target's controls, and under three weightings (uniform, kernel, ridge) the shift, the sources'
    mean before and after, and for the first two the spread of the shift between sources.

    Parameters
    ----------
    populations
        Training populations.
    rows
        The n source populations.
    state
        State of the controls of the target, ``[S]``.
    control
        Mean of the controls of the target, ``[G]``.

    Returns
    -------
    The inputs, float64.

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
    >>> features = gene_features(populations, np.array([0, 1]), np.array([0.5]), np.array([2.0, 2.0]))
    >>> features.shape, features[0, :5].round(2).tolist()  # control; shift, before, after and spread, weighted alike
    ((2, 12), [2.0, 2.0, 2.0, 4.0, 1.0])
    """
    trust, group = populations.weight[rows], populations.group[rows]
    before, shifts = populations.control_mean[group], populations.shift[rows]
    columns = [control]
    for view in _VIEWS:
        weights = source_weights(populations.state[group], state, trust, view)
        positive = np.maximum(weights, 0) / np.maximum(weights, 0).sum()
        shift, source = weights @ shifts, positive @ before
        columns += [shift, source, source + positive @ shifts]
        if view.kind != "ridge":
            columns.append(np.sqrt(np.maximum(positive @ (shifts - shift) ** 2, 0)))
    return np.stack(columns, axis=1)
