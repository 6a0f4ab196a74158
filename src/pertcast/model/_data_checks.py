"""Checks of the registered data when a model is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from mudata import MuData

from pertcast.data._constants import REGISTRY_KEYS
from pertcast.data._matrix import from_file
from pertcast.data._messages import shorten
from pertcast.model._statistics import least_value

if TYPE_CHECKING:
    from scvi.data import AnnDataManager

    from pertcast.data._query import ControlQuery

__all__ = ["check_controls", "check_genes", "check_sign"]

_ROWS = 1024


def check_genes(manager: AnnDataManager) -> None:
    """Raise if the genes are no longer those that were registered.

    Parameters
    ----------
    manager
        Manager of the data.

    Raises
    ------
    ValueError
        If genes were removed, added, renamed or brought into another order.
    """
    adata, field = manager.adata, manager.data_registry[REGISTRY_KEYS.X]
    here = (adata.mod[field.mod_key] if isinstance(adata, MuData) else adata).var_names
    registered = pd.Index(manager.get_state_registry(REGISTRY_KEYS.X)["column_names"])
    if here.equals(registered):
        return
    gone, new = registered.difference(here, sort=False), here.difference(registered, sort=False)
    found = f"{len(here)} genes are there and {len(registered)} were registered"
    named = [f"{verb}: {shorten(genes)}" for verb, genes in (("gone", gone), ("new", new)) if len(genes)]
    method = manager.registry["setup_method_name"]
    raise ValueError(
        f"The genes changed since `{method}`: {'; '.join([found, *named]) if named else 'their order differs'}. Run "
        f"`{method}` again, and make the model from what it registered."
    )


def check_sign(manager: AnnDataManager, *, nonnegative: bool | None) -> None:
    """Raise if expression is below 0 though the user says that it cannot be.

    Data that are given to a saved model are left alone here; :func:`check_controls` looks at what it predicts from.

    Parameters
    ----------
    manager
        Manager of the data.
    nonnegative
        What the user says; None for nothing.

    Raises
    ------
    ValueError
        If a value is below 0.
    """
    if not nonnegative or manager._source_registry is not None:
        return
    least = least_value(from_file(manager.get_from_registry(REGISTRY_KEYS.X)))
    if least < 0:
        raise ValueError(
            f"`nonnegative=True` says that expression cannot be negative, but the data go down to {least:g}. Leave "
            "`nonnegative` out, and it is read from the data; or register log-normalised values that were not scaled."
        )


def check_controls(query: ControlQuery) -> None:
    """Raise if control cells to predict from are below 0; for models of expression that cannot be.

    Parameters
    ----------
    query
        Control cells; each is read once, in blocks.

    Raises
    ------
    ValueError
        If a value is below 0.
    """
    rows = np.unique(np.concatenate([population.pool for population in query.populations]))
    for first in range(0, len(rows), _ROWS):
        least = query.gather(rows[first : first + _ROWS]).min()
        if least < 0:
            raise ValueError(
                f"The control cells go down to {least:g}, but the model was trained on expression that cannot be "
                "negative. Give log-normalised values as in training, neither scaled nor centred."
            )
