"""What Doloris must know of the training data before the first step: levels of genes, and the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from pertcast.data import gather_rows
from pertcast.model._statistics import training_cells
from pertcast.network import DATABASES, coexpression, index_edges, load_database, read_edges, shuffle_edges
from pertcast.representation import principal_components

if TYPE_CHECKING:
    from pertcast.data import Screen, ShiftTable
    from pertcast.module import DolorisModule

__all__ = ["make_network", "set_genes", "set_levels"]

_MAX_CONDITIONS = 2000
_MAX_CELLS = 20_000
_BLOCK = 2048
_PSEUDO_CELLS = 2


def make_network(network: Any, screen: Screen, conditions: np.ndarray, *, seed: int) -> pd.DataFrame | None:
    """Table of edges, as the argument ``network`` of the model asks for.

    Parameters
    ----------
    network
        Table of edges, name of a kind of network, or None.
    screen
        Registered screen.
    conditions
        Training conditions; co-expression is that of their controls.
    seed
        Seed of the choice of cells, where there are many, and of shuffling.

    Raises
    ------
    ImportError
        If a database is asked for, and decoupler is not installed.
    ValueError
        If the name is unknown, or there are no edges.
    """
    if network is None:
        return None
    if isinstance(network, pd.DataFrame):
        return read_edges(network)
    if network in DATABASES:
        return load_database(network)
    groups = screen.controls.groups.select(np.unique(screen.controls.group[conditions]))
    rows, first = np.unique(groups.all_rows(), return_index=True)
    group = np.repeat(np.arange(len(groups)), groups.sizes)[first]
    if len(rows) > _MAX_CELLS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(rows), _MAX_CELLS, replace=False))
        rows, group = rows[chosen], group[chosen]
    edges = coexpression(screen.X[rows], list(screen.metadata.var_names), groups=group)
    return shuffle_edges(edges, seed) if network == "shuffled" else edges


@torch.no_grad()
def set_genes(module: DolorisModule, screen: Screen, table: ShiftTable, edges: pd.DataFrame | None) -> None:
    """Set the network of genes, their embeddings, and which perturbations are genes.

    Embeddings are the loadings of genes on the principal components of the training pseudobulks, in units of their
    typical size.

    Parameters
    ----------
    module
        Module to set.
    screen
        Registered screen.
    table
        Shifts of the training conditions.
    edges
        Table of edges; None for no network.
    """
    genes = [str(name) for name in screen.metadata.var_names]
    place = pd.Index(genes)
    of_part = torch.from_numpy(place.get_indexer(pd.Index(list(screen.vocabulary.names))).astype(np.int64))
    index = np.zeros((2, 0), dtype=np.int64) if edges is None else index_edges(edges, genes)
    pseudobulks = np.concatenate([table.control_mean + table.shift, table.group_mean])
    components = principal_components(pseudobulks, module.config.n_gene_features)
    loadings = components.axes * np.sqrt(components.variance)
    embedding = torch.from_numpy(loadings / max(float(np.sqrt(np.square(loadings).mean())), 1e-12))
    networks: tuple[Any, Any] = (module.network, module.average.network)
    for network in networks:
        network["condition"].genes.fit(torch.from_numpy(index), embedding)
        network["condition"].set_genes(of_part)


def set_levels(module: DolorisModule, screen: Screen, conditions: np.ndarray, *, seed: int) -> None:
    """Tell the module the level of each gene, and how often it is expressed: statistics of populations.

    Parameters
    ----------
    module
        Module to set.
    screen
        Registered screen.
    conditions
        Training conditions; where there are more than 2,000, the rates of so many are kept.
    seed
        Seed of the choice of conditions and cells, where there are many.
    """
    rng = np.random.default_rng(seed)
    cells = training_cells(screen, conditions, seed=seed)
    count, total, square = (np.zeros(cells.shape[1]) for _ in range(3))
    for first in range(0, cells.shape[0], _BLOCK):
        block = gather_rows(cells, np.arange(first, min(first + _BLOCK, cells.shape[0]))).astype(np.float64)
        count += (block > 0).sum(0)
        total += block.sum(0)
        square += np.square(block).sum(0)
    n = count if module.masked else np.full_like(count, cells.shape[0])
    level = total / np.maximum(n, 1)
    variance = np.maximum(square / np.maximum(n, 1) - level**2, 0)
    level, variance = (  # genes that few cells express are taken for typical ones
        (each * n + _PSEUDO_CELLS * np.average(each, weights=n)) / (n + _PSEUDO_CELLS) for each in (level, variance)
    )
    kept = conditions
    if len(kept) > _MAX_CONDITIONS:
        kept = np.sort(rng.choice(kept, _MAX_CONDITIONS, replace=False))
    rates = np.zeros((len(kept) if module.masked else 0, len(count)), dtype=np.float16)
    for row, condition in enumerate(kept[: len(rates)]):
        rates[row] = (gather_rows(screen.X, screen.index.groups.rows(condition)) > 0).mean(0)
    frequency = count / cells.shape[0]
    module.fit_levels(*map(torch.as_tensor, (level, variance, frequency, rates)))
