"""What a metric is to the evaluator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from pertcast.tl._pair import Pair

__all__ = ["Direction", "Metric", "MetricGroup"]

Direction = Literal["higher", "lower", "one", "zero"]
MetricGroup = Literal["shift", "ranking", "distribution", "de"]


@dataclass(frozen=True)
class Metric:
    """A metric of the evaluator.

    Parameters
    ----------
    name
        Name in the table.
    group
        ``"shift"`` and ``"ranking"`` compare means, ``"distribution"`` and ``"de"`` cells.
    function
        Computes it; raises :class:`~pertcast.tl._undefined.UndefinedMetric` with the reason where it is not defined.
    direction
        Whether higher or lower values are better, or those close to 1 or 0.
    depends_on_size
        Whether its expectation depends on the numbers of cells, so that it cannot be compared with the noise ceiling,
        which has half of them.
    description
        Definition with reference, kernel, exponent, estimator and space.
    """

    name: str
    group: MetricGroup
    function: Callable[[Pair], float]
    direction: Direction
    description: str
    depends_on_size: bool = False

    @property
    def accepts_points(self) -> bool:
        """Whether a point prediction, which has a mean but no distribution, can be scored."""
        return self.group in ("shift", "ranking")

    def loss(self, values: np.ndarray) -> np.ndarray:
        """Values turned so that lower is better: negated, as they are, or the distance from 1 (in logs) or 0."""
        if self.direction == "higher":
            return -values
        if self.direction == "lower":
            return values
        if self.direction == "zero":
            return np.abs(values)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.abs(np.log(values))
