r"""How alike the responses to two dosages of the same perturbation are."""

from __future__ import annotations

import numpy as np

__all__ = ["DosageKernel"]

_N_CURVES = 8


class DosageKernel:
    r"""Similarities of dosages.

    Parameters
    ----------
    dosage
        Dosages of the training conditions, ``[n]``. If all are equal, all similarities are 1.

    Examples
    --------
    >>> kernel = DosageKernel(np.array([0.1, 1.0, 10.0]))
    >>> kernel.of_curves(np.array([0.0, 0.1, 10.0, 99.0]), np.array([10.0]))[:, 0].round(2)
    array([0.  , 0.19, 1.  , 1.12])
    """

    def __init__(self, dosage: np.ndarray) -> None:
        values = np.unique(np.asarray(dosage, dtype=float))
        positive = values[values > 0]
        self.several = len(values) > 1 and len(positive) > 0
        self.offset = float(positive[0] / 2) if self.several else 0.0
        self.limits = float(values[0]), float(values[-1])
        edges = np.geomspace(positive[0], values[-1], 2 * _N_CURVES + 1) if self.several else np.zeros(0)
        self.half = edges[1::2]

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Difference of logarithms, to which half the smallest positive dosage is added, ``[n_a, n_b]``.

        Beyond the dosages of training it is that to the last one.

        Parameters
        ----------
        a, b
            Dosages, ``[n_a]`` and ``[n_b]``.
        """
        log_a, log_b = (np.log(np.clip(each, *self.limits) + self.offset) for each in (a, b))
        return np.abs(log_a[:, None] - log_b[None])

    def near(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        r"""Similarity that falls with the distance d as :math:`\exp(-d^2 / 2)`, ``[n_a, n_b]``.

        Parameters
        ----------
        a, b
            Dosages, ``[n_a]`` and ``[n_b]``.
        """
        return np.exp(-0.5 * np.square(self.distance(a, b))) if self.several else np.ones((len(a), len(b)))

    def of_curves(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        r"""Similarity of the responses on dose-response curves of unknown half-maximal dosage, ``[n_a, n_b]``.

        The response at dosage u is :math:`u / (u + c)` times one shift, a curve that rises from 0 and saturates. The
        half-maximal dosage c may be anything in the range of training: the similarity is the mean of
        :math:`h_c(a) h_c(b)` over eight values of c, evenly spaced on the scale of logarithms, divided by
        that of the largest dosage with itself. Beyond that one the curves go on to their plateaus.

        Parameters
        ----------
        a, b
            Dosages, ``[n_a]`` and ``[n_b]``.

        References
        ----------
        Hill (1910), The possible effects of the aggregation of the molecules of haemoglobin on its dissociation curves,
        J. Physiol. 40.
        """
        if not self.several:
            return np.ones((len(a), len(b)))
        curve_a, curve_b, top = (
            (positive := np.maximum(each, 0)[:, None]) / (positive + self.half)
            for each in (a, b, np.array(self.limits[1:]))
        )
        return curve_a @ curve_b.T / (top @ top.T)
