"""Writing predictions into the AnnData of the control cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp

from pertcast.data._predicted import POPULATION_COLUMN
from pertcast.data._request import Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

    from pertcast.data._query import ControlQuery
    from pertcast.data._tasks import PredictionTask

__all__ = ["check_key_added", "write_predictions"]

_ENTRIES = frozenset({"effects", "params", "perturbations"})


def check_key_added(key: str, query: ControlQuery, n_requests: int, *, n_cells: int | None) -> None:
    """Raise unless predictions can be written into the AnnData of the control cells.

    Parameters
    ----------
    key
        The argument ``key_added``.
    query
        Control cells.
    n_requests
        Number of pairs of perturbation and dosage.
    n_cells
        The argument ``n_cells``.

    Raises
    ------
    TypeError
        If the key is not a string.
    ValueError
        If the key is empty or holds a ``/``, something else stands under it, the AnnData is a view, or there is not
        one predicted cell for each of its cells.
    """
    if not isinstance(key, str):
        raise TypeError(f"`key_added` must be a string, but found {key!r}.")
    if not key or "/" in key:
        raise ValueError(f"`key_added` must be a name without '/', which files cannot store, but found {key!r}.")
    if n_cells is not None:
        raise ValueError(
            "`key_added` stores one predicted cell for each control cell, so it cannot be combined with `n_cells`. "
            "Leave out one of them."
        )
    adata = query.adata
    if adata.is_view:
        raise ValueError("`key_added` cannot write into a view. Make a copy first: `adata = adata.copy()`.")
    if query.n_controls < adata.n_obs:
        column, control = query.keys.perturbation_key, query.keys.control
        raise ValueError(
            f"`key_added` needs an AnnData of which all cells are predicted, but only {query.n_controls} of its "
            f"{adata.n_obs} cells are. Give the control cells alone, "
            f"`adata[adata.obs[{column!r}] == {control!r}].copy()`, and all their contexts."
        )
    ours = _own_keys(adata, key)
    taken = [name for name in (f"{key}_{n}" for n in range(n_requests)) if name in adata.obsm and name not in ours]
    if taken or (key in adata.uns and not _is_prediction(adata.uns[key])):
        where = f"adata.obsm[{taken[0]!r}]" if taken else f"adata.uns[{key!r}]"
        raise ValueError(
            f"`key_added={key!r}` would overwrite {where}, which is no prediction of pertcast. Choose another name."
        )


def write_predictions(
    key: str,
    query: ControlQuery,
    requests: Sequence[Request],
    tasks: Sequence[PredictionTask],
    predicted: AnnData,
    labels: Mapping[str, str],
) -> None:
    """Write predictions into the AnnData of the control cells; an earlier prediction of this key is replaced.

    Parameters
    ----------
    key
        ``obsm["<key>_<n>"]`` gets the cells ``[cells, G]`` of the first draw of the n-th request, genes in the order of
        the model. ``uns["<key>"]`` gets ``perturbations`` (and ``dosages``, if the screen has any) that n
        counts, ``params``, and ``effects``, whose column ``sd`` is NaN where there is one draw.
    query
        Control cells.
    requests
        Perturbations and dosages.
    tasks
        Predicted populations.
    predicted
        Their cells.
    labels
        Labels of the perturbations, by their canonical names.
    """
    adata, X = query.adata, cast("Any", predicted.X)
    starts = np.cumsum([0, *(len(task.sources) for task in tasks)])
    blocks: dict[Request, list[_Block]] = {request: [] for request in requests}
    for task, start, stop in zip(tasks, starts[:-1], starts[1:], strict=True):
        blocks[Request(task.perturbation, task.dosage)].append(_Block(task, X[start:stop]))
    n_draws = int(predicted.obs[POPULATION_COLUMN].max()) + 1

    matrices = [_first_draw(blocks[request], adata.n_obs) for request in requests]
    entry: dict[str, Any] = {"perturbations": np.array([labels[request.perturbation] for request in requests])}
    if query.metadata.has_dosage:
        entry["dosages"] = np.array([request.dosage for request in requests])
    entry["params"] = dict(predicted.uns["pertcast"])
    entry["effects"] = _effects(query, requests, blocks, n_draws, labels)

    for name in _own_keys(adata, key):
        del adata.obsm[name]
    for n, matrix in enumerate(matrices):
        adata.obsm[f"{key}_{n}"] = matrix
    adata.uns[key] = entry


@dataclass(frozen=True, eq=False)
class _Block:
    """The predicted cells of one task."""

    task: PredictionTask
    values: Any


def _is_prediction(entry: object) -> bool:
    """Whether an entry of ``uns`` was written by :func:`write_predictions`."""
    return isinstance(entry, dict) and entry.keys() >= _ENTRIES


def _own_keys(adata: AnnData, key: str) -> list[str]:
    """Keys of ``obsm`` that an earlier prediction wrote."""
    entry: Any = adata.uns.get(key)
    if not _is_prediction(entry):
        return []
    names = [f"{key}_{n}" for n in range(len(entry["perturbations"]))]
    return [name for name in names if name in adata.obsm]


def _first_draw(blocks: Sequence[_Block], n_obs: int) -> Any:
    """Cells of the first draw, one predicted from each control cell, float32 ``[n_obs, G]``."""
    first = [block for block in blocks if block.task.draw == 0]
    place = np.empty(n_obs, dtype=np.int64)
    place[np.concatenate([block.task.sources for block in first])] = np.arange(n_obs)
    values = [block.values for block in first]
    cells = sp.vstack(values, format="csr") if sp.issparse(values[0]) else np.concatenate(values)
    return cells[place].astype(np.float32)


def _sum(values: Any) -> np.ndarray:
    """Sum over cells, added up in float64 also where the cells are float32."""
    return np.ones(values.shape[0]) @ values if sp.issparse(values) else values.sum(axis=0, dtype=np.float64)


def _effects(
    query: ControlQuery,
    requests: Sequence[Request],
    blocks: dict[Request, list[_Block]],
    n_draws: int,
    labels: Mapping[str, str],
) -> pd.DataFrame:
    """Shift of each gene by perturbation and context, and its standard deviation between draws (NaN for one draw)."""
    contexts = list(dict.fromkeys(population.context_name for population in query.populations))
    genes = query.metadata.var_names.astype(object)
    controls = {
        name: query.mean(np.concatenate([each.rows for each in query.populations if each.context_name == name]))
        for name in contexts
    }
    tables = []
    for request in requests:
        for name in contexts:
            sums = np.zeros((n_draws, len(genes)))
            counts = np.zeros(n_draws)
            for block in blocks[request]:
                if block.task.population.context_name == name:
                    sums[block.task.draw] += _sum(block.values)
                    counts[block.task.draw] += block.values.shape[0]
            shifts = sums / counts[:, None] - controls[name]
            table: dict[str, Any] = {"perturbation": labels[request.perturbation], "context": name, "gene": genes}
            table["shift"] = shifts.mean(axis=0)
            if query.metadata.has_dosage:
                table["dosage"] = request.dosage
            table["sd"] = shifts.std(axis=0, ddof=1) if n_draws > 1 else np.nan
            tables.append(pd.DataFrame(table))
    effects = pd.concat(tables, ignore_index=True)
    order = ["perturbation", "dosage", "context", "gene", "shift", "sd"]
    effects = effects[[column for column in order if column in effects]]
    return effects.astype(dict.fromkeys(("perturbation", "context", "gene"), "category"))
