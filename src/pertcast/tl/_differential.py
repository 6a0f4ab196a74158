"""Differential expression of a population against control cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.stats import false_discovery_control, mannwhitneyu

from pertcast.tl._matrix import as_cells, column_means, require_same_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pertcast.tl._matrix import Cells

__all__ = ["DEResult", "rank_genes"]

type Effect = Literal["log2_fold_change", "mean_difference"]

_BLOCK_VALUES = 2**19


@dataclass(frozen=True, eq=False)
class DEResult:
    """Differential expression of G genes, from :func:`rank_genes` or from the table of another tool.

    Parameters
    ----------
    p_value
        Two-sided p value of each gene, ``[G]``.
    p_adjusted
        The p values adjusted for testing many genes, ``[G]``.
    effect
        Effect size of each gene, ``[G]``: log2 fold change or difference of means. Above 0 if the perturbed cells
        express more; it may be infinite.

    Raises
    ------
    ValueError
        If these are not vectors of one length, a p value is not in [0, 1], or an effect is NaN.

    Examples
    --------
    >>> table = pd.DataFrame({"p_value": [0.01, 0.2], "fdr": [0.02, 0.2], "fold_change": [4.0, 1.0]})
    >>> result = DEResult(table["p_value"], table["fdr"], np.log2(table["fold_change"]))
    >>> result.significant().tolist()
    [True, False]
    """

    p_value: np.ndarray
    p_adjusted: np.ndarray
    effect: np.ndarray

    def __post_init__(self) -> None:
        for name in ("p_value", "p_adjusted", "effect"):
            values = np.array(getattr(self, name), dtype=np.float64)
            if values.ndim != 1 or values.shape != np.shape(self.effect):
                raise ValueError(
                    "`p_value`, `p_adjusted` and `effect` must be vectors with one value for each gene, but the shapes "
                    f"of `{name}` and `effect` are {values.shape} and {np.shape(self.effect)}."
                )
            wrong = np.isnan(values) if name == "effect" else ~((values >= 0) & (values <= 1))
            if wrong.any():
                gene, expected = int(wrong.argmax()), "a number" if name == "effect" else "0 to 1"
                raise ValueError(
                    f"`{name}` of gene {gene} is {values[gene]}; expected {expected}. Leave out genes that were not "
                    "tested."
                )
            object.__setattr__(self, name, values)

    def significant(self, fdr: float = 0.05) -> np.ndarray:
        """Which genes are significant: an adjusted p value below ``fdr``.

        Parameters
        ----------
        fdr
            False discovery rate.

        Returns
        -------
        Boolean ``[G]``.
        """
        return self.p_adjusted < fdr

    def to_frame(self, genes: Sequence[str] | pd.Index) -> pd.DataFrame:
        """Table with one row for each gene, the smallest p value first.

        Parameters
        ----------
        genes
            Names of the genes, ``[G]``.

        Returns
        -------
        Columns ``p_value``, ``p_adjusted`` and ``effect``; genes with equal p values by decreasing absolute effect.
        """
        columns = {"p_value": self.p_value, "p_adjusted": self.p_adjusted, "effect": self.effect}
        return pd.DataFrame(columns, index=pd.Index(genes)).iloc[np.lexsort((-np.abs(self.effect), self.p_value))]


def rank_genes(
    cells: Cells, control: Cells, *, effect: Effect = "log2_fold_change", pseudocount: float = 1e-9
) -> DEResult:
    """Test every gene for a difference between a population and control cells.

    The p value is that of the two-sided Mann-Whitney U test (Mann and Whitney, Ann. Math. Stat. 18:50, 1947; by the
    normal approximation, corrected for ties and continuity, with tied values sharing their mean rank), adjusted over
    the genes by the procedure of Benjamini and Hochberg (J. R. Stat. Soc. B 57:289, 1995). This is the test of
    cell-eval (Adduri et al., bioRxiv 2025.06.26.661135).

    Parameters
    ----------
    cells
        Predicted or measured perturbed cells ``[n, G]``, dense or sparse.
    control
        Control cells ``[m, G]``, dense or sparse.
    effect
        What to report as the effect. ``"log2_fold_change"``, for log1p-normalised expression, is ``log2((expm1(a) +
        pseudocount) / (expm1(b) + pseudocount))`` of the means a of the cells and b of the controls, as scanpy and
        cell-eval compute it. ``"mean_difference"`` is a - b, for data that may be negative, such as protein
        intensities.
    pseudocount
        Added to both sides of the fold change. The default only keeps it finite: a gene silent in one of the
        populations gets an extreme fold change. A larger one (0.01 to 1) moderates genes with few counts.

    Returns
    -------
    The result. A gene with the same value in all cells of both populations has a p value of 1.

    Raises
    ------
    ValueError
        If the columns differ in number, a value is not finite, a control value is negative where a fold change is
        asked for, or an argument is not valid.

    Notes
    -----
    The number of significant genes grows with the number of cells: compare populations of equal size, and report it.
    A predicted mean below 0 counts as 0 in the fold change.

    Cells that are copies of one point, or a mean, are no sample: their p values are far too small. Do not score point
    predictors by differential expression.

    Time is O((n + m) log(n + m) G); about 2^19 values are dense at once.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> control, cells = rng.poisson(1, (50, 3)), rng.poisson([1, 1, 4], (50, 3))
    >>> rank_genes(np.log1p(cells), np.log1p(control)).significant().tolist()
    [False, False, True]
    """
    if effect not in ("log2_fold_change", "mean_difference"):
        raise ValueError(f"`effect` must be 'log2_fold_change' or 'mean_difference', but found {effect!r}.")
    x, y = as_cells(cells, "cells"), as_cells(control, "control")
    require_same_columns(x, y, "`cells` and `control`")
    p_value = _mann_whitney(x, y)
    a, b = column_means(x), column_means(y)
    effects = _log2_fold_change(a, b, y, pseudocount) if effect == "log2_fold_change" else a - b
    return DEResult(p_value, false_discovery_control(p_value), effects)


def _mann_whitney(x: Any, y: Any) -> np.ndarray:
    """Two-sided p value of each gene, ``[G]``, a block of genes at a time."""
    x, y = (matrix.tocsc() if sp.issparse(matrix) else matrix for matrix in (x, y))
    n_genes = x.shape[1]
    p_value = np.empty(n_genes)
    step = max(1, _BLOCK_VALUES // (x.shape[0] + y.shape[0]))
    for start in range(0, n_genes, step):
        a, b = (
            block.toarray() if sp.issparse(block) else block
            for block in (x[:, start : start + step], y[:, start : start + step])
        )
        p_value[start : start + step] = mannwhitneyu(a, b, axis=0, method="asymptotic").pvalue
        constant = (a == a[0]).all(axis=0) & (b == a[0]).all(axis=0)
        p_value[start : start + step][constant] = 1  # all values are tied: the statistic has no variance
    return p_value


def _log2_fold_change(a: np.ndarray, b: np.ndarray, control: Any, pseudocount: float) -> np.ndarray:
    if not pseudocount > 0:
        raise ValueError(f"`pseudocount` must be above 0, but found {pseudocount}.")
    smallest = control.min()
    if smallest < 0:
        raise ValueError(
            f"`control` holds {smallest:.3g}, but a log2 fold change is that of log1p-normalised expression, which is "
            "never negative. Use effect='mean_difference'."
        )
    return np.log2((np.expm1(np.maximum(a, 0)) + pseudocount) / (np.expm1(b) + pseudocount))
