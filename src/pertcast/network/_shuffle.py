"""A network that joins the wrong genes, to see what the right ones are worth."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pertcast.network._edges import read_edges

__all__ = ["shuffle_edges"]


def shuffle_edges(edges: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Deal the names of the genes of a network out anew.

    The graph keeps its shape, with every degree, cycle and weight; which gene is where is random. A model that does as
    well with the shuffled network does not use what the network says about genes.

    Parameters
    ----------
    edges
        Columns ``source``, ``target`` and optionally ``weight``.
    seed
        Seed of the new order.

    Returns
    -------
    Table with the columns ``source``, ``target`` and ``weight``.

    Raises
    ------
    TypeError, ValueError
        As :func:`read_edges`.

    Examples
    --------
    >>> edges = pd.DataFrame({"source": ["A", "A", "A"], "target": ["B", "C", "D"]})
    >>> shuffled = shuffle_edges(edges, seed=1)
    >>> sorted({*shuffled["source"], *shuffled["target"]}), shuffled["source"].nunique()
    (['A', 'B', 'C', 'D'], 1)
    """
    table = read_edges(edges)
    names = np.unique(table[["source", "target"]].to_numpy(dtype=object).astype(str))
    renamed = pd.Series(np.random.default_rng(seed).permutation(names), index=names)
    table["source"], table["target"] = (renamed[table[end]].to_numpy() for end in ("source", "target"))
    return table.sort_values(["source", "target"], ignore_index=True)
