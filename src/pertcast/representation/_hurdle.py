r"""Zeros of sparse expression: which cells express a gene, and how strongly those that do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.isotonic import IsotonicRegression

from pertcast.representation._order import ascending, descending_of_groups, race

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Hurdle"]

_MIN_ZEROS = 0.1
_MIN_VALUES = 5
_LEAST_SCALE = 0.5
_MAX_SPREAD = 1.5
_MIN_CONTROLS = 10
_BLOCK_VALUES = 2**18  # a block and its sorting keys fit the cache of a core


class Hurdle:
    r"""Gives predicted cells the zeros and the values that sparse expression has.

    A cell that starts from a control cell and is moved by a shift has a small positive value in every gene that rises,
    where measured cells have a zero or a whole count. This brings the means of a predicted population back into that
    form, gene by gene, and keeps its means and, among the cells that express a gene, their order:

    1. The share of expressing cells d follows the mean m. Over the genes of the controls, :math:`c(d) = \log(-\log(1 -
       d))`, which for Poisson counts is the log of the rate, is fitted by a monotone function F of :math:`\log m`. A
       gene keeps its own offset from that curve, the less the farther its mean moves:
       :math:`c(d') = F(\log m') + (c(d) - F(\log m)) \, e^{-|\log m' - \log m|}`.
    2. The d' of the cells express the gene, the others have 0. Those with at least a typical value, the mean of
       expressing control cells, come first; the rest is drawn among the others with probabilities in proportion to
       their predicted values (:func:`~pertcast.representation._order.race`). Were it the highest ones, then small
       differences between cells, which a shift of many genes has in common, would decide on all of their zeros, and
       genes would be correlated far more than in measured cells.
    3. Expressing cells get, in their order, values from the distribution of expressing control cells, raised or scaled
       down so that the mean is m'. Genes that few controls express share one distribution.

    Where less than one expressing cell is expected, one cell has the whole sum :math:`n m'` of the gene if that is at
    least half of a typical value, and half of a typical value with the probability that keeps the mean otherwise.
    Genes that most cells express, before and after, are only scaled to a mean that is given, and vary at most 1.5
    times as much as in the controls, of which there must be ten for that: measured populations seldom vary more, but a
    network may let abundant genes of an unseen cell type vary several times as much. Control cells themselves keep
    shares and means.

    Parameters
    ----------
    control
        Control cells, non-negative, ``[N, G]``.

    Raises
    ------
    ValueError
        If there are no controls, or a value is below 0.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> control = np.log1p(rng.poisson(0.2, size=(400, 50))).astype(np.float32)
    >>> moved = control + 0.1
    >>> cells = Hurdle(control).apply(moved, rng)
    >>> bool(abs(cells.mean() - moved.mean()) < 0.01), bool((cells == 0).mean() > 0.6)
    (True, True)
    """

    def __init__(self, control: np.ndarray) -> None:
        if not len(control):
            raise ValueError("`control` holds no cells. Give at least one, better hundreds.")
        _refuse_negative("control", control)
        n = len(control)
        self._mean = control.mean(axis=0, dtype=np.float64)
        self._spread = control.std(axis=0, dtype=np.float64) if n >= _MIN_CONTROLS else np.full(len(self._mean), np.inf)
        share = (control > 0).mean(axis=0)
        self.has_zeros = share < 1
        self._is_sparse = share <= 1 - _MIN_ZEROS
        self._n_values = (control > 0).sum(axis=0)
        self._start = np.cumsum(self._n_values) - self._n_values
        self._values = _positive_values(control)
        rare = np.sort(control[:, (share < 0.05)], axis=None)[::-1]
        rare = rare[rare > 0]
        self._pool = rare if len(rare) >= _MIN_VALUES else np.sort(control[control > 0])[::-1]
        self._typical = np.full(len(share), self._pool.mean() if len(self._pool) else 1.0)
        enough = self._n_values >= _MIN_VALUES
        self._typical[enough] = self._mean[enough] / share[enough]
        self._log_rate = _log_rate(np.clip(share, 0.5 / n, 1 - 0.5 / n))
        seen = (share > 0) & self.has_zeros
        self._curve = _fit_curve(self._mean[seen], self._log_rate[seen], n * share[seen] * (1 - share[seen]))
        self._offset = np.zeros(len(share))
        self._offset[seen] = self._log_rate[seen] - self._curve(np.log(self._mean[seen]))

    def expressing(self, mean: np.ndarray) -> np.ndarray:
        """Share of cells that express each gene at given means, ``[G]`` to ``[G]``; 0 where the mean is 0."""
        positive = mean > 0
        log_mean = np.log(np.where(positive, mean, 1.0))
        change = np.abs(log_mean - np.log(np.where(self._mean > 0, self._mean, 1.0)))
        rate = self._curve(log_mean) + self._offset * np.exp(-change)
        return np.where(positive, -np.expm1(-np.exp(np.minimum(rate, 5.0))), 0.0)

    def apply(self, cells: np.ndarray, rng: np.random.Generator, mean: np.ndarray | None = None) -> np.ndarray:
        """Give the cells of a population zeros and values as in sparse expression.

        Parameters
        ----------
        cells
            Predicted cells of one population, non-negative, ``[n, G]``.
        rng
            Breaks ties, draws values, and rounds numbers of cells up or down.
        mean
            Mean that the population is given, ``[G]``; that of the cells by default. Values below 0 count as 0.

        Returns
        -------
        float32 ``[n, G]``, a new array.

        Raises
        ------
        ValueError
            If a value of the cells is below 0.
        """
        _refuse_negative("cells", cells)
        if not len(self._pool):
            return np.array(cells, dtype=np.float32)
        target = np.maximum(cells.mean(axis=0, dtype=np.float64) if mean is None else mean, 0)
        share = self.expressing(target)
        genes = np.flatnonzero(self.has_zeros & (self._is_sparse | (share <= 1 - _MIN_ZEROS)))
        target, n_on = self._whole_cells(target, share, len(cells), rng)
        by_gene = np.array(cells.T, dtype=np.float32, order="C")
        dense = np.setdiff1d(np.arange(len(target)), genes)
        by_gene[dense] = _limit_spread(by_gene[dense], _MAX_SPREAD * self._spread[dense])
        if mean is not None:
            by_gene[dense] *= _ratio(target[dense], by_gene[dense].mean(axis=1, dtype=np.float64))[:, None]
        step = max(1, _BLOCK_VALUES // max(1, len(cells)))
        for first in range(0, len(genes), step):
            block = genes[first : first + step]
            by_gene[block] = self._restore(by_gene[block], target[block], n_on[block], block, rng)
        return np.ascontiguousarray(by_gene.T)

    def _whole_cells(
        self, mean: np.ndarray, share: np.ndarray, n: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Means and numbers of expressing cells among n, both ``[G]``: whole ones, with the same mean on average."""
        draw = rng.random(len(mean))
        n_on = np.floor(share * n + draw).astype(np.int64)
        few = share * n < 1
        least = _LEAST_SCALE * self._typical[few] / n
        n_on[few] = mean[few] > draw[few] * least
        mean = mean.copy()
        mean[few] = np.maximum(mean[few], least)
        return mean, n_on

    def _restore(
        self, cells: np.ndarray, mean: np.ndarray, n_on: np.ndarray, genes: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Expression of g genes, ``[g, n]``: each is expressed by ``n_on`` of n cells, which keep their order."""
        n_genes, n = cells.shape
        gene = np.repeat(np.arange(n_genes), n_on)
        rank = np.arange(len(gene)) - np.repeat(np.cumsum(n_on) - n_on, n_on)
        keys = race(cells, self._typical[genes].astype(np.float32), rng)
        cell = gene * n + ascending(keys, rng).ravel()[gene * n + (n - 1 - rank)]
        cell = cell[descending_of_groups(cells.ravel()[cell], gene)]
        values = self._quantiles((rank + rng.random(len(rank))) / n_on[gene], genes[gene])
        total = np.bincount(gene, weights=values, minlength=n_genes)
        scale = np.minimum(mean * n / np.maximum(total, 1e-12), 1)
        lacking = np.maximum(mean * n - total, 0) / np.maximum(n_on, 1)
        restored = np.zeros_like(cells)
        restored.ravel()[cell] = values * scale[gene] + lacking[gene]
        return restored

    def _quantiles(self, quantile: np.ndarray, genes: np.ndarray) -> np.ndarray:
        """Values of expressing control cells at quantiles from the top; rare genes share theirs."""
        count = self._n_values[genes]
        last = np.maximum(count - 1, 0)
        position = np.clip(quantile * count - 0.5, 0, last)
        low = position.astype(np.int64)
        part = position - low
        low += self._start[genes]
        high = np.minimum(low + 1, self._start[genes] + last)
        rare = np.flatnonzero(count < _MIN_VALUES)
        low[rare] = high[rare] = 0
        found = (1 - part) * self._values[low] + part * self._values[high]
        found[rare] = np.interp(quantile[rare], (np.arange(len(self._pool)) + 0.5) / len(self._pool), self._pool)
        return found


def _refuse_negative(name: str, cells: np.ndarray) -> None:
    """Raise if a value is below 0: zeros are then no sign that a gene is not expressed."""
    least = cells.min(initial=0)
    if least < 0:
        raise ValueError(
            f"`{name}` must hold no values below 0, but found {least:g}: there are no zeros to restore where "
            "expression can be negative. Give control cells that are log-normalised and not scaled, and predicted "
            "cells that are cut at 0, `np.maximum(cells, 0)`."
        )


def _positive_values(control: np.ndarray) -> np.ndarray:
    """Values above 0, gene by gene, those of a gene from the highest to the lowest."""
    descending = np.sort(control.T, axis=1)[:, ::-1]
    return descending[descending > 0]


def _limit_spread(cells: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Draw cells towards the mean of genes that vary more than limits ``[g]``; expression, not negative, ``[g, n]``."""
    spread = cells.std(axis=1, dtype=np.float64)
    wide = np.flatnonzero(spread > limit)
    mean = cells[wide].mean(axis=1, keepdims=True)
    part = (limit[wide] / spread[wide])[:, None]
    limited = cells.copy()
    limited[wide] = np.maximum(mean + part * (cells[wide] - mean), 0)
    return limited


def _ratio(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Factors from found to wanted means, float32; 1 where nothing is found."""
    return np.where(found > 0, wanted / np.maximum(found, 1e-12), 1).astype(np.float32)


def _log_rate(share: np.ndarray) -> np.ndarray:
    """Complementary log-log: the log of the rate of a Poisson variable that is above 0 with this probability."""
    return np.log(-np.log1p(-share))


def _fit_curve(mean: np.ndarray, log_rate: np.ndarray, weight: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Monotone function from the log of the mean to the log of the rate; below the data it has the slope 1."""
    if not len(mean):
        return lambda log_mean: log_mean
    x = np.log(mean)
    lowest, highest = float(x.min()), float(x.max())
    fit = IsotonicRegression(out_of_bounds="clip").fit(x, log_rate, sample_weight=np.sqrt(weight + 1))

    def curve(log_mean: np.ndarray) -> np.ndarray:
        beyond = np.minimum(log_mean - lowest, 0) + np.maximum(log_mean - highest, 0)
        return np.interp(log_mean, fit.X_thresholds_, fit.y_thresholds_) + beyond

    return curve
