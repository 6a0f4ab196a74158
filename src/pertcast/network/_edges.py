"""Tables of edges: checks, and from names of genes to their places in the data."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["index_edges", "read_edges"]

logger = logging.getLogger(__name__)


def read_edges(edges: pd.DataFrame) -> pd.DataFrame:
    """Check a table of edges, and bring it into one form.

    Parameters
    ----------
    edges
        A row for each edge: names of genes in ``source`` and ``target``, and optionally a number in ``weight``, 1 by
        default. Other columns are left out.

    Returns
    -------
    New table with these three columns, without edges from a gene to itself. Of edges that are listed several times
    the one with the largest absolute weight is kept.

    Raises
    ------
    TypeError
        If ``edges`` is no data frame.
    ValueError
        If a column or a name is missing, a weight is no finite number, or no edge is left.

    Examples
    --------
    >>> read_edges(pd.DataFrame({"source": ["A", "A"], "target": ["B", "A"]})).values.tolist()
    [['A', 'B', 1.0]]
    """
    if not isinstance(edges, pd.DataFrame):
        raise TypeError(
            "A network is a data frame with the columns 'source', 'target' and optionally 'weight', but found a "
            f"{type(edges).__name__}."
        )
    for column in ("source", "target"):
        if column not in edges:
            raise ValueError(f"The network has no column {column!r}; its columns are {list(edges.columns)}.")
        if edges[column].isna().any():
            raise ValueError(f"{int(edges[column].isna().sum())} edges of the network have no name in {column!r}.")
    weight = edges["weight"] if "weight" in edges else pd.Series(1.0, index=edges.index)
    numbers = pd.to_numeric(weight, errors="coerce").to_numpy(dtype=float)
    if not np.isfinite(numbers).all():
        wrong = weight[~np.isfinite(numbers)].iloc[0]
        raise ValueError(f"Weights of edges must be finite numbers, but found {wrong!r} in the column 'weight'.")
    table = pd.DataFrame(
        {
            "source": edges["source"].astype(str).to_numpy(),
            "target": edges["target"].astype(str).to_numpy(),
            "weight": numbers,
        }
    )
    table = table[table["source"] != table["target"]]
    table = table.iloc[np.argsort(-table["weight"].abs().to_numpy(), kind="stable")]
    table = table.drop_duplicates(["source", "target"]).sort_values(["source", "target"], ignore_index=True)
    if table.empty:
        raise ValueError("The network has no edge between two genes. Pass `network=None` to do without one.")
    return table


def index_edges(edges: pd.DataFrame, genes: Sequence[str]) -> np.ndarray:
    """Look up the genes of edges; edges of other genes are left out, and their number is logged.

    Parameters
    ----------
    edges
        Table as :func:`read_edges` returns it.
    genes
        Names of the G genes of the data.

    Returns
    -------
    Places of source and target of each edge, int64 ``[2, E]``.

    Raises
    ------
    ValueError
        If no edge joins two genes of the data.

    Examples
    --------
    >>> edges = pd.DataFrame({"source": ["A", "B"], "target": ["B", "X"], "weight": [1.0, 1.0]})
    >>> index_edges(edges, ["B", "A"]).tolist()
    [[1], [0]]
    """
    place = pd.Index(np.asarray(genes, dtype=object))
    found = np.stack([place.get_indexer(pd.Index(edges[end])) for end in ("source", "target")])
    known = (found >= 0).all(0)
    if not known.any():
        raise ValueError(
            f"None of the {len(edges)} edges of the network joins two genes of the data. Its genes are named like "
            f"{edges['source'].iloc[0]!r}, those of the data like {str(genes[0])!r}."
        )
    if not known.all():
        logger.info("%d of %d edges of the network name genes that the data lack.", int((~known).sum()), len(known))
    return found[:, known].astype(np.int64)
