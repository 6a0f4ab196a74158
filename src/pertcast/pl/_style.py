"""What the plots have in common: colours, axes, checks and files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import scipy.sparse as sp
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLORS", "expression", "get_axes", "require_same_genes", "save_figure"]

COLORS = {"control": "#8C8C8C", "observed": "#0072B2", "predicted": "#E69F00"}
"""Grey, blue and orange of Okabe and Ito, which people with colour blindness can tell apart."""


def get_axes(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    """Return the axes, or those of a new figure.

    Parameters
    ----------
    ax
        Axes of the user, or ``None``.
    figsize
        Width and height of a new figure, in inches.
    """
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=figsize, layout="constrained")[1]


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
    ValueError
        If there are no cells or no expression.
    """
    if layer is not None and layer not in adata.layers:
        raise KeyError(f"No layer {layer!r} in `{name}`.")
    X = adata.X if layer is None else adata.layers[layer]
    if X is None or not adata.n_obs:
        raise ValueError(f"`{name}` holds {adata.n_obs} cells and {'no' if X is None else 'an'} expression matrix.")
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


def save_figure(ax: Axes, save: str | Path | None) -> None:
    """Write the figure to a file, if one is named.

    Parameters
    ----------
    ax
        Axes of the figure.
    save
        Name of the file; its ending says the format.
    """
    if save is not None:
        figure: Any = cast("Figure", ax.figure)
        figure.savefig(save, bbox_inches="tight", dpi=200)
