"""Sizes of effects by perturbation and context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pertcast.pl._cells import gene_positions, label_of_controls, one_spelling
from pertcast.pl._style import COLORS, EFFECT_CMAP, finish, get_axes, labels
from pertcast.tl import delta_table

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["effect_heatmap"]

_MOST_NUMBERS = 120


def effect_heatmap(
    real: AnnData | None,
    predicted: AnnData | None,
    control: AnnData,
    *,
    groupby: str,
    perturbation_key: str = "perturbation",
    gene: str | None = None,
    annotate: bool | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    title: str | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot the effect of every perturbation in every context, and frame those that were predicted.

    The effect is the root mean square, over genes, of the shift of the mean, or the shift of one gene. A condition
    with measured cells shows these; one that was only predicted shows the prediction, in an orange frame; one with
    neither is blank. Perturbations with the largest effects are on top. Noise adds to a root mean square: an effect
    seen in few cells looks larger than it is.

    Parameters
    ----------
    real
        Measured cells; ``None`` for a map of predictions.
    predicted
        Predicted cells; ``None`` for a map of measured effects.
    control
        Control cells of all contexts.
    groupby
        Column of ``obs`` with the context, such as the cell type. Contexts are in the order of its categories in
        `control`, if it has some, else sorted.
    perturbation_key
        Column of ``obs`` with the perturbation. ``A+B`` and ``B+A`` are one.
    gene
        Gene whose shift is shown; by default the size of the shift over all genes.
    annotate
        Whether to write the numbers; by default where there are at most 120.
    ax
        Axes to draw on; a new figure by default.
    figsize
        Width and height of a new figure, in inches; by default as large as the map needs.
    title
        Title of the axes.
    show
        Whether to call :func:`matplotlib.pyplot.show`; notebooks show figures by themselves.
    save
        File to write the figure to.

    Returns
    -------
    The axes that were drawn on.

    Raises
    ------
    KeyError
        If a column does not exist.
    ValueError
        If there are no perturbed cells, the gene does not exist, or a context has no controls; see
        :func:`pertcast.tl.delta_table`.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(8, n_genes=40, n_cell_types=2, n_perturbations=2, combinations=0, seed=0)
    >>> control = adata[(adata.obs["perturbation"] == "control").to_numpy()]
    >>> ax = effect_heatmap(adata, None, control, groupby="cell_type")
    >>> [tick.get_text() for tick in ax.get_xticklabels()]
    ['type_0', 'type_1']
    """
    tables = [
        _effects(delta_table(cells, control=control, perturbation_key=perturbation_key, groupby=groupby),
                 gene, perturbation_key, groupby)
        for cells in (real, predicted) if cells is not None
    ]  # fmt: skip
    if not tables:
        raise ValueError("There is nothing to plot: give `real`, `predicted` or both.")
    spellings = one_spelling(
        (name for table in tables for name in table.index), label_of_controls(control, perturbation_key)
    )
    tables = [table.rename(index=spellings) for table in tables]
    values = tables[0] if len(tables) == 1 else tables[0].combine_first(tables[1])
    by_size = values.abs().mean(axis=1).sort_values(ascending=False, kind="stable").index
    values = values.loc[by_size, _in_order(control.obs[groupby], values.columns)]
    framed = values.notna() if real is None else values.notna() & tables[0].reindex_like(values).isna()

    ax = get_axes(ax, figsize or (3.0 + 0.55 * values.shape[1], 1.8 + 0.3 * values.shape[0]))
    numbers = values.to_numpy(float)
    limit = float(np.nanmax(np.abs(numbers))) or 1.0
    cmap, low = ("Greys", 0.0) if gene is None else (EFFECT_CMAP, -limit)
    image = ax.imshow(np.ma.masked_invalid(numbers), cmap=cmap, vmin=low, vmax=limit, aspect="auto")
    _frame(ax, framed.to_numpy())
    if annotate if annotate is not None else numbers.size <= _MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(numbers):
            if np.isfinite(value):
                color = "white" if abs(value) > 0.6 * limit else "black"
                ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize="x-small", color=color)
    contexts = labels(values.columns)
    slanted = max(map(len, contexts)) > 5
    ax.set_xticks(range(values.shape[1]), contexts, rotation=40 if slanted else 0,
                  ha="right" if slanted else "center", rotation_mode="anchor")  # fmt: skip
    ax.set_yticks(range(values.shape[0]), labels(values.index))
    ax.tick_params(length=0)
    ax.set_xlabel(groupby)
    ax.set_title(title or "", pad=20 if framed.to_numpy().any() else None)
    figure: Any = ax.figure
    figure.colorbar(
        image,
        ax=ax,
        label="shift (root mean square)" if gene is None else f"shift of {gene}",
        pad=0.02,
        shrink=min(1.0, 10 / len(values)),
    )
    return finish(ax, save=save, show=show)


def _effects(table: AnnData, gene: str | None, perturbation_key: str, groupby: str) -> pd.DataFrame:
    """Effects of a table of shifts: a row for each perturbation, a column for each context."""
    shift: Any = table.X
    effect = np.sqrt(np.square(shift).mean(axis=1)) if gene is None else shift[:, gene_positions(table, gene)[0]]
    obs: Any = table.obs
    keys = {"row": obs[perturbation_key].astype(str), "column": obs[groupby].astype(str), "effect": effect}
    return pd.DataFrame(keys).pivot(index="row", columns="column", values="effect")


def _in_order(column: Any, contexts: pd.Index) -> list[str]:
    """Contexts in the order of the categories of a column."""
    categories = [str(name) for name in column.cat.categories] if hasattr(column, "cat") else []
    return [*(name for name in categories if name in contexts), *contexts.difference(categories)]


def _frame(ax: Axes, marked: np.ndarray) -> None:
    """Draw an orange frame into the marked fields, and say what it means below the axes."""
    from matplotlib.patches import Rectangle

    for row, column in np.argwhere(marked):
        ax.add_patch(
            Rectangle((column - 0.44, row - 0.44), 0.88, 0.88, fill=False, edgecolor=COLORS["predicted"], linewidth=2)
        )
    if marked.any():
        handle = Rectangle((0, 0), 1, 1, fill=False, edgecolor=COLORS["predicted"], linewidth=2)
        ax.legend([handle], ["predicted"], loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0.2,
                  handlelength=1.2)  # fmt: skip
