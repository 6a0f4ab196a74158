"""What the plots have in common: colours, axes, names and files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLORS", "EFFECT_CMAP", "finish", "get_axes", "kind_legend", "labels", "strip_frame"]

COLORS = {"control": "#8C8C8C", "observed": "#0072B2", "predicted": "#E69F00"}
"""Grey, blue and orange of Okabe and Ito, which people with colour blindness can tell apart."""

EFFECT_CMAP = "RdBu_r"
"""Colours of shifts: blue for a decrease, white for none, red for an increase."""

_LONGEST_LABEL = 30


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


def labels(names: Iterable[object]) -> list[str]:
    """Shorten long names for ticks: the beginning and the end are kept. Names that would become equal stay whole.

    Parameters
    ----------
    names
        Names of genes, perturbations, contexts or models.

    Examples
    --------
    >>> labels(["IFN-beta", "a very long name of a perturbation | 10"])
    ['IFN-beta', 'a very long name o...ion | 10']
    """
    whole = [str(name) for name in names]
    short = [f"{name[:18].rstrip()}...{name[-8:]}" if len(name) > _LONGEST_LABEL else name for name in whole]
    return [name if short.count(cut) > 1 else cut for name, cut in zip(whole, short, strict=True)]


def kind_legend(ax: Axes, *kinds: str, **kwargs: Any) -> None:
    """Add a legend of the fixed colours to the right of the axes.

    Parameters
    ----------
    ax
        Axes.
    *kinds
        Keys of :data:`COLORS`.
    **kwargs
        Arguments of :meth:`matplotlib.axes.Axes.legend` that replace the defaults.
    """
    for kind in kinds:
        ax.scatter([], [], s=30, color=COLORS[kind], label=kind)
    ax.legend(**{"loc": "upper left", "bbox_to_anchor": (1.02, 1.0), "borderaxespad": 0.0, "frameon": False} | kwargs)


def strip_frame(ax: Axes) -> None:
    """Hide the upper and the right border of the axes.

    Parameters
    ----------
    ax
        Axes.
    """
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def finish(ax: Axes, *, save: str | Path | None, show: bool) -> Axes:
    """Write the figure to a file and show it, if asked for.

    Parameters
    ----------
    ax
        Axes of the figure.
    save
        Name of the file; its ending says the format.
    show
        Whether to call :func:`matplotlib.pyplot.show`.
    """
    if save is not None:
        figure: Any = cast("Figure", ax.figure)
        figure.savefig(save, bbox_inches="tight", dpi=200)
    if show:
        from matplotlib import pyplot as plt

        plt.show()
    return ax
