"""Assembling predicted cells into an AnnData."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from pertcast.data._predicted_cells import PredictedCells

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import scipy.sparse as sp

    from pertcast.data._keys import ScreenKeys
    from pertcast.data._query import ControlQuery
    from pertcast.data._tasks import PredictionTask

__all__ = ["POPULATION_COLUMN", "SOURCE_COLUMN", "PredictedCells", "check_obs_columns", "predicted_adata"]

SOURCE_COLUMN = "source_cell"
POPULATION_COLUMN = "population"

_NAMES_AT_ONCE = 2**13


def check_obs_columns(keys: ScreenKeys) -> None:
    """Raise if a column of the screen has the name of one that predictions add.

    Parameters
    ----------
    keys
        Columns of the screen.

    Raises
    ------
    ValueError
        Naming the column, and the argument that names it.
    """
    columns = [(argument, getattr(keys, argument)) for argument in ("perturbation_key", "batch_key", "dosage_key")]
    columns += keys.context_columns()
    columns += [("continuous_covariate_keys", column) for column in keys.continuous_covariate_keys or ()]
    for argument, column in columns:
        if column in (SOURCE_COLUMN, POPULATION_COLUMN):
            raise ValueError(
                f"`{argument}` names the column {column!r}, but predictions have a column {column!r} of their own "
                f"(they add {SOURCE_COLUMN!r} and {POPULATION_COLUMN!r} to obs). Rename it before setup: "
                f"`adata.obs = adata.obs.rename(columns={{{column!r}: {'my_' + column!r}}})`."
            )


def predicted_adata(
    query: ControlQuery,
    tasks: Sequence[PredictionTask],
    X: np.ndarray | sp.csr_matrix,
    provenance: dict[str, Any],
    labels: Mapping[str, str],
    *,
    trained_var: pd.DataFrame | None = None,
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
    labels
        Labels of the perturbations in ``obs``, by their canonical names.
    trained_var
        ``var`` of the training data, if the model holds them: a saved model knows the names of its genes only. It is
        that of the result, with further columns of the given cells behind it.
    """
    sources = np.concatenate([task.sources for task in tasks])
    sizes = [len(task.sources) for task in tasks]
    keys = query.keys
    columns: dict[str, Any] = {keys.perturbation_key: _labels([labels[task.perturbation] for task in tasks], sizes)}
    for column in tasks[0].population.obs:
        columns[column] = _values(query.columns[column], sources)
    if keys.dosage_key is not None:
        columns[keys.dosage_key] = np.repeat([task.dosage for task in tasks], sizes)
    for column in keys.continuous_covariate_keys or ():
        columns[column] = _values(query.columns[column], sources)
    columns[SOURCE_COLUMN] = query.adata.obs_names.take(sources).array
    columns[POPULATION_COLUMN] = np.repeat([task.draw for task in tasks], sizes)
    obs = pd.DataFrame(columns, index=_numbered("predicted-", len(sources)))
    return AnnData(X, obs=obs, var=_var(query.var, trained_var), uns={"pertcast": provenance})


def _var(given: pd.DataFrame, trained: pd.DataFrame | None) -> pd.DataFrame:
    """Annotation of the training data, where it is known, and the further columns of the given cells."""
    if trained is None or not given.index.isin(trained.index).all():
        return given
    return trained.loc[given.index].join(given[[column for column in given if column not in trained]])


def _values(given: pd.Series, sources: np.ndarray) -> Any:
    """Values of the source cells in the dtype of the column; text becomes categorical, unused categories are left out.

    Categories keep their order, and whether they are ordered.
    """
    if pd.api.types.is_object_dtype(given) or pd.api.types.is_string_dtype(given):
        given = given.astype("category")  # before cells are repeated, which takes less memory
    values = given.iloc[sources]
    return (values.cat.remove_unused_categories() if isinstance(values.dtype, pd.CategoricalDtype) else values).array


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
