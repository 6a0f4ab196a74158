"""Vectors of perturbations from the cells that were measured under them."""

from __future__ import annotations

import logging
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from pertcast._numbers import check_number, check_whole
from pertcast.data._grammar import canonical_name, parse_perturbation
from pertcast.data._matrix import row_major
from pertcast.data._matrix_checks import check_matrix
from pertcast.data._messages import did_you_mean, shorten
from pertcast.data._split import Part, read_split_labels
from pertcast.transport import pairwise_cost, sinkhorn_divergence

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["effect_embedding"]

logger = logging.getLogger(__name__)

_N_COMPONENTS = 50
_PAIRS_AT_ONCE = 64


def effect_embedding(
    adata: AnnData,
    perturbation_key: str = "perturbation",
    *,
    control: str = "control",
    split_key: str | None = None,
    oracle: bool = False,
    use_rep: str | None = None,
    layer: str | None = None,
    n_components: int = 10,
    n_cells: int = 128,
    min_cells: int = 5,
    epsilon: float | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Describe perturbations by what they did: coordinates in which similar perturbed populations are close.

    Distances between perturbed populations, by the Sinkhorn divergence with Euclidean cost, are laid out by
    multidimensional scaling (the mode-of-action embedding of Conditional Monge Gap, arXiv 2504.08328). **It uses the
    outcome.** Vectors of perturbations that a model is to predict would hold the answer, so training cells alone are
    used, and a perturbation that has none gets no vector. For what was not measured, describe perturbations by
    something else, such as :func:`drug_embedding`.

    Parameters
    ----------
    adata
        Screen with perturbed cells.
    perturbation_key
        Column of ``obs`` with the perturbation of each cell. Combinations, and control cells, get no vector.
    control
        Label of unperturbed cells in that column.
    split_key
        Column of ``obs`` with ``"train"``, ``"validation"`` or ``"test"``; only cells of ``"train"`` are used.
    oracle
        Use all cells, held-out ones too. A score that is reached with such vectors is an upper bound and no forecast;
        ``attrs["oracle"]`` of the table says so.
    use_rep
        Key of ``obsm`` with the space of distances; by default 50 principal components of the expression.
    layer
        Key of ``layers`` with the log-normalised expression; ``X`` by default. Not read with ``use_rep``.
    n_components
        Length of a vector; one less than the number of perturbations if that is smaller.
    n_cells
        Cells of each perturbation that distances are computed from, drawn at random where there are more.
    min_cells
        Perturbations with fewer cells get no vector, with a warning.
    epsilon
        Entropy of the transport in the units of the space; by default a tenth of the median distance of two cells.
    seed
        Seed of the draw.

    Returns
    -------
    One row for each single perturbation, float32 ``[P, n_components]``. ``attrs`` holds ``oracle`` and ``stress``, the
    part of the squared distances that the coordinates miss.

    Raises
    ------
    KeyError
        If a column or key does not exist.
    TypeError
        If a number is of the wrong type, or the expression is not in memory.
    ValueError
        If neither ``split_key`` nor ``oracle=True`` is given, both are, a number is out of its range, the values are
        raw counts, NaN or infinite, or fewer than three perturbations are left.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(30, n_genes=40, n_perturbations=4, combinations=0, seed=0)
    >>> table = pc.data.effect_embedding(adata, oracle=True, n_components=2)
    >>> table.shape, table.attrs["oracle"]
    ((4, 2), True)
    """
    if (split_key is None) == (not oracle):
        raise ValueError(
            "These vectors are computed from outcomes. Name the column that says which cells are for training "
            "(`split_key`), or say with `oracle=True` that held-out cells may be used; not both."
        )
    for argument, value in (("n_components", n_components), ("n_cells", n_cells), ("min_cells", min_cells)):
        check_whole(argument, value)
    check_whole("seed", seed, least=0)
    if epsilon is not None:
        check_number("epsilon", epsilon, above=0)
    for key in (perturbation_key, *([split_key] if split_key is not None else [])):
        if key not in adata.obs:
            raise KeyError(f"Column {key!r} not found in obs. It has: {list(adata.obs)}.")
    obs: Any = adata.obs
    rows = _rows(obs[perturbation_key], control)
    allowed = np.ones(adata.n_obs, dtype=bool)
    if split_key is not None:
        codes, labels = pd.factorize(obs[split_key].astype(str))
        allowed = read_split_labels(list(labels))[codes] == Part.TRAIN
    populations = {name: found[allowed[found]] for name, found in rows.items()}
    few = [name for name, found in populations.items() if len(found) < min_cells]
    if few:
        logger.warning(
            "%d of %d perturbations have fewer than %d cells%s and get no vector: %s.",
            *(len(few), len(rows), min_cells, "" if oracle else " for training", shorten(few)),
        )
    names = sorted(set(populations) - set(few))
    if len(names) < 3:
        raise ValueError(
            f"{len(names)} perturbation(s) with at least {min_cells} usable cells found in {perturbation_key!r}; "
            "distances need three. Lower `min_cells`, or use another description."
        )
    if oracle:
        logger.warning(
            "Vectors hold the outcome of every cell, held-out ones too: scores reached with them are no forecasts."
        )
    rng = np.random.default_rng(seed)
    drawn = [np.sort(rng.permutation(populations[name])[:n_cells]) for name in names]
    cells = _cells(adata, np.concatenate(drawn), use_rep=use_rep, layer=layer)
    sets = np.split(cells, np.cumsum([len(each) for each in drawn])[:-1])
    vectors, stress = _scaling(_divergences(sets, epsilon), n_components)
    table = pd.DataFrame(
        vectors.astype(np.float32),
        index=pd.Index(names, name="perturbation"),
        columns=[f"effect_{i}" for i in range(vectors.shape[1])],
    )
    table.attrs.update(oracle=oracle, stress=stress)
    return table


def _rows(labels: pd.Series, control: str) -> dict[str, np.ndarray]:
    """Rows of each single perturbation."""
    found: Any = labels.reset_index(drop=True).groupby(labels.to_numpy(), observed=True).indices
    rows: dict[str, np.ndarray] = {}
    for label, members in found.items():
        parts = parse_perturbation(str(label), control)
        if len(parts) == 1:
            name = canonical_name(parts, control)
            rows[name] = np.sort(np.concatenate([rows.get(name, members[:0]), members]))
    return rows


def _cells(adata: AnnData, rows: np.ndarray, *, use_rep: str | None, layer: str | None) -> np.ndarray:
    """Coordinates of cells, float64 ``[n, K]``."""
    if use_rep is not None:
        if use_rep not in adata.obsm:
            raise KeyError(f"{use_rep!r} not found in obsm. It has: {list(adata.obsm)}.")
        return np.asarray(adata.obsm[use_rep], dtype=float)[rows]
    from sklearn.decomposition import PCA

    X = _expression(adata, rows, layer).astype(np.float64)
    n_components = min(_N_COMPONENTS, *(size - 1 for size in X.shape))
    return PCA(n_components, svd_solver="arpack", random_state=0).fit_transform(X)


def _expression(adata: AnnData, rows: np.ndarray, layer: str | None) -> Any:
    """Expression of some cells ``[n, G]``, after a check."""
    layers = [str(name) for name in adata.layers.keys() if name is not None]
    if layer is not None and layer not in layers:
        raise KeyError(
            f"No layer {layer!r} in adata.layers, which holds {shorten(layers) or 'nothing'}."
            f"{did_you_mean(str(layer), layers)}"
        )
    where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    found = adata.X if layer is None else adata.layers[layer]
    X: Any = None if found is None else row_major(found, where)[rows]
    check_matrix(X, adata.obs_names[rows], adata.var_names, where=where)
    return X


def _divergences(sets: list[np.ndarray], epsilon: float | None) -> np.ndarray:
    """Sinkhorn divergence of each pair of populations, ``[P, P]``."""
    size = max(map(len, sets))
    padded = torch.zeros(len(sets), size, sets[0].shape[1])
    mask = torch.zeros(len(sets), size, dtype=torch.bool)
    for i, cells in enumerate(sets):
        padded[i, : len(cells)], mask[i, : len(cells)] = torch.from_numpy(cells).float(), True
    if epsilon is None:
        some = padded[mask][:: max(1, int(mask.sum()) // 500)]
        epsilon = 0.1 * max(float(pairwise_cost(some, some).median()), 1e-6)
    result = np.zeros((len(sets), len(sets)))
    pairs = torch.tensor(list(combinations(range(len(sets)), 2)))
    for chunk in pairs.split(_PAIRS_AT_ONCE):
        a, b = chunk.T
        values = sinkhorn_divergence(
            padded[a], padded[b], epsilon=epsilon, x_weights=mask[a], y_weights=mask[b], tolerance=0.01
        )
        result[a, b] = result[b, a] = values.clamp_min(0).numpy()
    return result


def _scaling(distances: np.ndarray, n_components: int) -> tuple[np.ndarray, float]:
    """Coordinates with about these distances, and the share of the squared distances that is missed."""
    from sklearn.manifold import smacof

    n = len(distances)
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centre @ distances**2 @ centre)
    order = np.argsort(-values)[: min(n_components, n - 1)]
    start = vectors[:, order] * np.sqrt(np.maximum(values[order], 0))
    found, stress = smacof(
        distances, n_components=start.shape[1], init=start, n_init=1, eps=1e-6, normalized_stress=False
    )
    return found, float(stress / max((distances[np.triu_indices(n, 1)] ** 2).sum(), 1e-12))
