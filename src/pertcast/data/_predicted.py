"""Assembling predicted cells into an AnnData."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from pertcast.data._predicted_cells import PredictedCells

if TYPE_CHECKING:
    from collections.abc import Sequence

    import scipy.sparse as sp

    from pertcast.data._query import ControlQuery
    from pertcast.data._tasks import PredictionTask

__all__ = ["POPULATION_COLUMN", "SOURCE_COLUMN", "PredictedCells", "check_obs_columns", "predicted_adata"]

SOURCE_COLUMN = "source_cell"
POPULATION_COLUMN = "population"

_NAMES_AT_ONCE = 2**13


def check_obs_columns(query: ControlQuery) -> None:
    """Raise if a registered column has the name of one that predictions add.

    Raises
    ------
    ValueError
        Naming the column.
    """
    keys = query.keys
    columns = [keys.perturbation_key, keys.batch_key, keys.dosage_key, *(keys.continuous_covariate_keys or ())]
    columns += [column for _, column in keys.context_columns()]
    for name in (SOURCE_COLUMN, POPULATION_COLUMN):
        if name in columns:
            raise ValueError(
                f"The model was set up with a column {name!r}, a name that predictions need for themselves. Rename "
                "that column, and set up and train the model again."
            )


def predicted_adata(
    query: ControlQuery, tasks: Sequence[PredictionTask], X: np.ndarray | sp.csr_matrix, provenance: dict[str, Any]
) -> AnnData:
    """Put predicted cells into an AnnData.

    Parameters
    ----------
    query
        Control cells that the prediction started from.
    tasks
        Predicted populations.
    X
        Their cells ``[n_cells, G]``, in the same order.
    provenance
        What to write to ``uns["pertcast"]``.
    """
    sources = np.concatenate([task.sources for task in tasks])
    sizes = [len(task.sources) for task in tasks]
    keys = query.keys
    columns: dict[str, Any] = {keys.perturbation_key: _labels([task.perturbation for task in tasks], sizes)}
    for column in tasks[0].population.obs:
        columns[column] = _labels([task.population.obs[column] for task in tasks], sizes)
    if keys.dosage_key is not None:
        columns[keys.dosage_key] = np.repeat([task.dosage for task in tasks], sizes)
    for i, column in enumerate(keys.continuous_covariate_keys or ()):
        columns[column] = query.covariates[sources, i]
    columns[SOURCE_COLUMN] = query.adata.obs_names.take(sources).array
    columns[POPULATION_COLUMN] = np.repeat([task.draw for task in tasks], sizes)
    obs = pd.DataFrame(columns, index=_numbered("predicted-", len(sources)))
    return AnnData(X, obs=obs, var=query.var, uns={"pertcast": provenance})


def _numbered(prefix: str, n: int) -> pd.Index:
    """Names with numbers from 0, made in parts: lists of strings take several times their memory."""
    parts = [
        pd.Index([f"{prefix}{i}" for i in range(first, min(first + _NAMES_AT_ONCE, n))])
        for first in range(0, max(n, 1), _NAMES_AT_ONCE)
    ]
    return parts[0].append(parts[1:])


def _labels(values: list[str], sizes: list[int]) -> pd.Categorical:
    """One label for each task as a categorical column of its cells, categories sorted."""
    categories, codes = np.unique(np.array(values, dtype=object), return_inverse=True)
    return pd.Categorical.from_codes(np.repeat(codes, sizes), categories=categories.tolist())
