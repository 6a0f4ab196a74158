"""A predicted and a measured population with all that metrics compare them by, each computed at most once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pertcast.tl._differential import rank_genes
from pertcast.tl._distances import PairwiseDistances, distance_matrix
from pertcast.tl._undefined import UndefinedMetric

if TYPE_CHECKING:
    from pertcast.tl._differential import DEResult, Effect

__all__ = ["MeasuredPopulation", "Pair"]


class MeasuredPopulation:
    """A measured population, its controls and the others of its context.

    Parameters
    ----------
    cells
        A sample of its cells, float32 ``[n, G]``.
    mean
        Mean of all its cells, ``[G]``.
    n_cells
        Number of all its cells.
    control
        Control cells, float32 ``[N, G]``.
    centroid
        Centroid of the perturbed training cells, ``[G]``, or why there is none.
    others
        Measured means of all perturbations of the context, ``[P, G]``.
    position
        Which of them is this one.
    targets
        Columns of the genes that the perturbation is named after.
    rng
        Source of the subsamples for differential expression.
    """

    def __init__(
        self,
        cells: np.ndarray,
        mean: np.ndarray,
        n_cells: int,
        *,
        control: np.ndarray,
        centroid: np.ndarray | str,
        others: np.ndarray,
        position: int,
        targets: np.ndarray,
        rng: np.random.Generator,
    ) -> None:
        self.cells, self.mean, self.n_cells, self.control = cells, mean, n_cells, control
        self.control_mean = control.mean(axis=0, dtype=np.float64)
        self.position, self.targets = position, targets
        self._centroid = centroid
        self.others = others.astype(np.float64)
        self.others[position] = mean
        self._order = rng.permutation(len(cells))
        self._results: dict[int, DEResult] = {}

    @property
    def centroid(self) -> np.ndarray:
        """Centroid of the perturbed training cells, ``[1, G]``.

        Raises
        ------
        UndefinedMetric
            If there is none.
        """
        if isinstance(self._centroid, str):
            raise UndefinedMetric(self._centroid)
        return self._centroid[None]

    @cached_property
    def effect(self) -> Effect:
        """What differential expression reports: a fold change, or a difference where values may be negative."""
        return "mean_difference" if min(self.cells.min(), self.control.min()) < 0 else "log2_fold_change"

    @cached_property
    def distances(self) -> np.ndarray:
        """Distances within the measured cells, ``[n, n]``."""
        return distance_matrix(self.cells)

    def matched(self, n_cells: int) -> np.ndarray:
        """Positions of a subsample of a given size."""
        return np.sort(self._order[:n_cells])

    def differential(self, n_cells: int) -> DEResult:
        """Differential expression of a subsample of a given size against the controls."""
        if n_cells not in self._results:
            self._results[n_cells] = rank_genes(self.cells[self.matched(n_cells)], self.control, effect=self.effect)
        return self._results[n_cells]


class Pair:
    """A prediction beside what was measured.

    Parameters
    ----------
    cells
        A sample of the predicted cells, float32 ``[n, G]``.
    mean
        Mean of all predicted cells, ``[G]``.
    real
        Measured population.
    rng
        Source of the subsample for differential expression.
    """

    def __init__(self, cells: np.ndarray, mean: np.ndarray, real: MeasuredPopulation, rng: np.random.Generator) -> None:
        self.cells, self.mean, self.real = cells, mean, real
        self._order = rng.permutation(len(cells))

    @cached_property
    def means(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predicted, measured and control mean, each ``[1, G]``."""
        return self.mean[None], self.real.mean[None], self.real.control_mean[None]

    @cached_property
    def distances(self) -> PairwiseDistances:
        """Distances within and between all sampled cells of both sides, for U-statistics."""
        return PairwiseDistances(
            distance_matrix(self.cells), self.real.distances, distance_matrix(self.cells, self.real.cells)
        )

    @property
    def n_matched(self) -> int:
        """Number of cells of each side where equal numbers are compared."""
        return min(len(self.cells), len(self.real.cells))

    @cached_property
    def _matched(self) -> tuple[np.ndarray, np.ndarray]:
        return np.sort(self._order[: self.n_matched]), self.real.matched(self.n_matched)

    @cached_property
    def matched_cells(self) -> tuple[np.ndarray, np.ndarray]:
        """Equal numbers of predicted and measured cells, for what depends on their number, each ``[n, G]``."""
        predicted, real = self._matched
        return self.cells[predicted], self.real.cells[real]

    @cached_property
    def matched_distances(self) -> PairwiseDistances:
        """Distances of equal numbers of predicted and measured cells, for V-statistics."""
        predicted, real = self._matched
        d = self.distances
        return PairwiseDistances(
            d.xx[np.ix_(predicted, predicted)], d.yy[np.ix_(real, real)], d.xy[np.ix_(predicted, real)]
        )

    @cached_property
    def differential(self) -> tuple[DEResult, DEResult]:
        """Differential expression of predicted and measured cells, at equal cell numbers, against the same controls.

        Raises
        ------
        UndefinedMetric
            If one side has fewer than 2 cells.
        """
        n = self.n_matched
        if n < 2:
            raise UndefinedMetric(f"Differential expression needs 2 cells of each side, but there is {n}.")
        predicted = rank_genes(self.cells[self._matched[0]], self.real.control, effect=self.real.effect)
        return predicted, self.real.differential(n)
