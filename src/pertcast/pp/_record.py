"""What a split leaves in the AnnData besides the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast import __version__
from pertcast.data._messages import shorten
from pertcast.data._split import read_split_labels

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from pertcast.data._keys import ScreenKeys
    from pertcast.pp._plan import SplitPlan
    from pertcast.pp._request import SplitRequest

__all__ = ["check_key_added", "provenance"]

_ENTRIES = frozenset({"kind", "held_out", "params"})


def check_key_added(adata: AnnData | MuData, keys: ScreenKeys, key: str) -> None:
    """Raise unless a split may be written under this key.

    Parameters
    ----------
    adata
        Screen.
    keys
        Columns of the screen.
    key
        Column of ``obs`` and key of ``uns``.

    Raises
    ------
    TypeError
        If the key is not a string.
    ValueError
        If it cannot be stored, or is the name of something else. A column of ``obs`` may be replaced if ``uns`` has
        the record of an earlier split under this key, or if all labels of the column are those of a split.
    """
    if not isinstance(key, str):
        raise TypeError(f"`key_added` must be a string, but found {key!r}.")
    if not key or "/" in key:
        raise ValueError(f"`key_added` must be a name without '/', which files cannot store, but found {key!r}.")
    used = [keys.perturbation_key, keys.batch_key, keys.dosage_key, *(column for _, column in keys.context_columns())]
    if key in used:
        raise ValueError(f"`key_added={key!r}` would overwrite a column that the split is made from. Choose another.")
    entry: Any = adata.uns.get(key)
    is_record = isinstance(entry, dict) and entry.keys() >= _ENTRIES
    if entry is not None and not is_record:
        raise ValueError(
            f"`key_added={key!r}` would overwrite adata.uns[{key!r}], which is no split of pertcast. Choose another."
        )
    obs: Any = adata.obs
    if key in obs and not is_record:
        _check_labels(obs[key].dropna().unique(), key)


def _check_labels(labels: Any, key: str) -> None:
    """Raise unless the labels of a column are those of a split."""
    try:
        read_split_labels(labels)
    except ValueError:
        raise ValueError(
            f"`key_added={key!r}` would overwrite adata.obs[{key!r}], which holds {shorten(map(str, labels))} and is "
            "no split. Choose another name, or delete the column first."
        ) from None


def provenance(keys: ScreenKeys, request: SplitRequest, plan: SplitPlan) -> dict[str, Any]:
    """How a split was made, as an entry of ``uns`` that can be written to a file: without `None` or tuples.

    Parameters
    ----------
    keys
        Columns of the screen.
    request
        What was asked for.
    plan
        What is held out.
    """
    columns = {
        name: getattr(keys, name)
        for name in ("perturbation_key", "control", "cell_type_key", "batch_key", "dosage_key")
    }
    params: dict[str, Any] = {name: value for name, value in columns.items() if value is not None}
    if keys.categorical_covariate_keys:
        params["categorical_covariate_keys"] = np.array(list(keys.categorical_covariate_keys))
    if request.n_folds is not None:
        params |= {"n_folds": int(request.n_folds), "fold": int(request.fold)}
    elif request.hold_out is None:
        params["test_size"] = float(request.test_size)
    params["validation_size"] = float(request.validation_size)
    if request.n_seen is not None:
        params["n_seen"] = int(request.n_seen)
    entry: dict[str, Any] = {"kind": request.kind, "seed": int(request.seed), "version": __version__}
    for name, units in (("held_out", plan.test), ("validation", plan.validation), ("withheld", plan.withheld)):
        if units:
            entry[name] = np.array(units)
    return {**entry, "params": params}
