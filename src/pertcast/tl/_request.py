"""What a benchmark is asked for: models with names, and the columns of the screen."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.data._messages import shorten
from pertcast.tl._fit import baseline_classes, model_class

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["named_models", "setup_arguments"]

logger = logging.getLogger(__name__)

_COLUMNS = ("perturbation_key", "control", "cell_type_key", "batch_key", "dosage_key", "categorical_covariate_keys")


def named_models(models: Any) -> dict[str, Any]:
    """Models by name: that of a mapping, or else of their class.

    Parameters
    ----------
    models
        A model or class, a list of them, or a mapping from names.

    Raises
    ------
    ValueError
        If two models of a list have one name.
    """
    if isinstance(models, Mapping):
        return dict(models)
    listed = list(models) if isinstance(models, list | tuple) else [models]
    names = [(model_class(each) or type(each)).__name__ for each in listed]
    repeated = list(dict.fromkeys(name for name in names if names.count(name) > 1))
    if repeated:
        example = ", ".join(f"'{repeated[0]} {number}': ..." for number in (1, 2))
        raise ValueError(
            f"`models` lists several models of the class {shorten(repeated)}, which the table could not tell apart. "
            f"Give them names: `models={{{example}}}`."
        )
    return dict(zip(names, listed, strict=True))


def setup_arguments(
    models: Mapping[str, Any], adata: AnnData, setup: Mapping[str, Any] | None, split_key: str
) -> dict[str, Any]:
    """Arguments of ``setup_anndata``: those given, or else those that are on record.

    Parameters
    ----------
    models
        Models by name. What the first of them was set up with comes first.
    adata
        Screen. What it was set up with for a model or baseline comes next, then the columns of its split.
    setup
        The arguments, if they were given.
    split_key
        Key of ``uns`` with the record of :func:`pertcast.pp.split`.

    Returns
    -------
    The arguments; none, with a warning, if nothing says what the columns are.
    """
    if setup is not None:
        return dict(setup)
    for model in models.values():
        if model_class(model) is None:
            found = getattr(model, "registry", {}).get("setup_args")
        else:
            found = _registered(model_class(model), adata)
        if found is not None:
            return _given(found)
    for baseline in baseline_classes().values():
        found = _registered(baseline, adata)
        if found is not None:
            return _given(found)
    record: Any = adata.uns.get(split_key)
    params = record.get("params") if isinstance(record, Mapping) else None
    if not isinstance(params, Mapping):
        logger.warning(
            "Nothing says which columns hold cell types and batches: these data were not set up for a model, and "
            "adata.uns[%r] holds no record of `pc.pp.split`. They are taken for a screen that has neither; if it has, "
            "give `setup={'cell_type_key': 'cell_type', 'batch_key': 'donor'}`.",
            split_key,
        )
        return {}
    return {name: _plain(params[name]) for name in _COLUMNS if name in params}


def _registered(cls: Any, adata: AnnData) -> Mapping[str, Any] | None:
    """Arguments with which data were last set up for a class, if they were."""
    find = getattr(cls, "_get_most_recent_anndata_manager", None)
    manager = None if find is None else find(adata)
    return None if manager is None else manager._get_setup_method_args()["setup_args"]


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _plain(value: Any) -> Any:
    """Name or list of names, as it was before it was stored in ``uns``."""
    return [str(each) for each in value] if isinstance(value, np.ndarray | list | tuple) else str(value)
