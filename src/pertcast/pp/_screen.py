"""Reading the columns of a screen that is not registered with a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pertcast.data._checks import check_dosage, check_labels, check_numbers, check_perturbations, require_column
from pertcast.data._factors import ScreenFactors
from pertcast.data._index import ConditionIndex

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from pertcast.data._keys import ScreenKeys

__all__ = ["read_index"]


def read_index(adata: AnnData | MuData, keys: ScreenKeys) -> ConditionIndex:
    """Check the columns of a screen and index its conditions.

    Parameters
    ----------
    adata
        Screen; nothing is written to it.
    keys
        Columns of the screen.

    Raises
    ------
    KeyError
        If a column does not exist.
    TypeError
        If the dosage is not numeric.
    ValueError
        If a cell has no label, a name does not parse, or there are no control or no perturbed cells.
    """
    keys.check_columns()
    perturbation = require_column(adata, keys, keys.perturbation_key, "perturbation_key")
    codes, names = check_labels(perturbation, keys.perturbation_key, allowed=keys.control)
    is_perturbed = check_perturbations(codes, names, keys.perturbation_key, keys.control)
    contexts = {column: require_column(adata, keys, column, argument) for argument, column in keys.context_columns()}
    for column, labels in contexts.items():
        check_labels(labels, column)
    batch = dosage = None
    if keys.batch_key is not None:
        batch = require_column(adata, keys, keys.batch_key, "batch_key")
        check_labels(batch, keys.batch_key)
    if keys.dosage_key is not None:
        dosage = require_column(adata, keys, keys.dosage_key, "dosage_key")
        values = check_numbers(dosage, keys.dosage_key, "dosage_key")
        check_dosage(values, is_perturbed, keys.dosage_key, dosage.index)
    return ConditionIndex.from_factors(
        ScreenFactors.from_columns(perturbation, keys.control, contexts=contexts, batch=batch, dosage=dosage)
    )
