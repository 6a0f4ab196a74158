"""Reading the cells that a plot shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import scipy.sparse as sp

from pertcast.data._grammar import canonical_name, parse_perturbation
from pertcast.data._messages import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from anndata import AnnData

__all__ = [
    "dense",
    "expression",
    "gene_positions",
    "largest",
    "obs_column",
    "label_of_controls",
    "one_spelling",
    "require_same_genes",
    "subsample",
]


def expression(adata: AnnData, layer: str | None, name: str) -> np.ndarray | sp.csr_matrix:
    """Return the expression of an AnnData that has cells.

    Parameters
    ----------
    adata
        Cells.
    layer
        Key of ``layers``; ``X`` by default.
    name
        What messages call the AnnData.

    Raises
    ------
    KeyError
        If there is no such layer.
    TypeError
        If the expression is not in memory.
    ValueError
        If there are no cells or no expression.
    """
    if layer is not None and layer not in adata.layers:
        raise KeyError(f"No layer {layer!r} in `{name}`.")
    X = adata.X if layer is None else adata.layers[layer]
    if X is None or not adata.n_obs:
        raise ValueError(f"`{name}` holds {adata.n_obs} cells and {'no' if X is None else 'an'} expression matrix.")
    if not (isinstance(X, np.ndarray) or sp.issparse(X)):
        raise TypeError(
            f"The expression of `{name}` must be in memory, but it is a {type(X).__name__}. Load it first: "
            f"`{name} = {name}.to_memory()`."
        )
    return cast("np.ndarray", X)


def require_same_genes(**cells: AnnData) -> None:
    """Raise unless all AnnData have the same genes in the same order.

    Parameters
    ----------
    **cells
        AnnData by the names of the arguments.

    Raises
    ------
    ValueError
        Naming the first that differs.
    """
    first, *others = cells
    for other in others:
        if not cells[other].var_names.equals(cells[first].var_names):
            raise ValueError(
                f"`{other}` does not have the genes of `{first}` in the same order. Select them: "
                f"`{other} = {other}[:, {first}.var_names]`."
            )


def obs_column(adata: AnnData, key: str, name: str) -> pd.Series:
    """Return a column of ``obs`` as strings.

    Parameters
    ----------
    adata
        Cells.
    key
        Column.
    name
        What messages call the AnnData.

    Raises
    ------
    KeyError
        If there is no such column; the message lists those that exist.
    """
    obs: Any = adata.obs
    if key not in obs:
        columns = ", ".join(repr(str(column)) for column in obs.columns)
        raise KeyError(f"No column {key!r} in `{name}.obs`, which has {columns or 'no columns'}.")
    return obs[key].astype(str)


def one_spelling(labels: Iterable[str], control: str = "control") -> dict[str, str]:
    """Map labels to names: the spellings of a combination to its canonical name, all others to themselves.

    Parameters
    ----------
    labels
        Labels of a column, perturbations or others.
    control
        Label of unperturbed cells.

    Examples
    --------
    >>> one_spelling(["B+A", "A+B", "T+NK doublet", "CD8+"])
    {'A+B': 'A+B', 'B+A': 'A+B', 'CD8+': 'CD8+', 'T+NK doublet': 'T+NK doublet'}
    """
    spellings: dict[str, list[str]] = {}
    for label in sorted(set(labels)):
        try:
            name = canonical_name(parse_perturbation(label, control), control)
        except ValueError:  # no perturbation
            name = label
        spellings.setdefault(name, []).append(label)
    return {label: name if len(found) > 1 else label for name, found in spellings.items() for label in found}


def label_of_controls(control: AnnData, key: str | None) -> str:
    """Label of the control cells in a column, if they have one there; else ``control``.

    Parameters
    ----------
    control
        Control cells.
    key
        Column of ``obs``.
    """
    obs: Any = control.obs
    found = obs[key].astype(str).unique() if key in obs else []
    return str(found[0]) if len(found) == 1 else "control"


def gene_positions(adata: AnnData, genes: str | Sequence[str]) -> np.ndarray:
    """Return the positions of genes.

    Parameters
    ----------
    adata
        Cells.
    genes
        Names of genes.

    Raises
    ------
    ValueError
        If a gene does not exist, or none is named.
    """
    names = [genes] if isinstance(genes, str) else list(genes)
    known = [str(name) for name in adata.var_names]
    for name in names:
        if name not in known:
            raise ValueError(f"No gene {name!r} among the {len(known)} genes.{did_you_mean(name, known)}")
    if not names:
        raise ValueError("`genes` is empty. Name at least one gene.")
    return np.array([known.index(name) for name in names])


def largest(values: np.ndarray, n: int) -> np.ndarray:
    """Return the positions of the largest absolute values, the largest first.

    Parameters
    ----------
    values
        One value for each gene, ``[G]``.
    n
        How many.

    Examples
    --------
    >>> largest(np.array([0.0, -3.0, 2.0]), 2).tolist()
    [1, 2]
    """
    return np.argsort(-np.abs(values), kind="stable")[:n]


def dense(X: Any) -> np.ndarray:
    """Return a matrix as a dense float64 array.

    Parameters
    ----------
    X
        Matrix, dense or sparse.
    """
    return (X.toarray() if sp.issparse(X) else np.asarray(X)).astype(np.float64)


def subsample(X: Any, max_cells: int, rng: np.random.Generator) -> Any:
    """Return at most ``max_cells`` rows of a matrix, in their order.

    Parameters
    ----------
    X
        Matrix, dense or sparse.
    max_cells
        Largest number of rows.
    rng
        Source of the choice.
    """
    return X if X.shape[0] <= max_cells else X[np.sort(rng.choice(X.shape[0], max_cells, replace=False))]
