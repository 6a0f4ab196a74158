"""Losses over the epochs of training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.data._messages import shorten
from pertcast.pl._style import COLORS, finish, get_axes, strip_frame

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["training_history"]


def training_history(
    history: Mapping[str, pd.DataFrame] | Any,
    metric: str = "loss",
    *,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (5.0, 3.2),
    title: str | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot a loss on training and validation sets, epoch by epoch, and mark the lowest on validation sets.

    The two lines of PerturbDiff are not of one kind and need not meet: the anchor of a training set is the measured
    shift, that of a validation set its forecast.

    Parameters
    ----------
    history
        Trained model, or its ``history``.
    metric
        ``"loss"``, or another metric that was logged, such as ``"energy"``.
    ax
        Axes to draw on; a new figure by default.
    figsize
        Width and height of a new figure, in inches.
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
    ValueError
        If nothing was logged, as for a model that is not trained or was trained with ``logger=False``, or not this
        metric.

    Examples
    --------
    >>> import pandas as pd
    >>> losses = {"train_loss": [3.0, 2.0], "validation_loss": [3.0, 2.5]}
    >>> history = {name: pd.DataFrame({name: values}) for name, values in losses.items()}
    >>> [line.get_label() for line in training_history(history).get_lines()]
    ['training', 'validation']
    """
    from matplotlib.ticker import MaxNLocator

    found: Any = getattr(history, "history", history)
    if found is None:
        raise ValueError("There is no history: train the model first. Baselines have none.")
    if not len(found):
        raise ValueError("The history is empty: training logged nothing. Train without `logger=False`.")
    names = {
        "training": "train_loss" if metric == "loss" else f"{metric}_train",
        "validation": "validation_loss" if metric == "loss" else f"{metric}_validation",
    }
    curves = {kind: found[name].iloc[:, 0].astype(float).dropna() for kind, name in names.items() if name in found}
    if not curves:
        logged = sorted(name.removesuffix("_train") for name in found if name.endswith("_train"))
        raise ValueError(f"{metric!r} was not logged. There are 'loss' and {shorten(logged)}.")

    ax = get_axes(ax, figsize)
    colors = {"training": COLORS["control"], "validation": COLORS["observed"]}
    for kind, values in curves.items():
        marker = "o" if len(values) < 3 else None
        ax.plot(values.index, values, color=colors[kind], linewidth=1.6, marker=marker, label=kind)
    best = curves.get("validation")
    if best is not None and len(best):
        epoch, value = best.index[int(np.argmin(best))], float(best.min())
        ax.scatter([epoch], [value], s=40, color=COLORS["observed"], edgecolors="black", linewidths=0.8, zorder=4,
                   label=f"lowest: {value:.3g}")  # fmt: skip
    ax.set(xlabel="epoch", ylabel=metric, title=title or "")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0, frameon=False)
    strip_frame(ax)
    return finish(ax, save=save, show=show)
