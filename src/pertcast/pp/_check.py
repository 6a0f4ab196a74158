"""Checking a split that a user made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anndata import AnnData
from mudata import MuData

from pertcast.data._checks import check_labels, require_column
from pertcast.data._keys import ScreenKeys
from pertcast.data._split import Part, read_split_labels, split_of_conditions
from pertcast.pp._leaks import require_no_leak
from pertcast.pp._request import require_keys, require_kind
from pertcast.pp._screen import read_index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pertcast.pp._request import SplitKind

__all__ = ["check_split"]


def check_split(
    adata: AnnData | MuData,
    split_key: str = "split",
    kind: SplitKind | None = None,
    *,
    perturbation_key: str = "perturbation",
    control: str = "control",
    cell_type_key: str | None = None,
    batch_key: str | None = None,
    dosage_key: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
) -> None:
    """Raise if a split leaks held-out cells into training.

    In any split, all cells of a perturbed condition (perturbation, dosage, context and batch) must be in one part.
    With `kind`, the split must also hold out what it claims to:

    * ``"context"``, ``"donor"``: all perturbed cells of a context or donor are in one part.
    * ``"perturbation"``: each perturbation of the test part holds a single perturbation that neither training nor
      validation has, alone or in a combination; each of the validation part one that training does not have.
    * ``"combination"``: all cells of a perturbation are in one part, and a single perturbation that is held out is
      in no combination of training.
    * ``"condition"``: all batches of a perturbation and dosage in a context are in one part.
    * ``"dosage"``: all cells of a perturbation at a dosage are in one part.

    Control cells may carry any label.

    Parameters
    ----------
    adata
        Screen with a split; nothing is written to it.
    split_key
        Column of ``obs`` with ``"train"``, ``"validation"`` or ``"test"`` for each cell.
    kind
        What the split claims to hold out; nothing in particular by default.
    perturbation_key, control, cell_type_key, batch_key, dosage_key, categorical_covariate_keys
        See :func:`~pertcast.pp.split`.

    Raises
    ------
    KeyError
        If a column does not exist.
    TypeError
        If `adata` or a column has the wrong type.
    ValueError
        If the split leaks, if it holds out nothing or leaves nothing for training, if a label is unknown or missing,
        or if the screen has no control or no perturbed cells.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd, pertcast as pc
    >>> obs = pd.DataFrame({"perturbation": ["control", "A", "A+B"], "split": ["train", "train", "test"]}, dtype=str)
    >>> adata = ad.AnnData(np.zeros((3, 1)), obs=obs.rename(index=str))
    >>> pc.pp.check_split(adata, kind="combination")
    >>> adata.obs["split"] = ["train", "test", "train"]
    >>> pc.pp.check_split(adata, kind="perturbation")
    Traceback (most recent call last):
        ...
    ValueError: 1 held-out perturbation(s) are not unseen: ...
    """
    if not isinstance(adata, AnnData | MuData):
        raise TypeError(f"Expected an AnnData or MuData, but found {type(adata).__name__}.")
    keys = ScreenKeys(
        perturbation_key=perturbation_key,
        control=control,
        cell_type_key=cell_type_key,
        batch_key=batch_key,
        dosage_key=dosage_key,
        categorical_covariate_keys=categorical_covariate_keys,
        split_key=split_key,
    )
    if kind is not None:
        require_kind(kind)
        require_keys(kind, keys)
    index = read_index(adata, keys)
    codes, names = check_labels(require_column(adata, keys, split_key, "split_key"), split_key)
    part = split_of_conditions(index, read_split_labels(names)[codes])
    held_out = part[index.perturbed] != Part.TRAIN
    if held_out.all() or not held_out.any():
        found = "no perturbed cells for training" if held_out.all() else "no perturbed cells for validation or test"
        raise ValueError(f"Column {split_key!r} leaves {found}. Label some conditions of each.")
    if kind is not None:
        require_no_leak(index, part, kind)
