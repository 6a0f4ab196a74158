"""Cells on their way from noise to a prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.pl._cells import dense, expression, obs_column, require_same_genes, subsample
from pertcast.pl._style import COLORS, finish, get_axes

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["denoising_trajectory"]


def denoising_trajectory(
    trajectory: AnnData,
    real: AnnData,
    control: AnnData,
    *,
    step_key: str = "step",
    cell_key: str = "cell",
    layer: str | None = None,
    real_layer: str | None = None,
    max_paths: int = 40,
    max_cells: int = 1000,
    seed: int = 0,
    ax: Axes | None = None,
    figsize: tuple[float, float] = (5.8, 4.2),
    title: str | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot the paths of cells through the steps of diffusion, on two principal components of the real cells.

    Real cells, control and measured, are the background, and fix the plane. A path ends in an orange point, the
    predicted cell.

    Parameters
    ----------
    trajectory
        Table of :meth:`pertcast.model.PerturbDiff.get_denoising_trajectory`: a row for each cell and step.
    real
        Measured perturbed cells with the same genes.
    control
        Control cells with the same genes.
    step_key
        Column of ``trajectory.obs`` with the number of the step, the first being the noisiest.
    cell_key
        Column of ``trajectory.obs`` that tells cells apart.
    layer
        Key of ``trajectory.layers``; ``X``, the noisy cells, by default. ``"denoised"`` holds what the network
        predicts from them.
    real_layer
        Key of ``layers`` with the expression of ``real`` and ``control``; ``X`` by default.
    max_paths
        Largest number of cells whose path is drawn; all end points are.
    max_cells
        Largest number of real cells of each kind; more are subsampled.
    seed
        Seed of the choices.
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
    KeyError
        If a column or layer does not exist.
    TypeError
        If the expression is not in memory.
    ValueError
        If the genes differ, an AnnData has no cells, or a cell lacks a step.

    Examples
    --------
    Two cells in three steps, each path of two segments:

    >>> import anndata
    >>> import numpy as np
    >>> import pertcast as pc
    >>> rng = np.random.default_rng(0)
    >>> control, real, trajectory = (anndata.AnnData(rng.normal(size=(n, 5))) for n in (20, 20, 6))
    >>> trajectory.obs["step"], trajectory.obs["cell"] = [0, 1, 2, 0, 1, 2], list("aaabbb")
    >>> len(pc.pl.denoising_trajectory(trajectory, real, control).get_lines())
    4
    """
    from sklearn.decomposition import PCA

    require_same_genes(trajectory=trajectory, real=real, control=control)
    rng = np.random.default_rng(seed)
    background = {
        "control": dense(subsample(expression(control, real_layer, "control"), max_cells, rng)),
        "observed": dense(subsample(expression(real, real_layer, "real"), max_cells, rng)),
    }
    pca = PCA(n_components=2, random_state=seed).fit(np.concatenate(list(background.values())))
    steps = obs_column(trajectory, step_key, "trajectory").astype(int).to_numpy()
    cells = obs_column(trajectory, cell_key, "trajectory").to_numpy()
    states = pca.transform(dense(expression(trajectory, layer, "trajectory")))
    order = np.lexsort((steps, cells))
    names, sizes = np.unique(cells, return_counts=True)
    if len(np.unique(sizes)) > 1 or len(np.unique(steps)) != sizes[0]:
        raise ValueError(
            f"Every cell of `trajectory` needs one row for each step, but there are {len(np.unique(steps))} steps and "
            f"{sizes.min()} to {sizes.max()} rows for a cell."
        )
    paths = states[order].reshape(len(names), sizes[0], 2)

    ax = get_axes(ax, figsize)
    for kind, X in background.items():
        points = pca.transform(X)
        ax.scatter(
            points[:, 0], points[:, 1], s=6, color=COLORS[kind], alpha=0.45, linewidths=0, rasterized=len(X) > 500
        )
    colors = _shades(sizes[0] - 1)
    for path in paths[np.sort(rng.choice(len(paths), min(max_paths, len(paths)), replace=False))]:
        for number, color in enumerate(colors):
            ax.plot(*path[number : number + 2].T, color=color, linewidth=0.8, zorder=3, solid_capstyle="round")
    start, end = paths[:, 0], paths[:, -1]
    ax.scatter(start[:, 0], start[:, 1], s=10, color="black", linewidths=0, zorder=3, label="noise (start)")
    ax.scatter(end[:, 0], end[:, 1], s=16, color=COLORS["predicted"], edgecolors="black", linewidths=0.3, zorder=4)
    for kind in COLORS:
        ax.scatter([], [], s=30, color=COLORS[kind], label=kind)
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0, frameon=False)
    first, second = (f"{share:.0%}" for share in pca.explained_variance_ratio_)
    ax.set(xlabel=f"PC1 ({first} of variance)", ylabel=f"PC2 ({second})", title=title or "")
    return finish(ax, save=save, show=show)


def _shades(n: int) -> Any:
    """Colours from grey to orange ``[n, 3]``."""
    from matplotlib.colors import to_rgb

    share = np.linspace(0, 1, n + 1)[1:, None] if n else np.zeros((0, 1))
    return (1 - share) * np.array([0.75] * 3) + share * np.array(to_rgb(COLORS["predicted"]))
