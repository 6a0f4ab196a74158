"""Matching the genes of new cells to those of the training data."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pertcast.data._messages import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

__all__ = ["align_genes", "require_same_genes"]

logger = logging.getLogger(__name__)


def align_genes(
    adata: AnnData, var_names: Sequence[str] | pd.Index, *, name: str = "adata", genes_of: str | None = None
) -> np.ndarray | None:
    """Find the columns of an AnnData that hold the genes of a model, or of other cells.

    Parameters
    ----------
    adata
        Cells to be given to a model. Genes that the model does not know are left out.
    var_names
        The G genes of the model, in its order.
    name
        What messages call the AnnData.
    genes_of
        What messages call the cells whose genes are wanted, if it is not a model that wants them.

    Returns
    -------
    Positions of length G with ``adata.var_names[positions]`` equal to ``var_names``; ``None`` where the genes are the
    same in the same order already.

    Raises
    ------
    ValueError
        If a gene of the model is missing, or any name of a gene occurs twice.

    Examples
    --------
    >>> import anndata, pandas as pd
    >>> adata = anndata.AnnData(var=pd.DataFrame(index=["g2", "g3", "g1"]))
    >>> align_genes(adata, ["g1", "g2"])
    array([2, 0])
    """
    wanted = pd.Index(var_names)
    found = adata.var_names
    if found.equals(wanted):
        return None
    if not found.is_unique:
        repeated = found[found.duplicated()].unique()
        raise ValueError(
            f"{name}.var_names holds {len(repeated)} names more than once: {shorten(repeated)}. Call "
            f"`{name}.var_names_make_unique()`, or keep one column for each gene."
        )
    positions = found.get_indexer(wanted)
    missing = wanted[positions < 0]
    if len(missing):
        source = genes_of or "the training data (`model.get_var_names()`)"
        raise ValueError(
            f"{len(missing)} of the {len(wanted)} genes of {genes_of or 'the model'} are missing from "
            f"{name}.var_names: {shorten(missing)}.{_where_names_are(adata, wanted, name)} Give the cells with all "
            f"genes of {source}, in any order and named in the same way."
        )
    logger.info(
        "Genes brought into the order of %s: %d of %d columns are used.",
        genes_of or "the model",
        len(wanted),
        adata.n_vars,
    )
    return positions.astype(np.int64)


def _where_names_are(adata: AnnData, wanted: pd.Index, name: str) -> str:
    """Write a sentence on the names that the cells have, if none of the wanted ones is among them."""
    if adata.var_names.isin(wanted).any():
        return ""
    var: pd.DataFrame = adata.var  # type: ignore[assignment]
    columns = [str(column) for column in var if var[column].astype(str).isin(wanted).any()]
    hint = f"; such names are in {name}.var[{columns[0]!r}]" if columns else ""
    return f" The names here are {shorten(adata.var_names, 3)}{hint}."


def require_same_genes(found: Sequence[str] | pd.Index, expected: Sequence[str] | pd.Index) -> None:
    """Raise unless two lists of genes are the same in the same order.

    Parameters
    ----------
    found
        Genes of the new cells.
    expected
        Genes of the training data.

    Raises
    ------
    ValueError
        Naming the genes that are missing, or saying that the order differs.
    """
    here, wanted = pd.Index(found), pd.Index(expected)
    if here.equals(wanted):
        return
    missing = wanted.difference(here, sort=False)
    if len(missing):
        problem = f"{len(missing)} genes of the training data are missing: {shorten(missing)}"
    elif len(here) != len(wanted):
        problem = f"there are {len(here)} genes in place of {len(wanted)}"
    else:
        problem = "the order differs"
    raise ValueError(
        f"The genes are not those of the training data: {problem}. Select them with "
        "`adata[:, model.get_var_names()].copy()`."
    )
