"""Genes that vary together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from pertcast.network._edges import read_edges

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["coexpression"]

_BLOCK_VALUES = 2**23
_ROUNDING = 1e-10
"""Variance, as a share of the mean square, that cannot be told from rounding."""


def coexpression(
    X: Any, genes: Sequence[str], *, n_edges: int = 10, groups: np.ndarray | None = None, min_correlation: float = 0.1
) -> pd.DataFrame:
    """Join each gene to the genes that correlate with it most, by absolute Pearson correlation over cells.

    Correlations are computed for a block of genes at a time, and sparse data stay sparse: the memory is that of 2^23
    correlations and of a few copies of the data in float64. Genes whose standard deviation is less than a
    hundred-thousandth of their size are constant and have no edges.

    Parameters
    ----------
    X
        Cells, dense or sparse ``[n, G]``.
    genes
        Names of the G genes.
    n_edges
        Edges from each gene; fewer where fewer correlate enough.
    groups
        Group of each cell, whole numbers ``[n]``. Correlations are those within groups, so that what tells cell types
        apart makes no edges. By default all cells are one group.
    min_correlation
        Smallest absolute correlation of an edge.

    Returns
    -------
    Table with the columns ``source``, ``target`` and ``weight``, the correlation. Of equal correlations that with the
    gene whose name comes first is kept, so the order of genes does not matter.

    Raises
    ------
    ValueError
        If there are fewer than 3 cells, or no two genes correlate enough.

    Examples
    --------
    >>> x = np.array([[0.0, 1.0, 0.0], [1.0, 3.0, 1.0], [2.0, 5.0, 0.0], [3.0, 7.0, 1.0]])
    >>> coexpression(x, ["A", "B", "C"], n_edges=1)["weight"].round(2).tolist()
    [1.0, 1.0, 0.45]
    """
    n, n_genes = X.shape
    if n < 3:
        raise ValueError(f"Co-expression needs at least 3 cells, but found {n}. Pass `network=None` to do without.")
    names = np.asarray(genes, dtype=object).astype(str)
    by_name = np.argsort(names, kind="stable")
    values = (sp.csc_array(X) if sp.issparse(X) else np.asarray(X))[:, by_name].astype(np.float64)
    _, code = np.unique(np.zeros(n) if groups is None else groups, return_inverse=True)
    member = sp.csr_array((np.ones(n), (code, np.arange(n))), shape=(code.max() + 1, n))
    size = np.asarray(member.sum(1)).ravel()
    mean = _dense(member @ values) / size[:, None]
    squares = np.asarray((values * values).sum(0)).ravel()
    variance = squares - size @ mean**2
    usable = variance > _ROUNDING * squares
    scale = np.where(usable, 1 / np.sqrt(np.where(usable, variance, 1)), 0.0)

    n_kept = min(n_edges, n_genes - 1)
    step, tables = max(1, _BLOCK_VALUES // n_genes), []
    for first in range(0, n_genes, step):
        block = slice(first, first + step)
        products = _dense(values[:, block].T @ values) - (mean[:, block] * size[:, None]).T @ mean
        correlation = np.clip(products * scale[block, None] * scale, -1, 1)
        rows = np.arange(len(correlation))
        correlation[rows, rows + first] = 0
        strength = np.abs(correlation).round(9)
        top = np.argsort(-strength, axis=1, kind="stable")[:, :n_kept]
        row = np.repeat(rows, n_kept)
        kept = strength[row, top.ravel()] >= min_correlation
        row, column = row[kept], top.ravel()[kept]
        ends = {"source": names[by_name[row + first]], "target": names[by_name[column]]}
        tables.append(pd.DataFrame({**ends, "weight": correlation[row, column]}))
    edges = pd.concat(tables)
    if edges.empty:
        raise ValueError(
            f"No two genes have an absolute correlation of {min_correlation:g} or more over {n} control cells. Pass "
            "another network, or `network=None` to do without."
        )
    return read_edges(edges)


def _dense(values: Any) -> np.ndarray:
    return np.asarray(values.toarray() if sp.issparse(values) else values)
