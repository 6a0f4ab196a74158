"""Checks of a screen before anything is written to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from pertcast.data._embedding import read_embedding
from pertcast.data._grammar import parse_perturbation
from pertcast.data._labels import encode_labels
from pertcast.data._messages import close_matches, column_names, did_you_mean, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pertcast.data._keys import ScreenKeys

__all__ = [
    "check_container",
    "check_covariate",
    "check_dosage",
    "check_embedding",
    "check_labels",
    "check_numbers",
    "check_perturbations",
    "require_column",
    "usual_controls",
]

_USUAL_CONTROLS = frozenset(
    "control ctrl ctl ctrls controls ctr nontargeting ntc nt dmso vehicle untreated unstimulated unstim unperturbed "
    "mock pbs wt wildtype scramble scrambled safetargeting none baseline".split()
)
_MISSING_AS_TEXT = frozenset({"nan", "NaN", "<NA>", "NaT", ""})


def check_container(adata: AnnData | MuData) -> None:
    """Raise unless the object is an AnnData of its own, or a MuData of its own in memory.

    Parameters
    ----------
    adata
        Object to be registered.

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If it is a view, or a MuData that is backed by a file.
    """
    if not isinstance(adata, AnnData | MuData):
        raise TypeError(f"Expected an AnnData or MuData, but found {type(adata).__name__}.")
    for part in (adata, *(adata.mod.values() if isinstance(adata, MuData) else ())):
        if part.is_view:
            copy = "adata.copy(filename=...)" if part.isbacked else "adata.copy()"
            raise ValueError(f"The AnnData is a view of another one. Make a copy first: `adata = {copy}`.")
    if isinstance(adata, MuData) and adata.isbacked:
        raise ValueError("The MuData is backed by a file. Load it: `mdata = mudata.read_h5mu(file)`.")


def require_column(adata: AnnData | MuData, keys: ScreenKeys, column: str, argument: str) -> pd.Series:
    """Return a column of ``obs``.

    Parameters
    ----------
    adata
        Object to be registered.
    keys
        Where its parts are.
    column
        Name of the column.
    argument
        Argument that names it.

    Raises
    ------
    KeyError
        If there is no such column.
    """
    holder = keys.holder(adata, argument)
    obs = holder.obs
    if column in obs:
        return obs[column]
    hint = did_you_mean(str(column), column_names(obs))
    if isinstance(holder, MuData):
        elsewhere = [name for name, part in holder.mod.items() if column in part.obs]
        if elsewhere:
            hint = f" It is in the modality {elsewhere[0]!r}: add {{{argument!r}: {elsewhere[0]!r}}} to `modalities`."
    raise KeyError(
        f"`{argument}` names the column {column!r}, which is not in adata.obs.{hint} Columns: "
        f"{shorten(column_names(obs), limit=20) or 'none'}."
    )


def check_labels(labels: pd.Series, column: str, allowed: str | None = None) -> tuple[np.ndarray, list[str]]:
    """Encode labels; every cell must have one.

    Parameters
    ----------
    labels
        Labels of the cells.
    column
        Name of the column, for messages.
    allowed
        A label that is never taken for a missing value.

    Returns
    -------
    Codes and names, see :func:`~pertcast.data._labels.encode_labels`.

    Raises
    ------
    ValueError
        If a cell has no label, or one such as ``"nan"`` that a missing value turns into when it is made a string.
    """
    codes, names = encode_labels(labels)
    as_text = [code for code, name in enumerate(names) if name in _MISSING_AS_TEXT and name != allowed]
    missing = np.flatnonzero((codes < 0) | np.isin(codes, as_text))
    if missing.size:
        texts = [names[code] for code in as_text]
        looks = f" (or the text {texts[0]!r})" if texts else ""
        keep = [f"~adata.obs[{column!r}].astype(str).isin({texts!r})"] if texts else []
        keep += [f"adata.obs[{column!r}].notna()"] if (codes < 0).any() else []
        raise ValueError(
            f"Column {column!r} has no label{looks} for {len(missing)} of {len(codes)} cells, for example cell "
            f"{labels.index[missing[0]]!r}. Give them a label, or drop them, for example with "
            f"`adata = adata[{' & '.join(keep)}].copy()`."
        )
    return codes, names


def check_perturbations(
    codes: np.ndarray, names: list[str], column: str, control: str, *, needs_perturbed: bool = True
) -> np.ndarray:
    """Check the names of perturbations, and that there are control and perturbed cells.

    Parameters
    ----------
    codes
        Code of each cell into ``names``.
    names
        Labels of the column.
    column
        Name of the column, for messages.
    control
        Label of unperturbed cells.
    needs_perturbed
        Whether there must be perturbed cells.

    Returns
    -------
    Whether each cell is perturbed.

    Raises
    ------
    TypeError
        If ``control`` is not a string.
    ValueError
        If a name does not parse, or control or perturbed cells are missing.
    """
    if not isinstance(control, str):
        raise TypeError(
            f"`control` must be a string, but found {control!r}. Labels are compared as strings: write "
            f"control={str(control)!r}."
        )
    try:
        is_perturbed = np.array([bool(parse_perturbation(name, control)) for name in names], dtype=bool)
    except ValueError as error:
        raise ValueError(f"Column {column!r}: {error}") from error
    if is_perturbed.all():
        counts = np.bincount(codes, minlength=len(names))
        largest = np.argsort(-counts, kind="stable")[:10]
        listed = ", ".join(f"{names[code]!r} ({counts[code]} cells)" for code in largest)
        more = f" and {len(names) - len(largest)} more" if len(names) > len(largest) else ""
        usual = usual_controls(names)
        close = (usual or close_matches(control, names))[:3]
        hint = f" Did you mean control={' or control='.join(map(repr, close))}?" if close else ""
        raise ValueError(
            f"No control cells: column {column!r} has no label {control!r} (`control`).{hint} Labels present: "
            f"{listed}{more}. Control cells are needed to describe each context before perturbation."
        )
    if needs_perturbed and not is_perturbed.any():
        raise ValueError(
            f"No perturbed cells: column {column!r} holds only the control label {control!r}. Training needs "
            "perturbed cells; check `perturbation_key`."
        )
    return is_perturbed[codes]


def usual_controls(names: Iterable[str]) -> list[str]:
    """Labels that screens often give to unperturbed cells, whatever their case and punctuation.

    Parameters
    ----------
    names
        Labels.
    """
    return [name for name in names if "".join(filter(str.isalnum, name.casefold())) in _USUAL_CONTROLS]


def check_numbers(values: pd.Series, column: str, argument: str) -> np.ndarray:
    """Return a numeric column as an array.

    Parameters
    ----------
    values
        Values of the cells.
    column
        Name of the column, for messages.
    argument
        Argument that names the column.

    Raises
    ------
    TypeError
        If the column is not numeric.
    """
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        raise TypeError(
            f"`{argument}` names the column {column!r}, which is not numeric (dtype {values.dtype}, for example "
            f"{values.iloc[0]!r}). Convert it: `adata.obs[{column!r}] = "
            f"pd.to_numeric(adata.obs[{column!r}]).astype(float)`."
        )
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


def check_dosage(values: np.ndarray, is_perturbed: np.ndarray, column: str, cells: pd.Index) -> None:
    """Raise unless each perturbed cell has a finite dosage of at least 0.

    Parameters
    ----------
    values
        Dosages of the cells.
    is_perturbed
        Whether each cell is perturbed; the dosage of controls is ignored.
    column
        Name of the column, for messages.
    cells
        Names of the cells.
    """
    bad = np.flatnonzero(is_perturbed & ~(np.isfinite(values) & (values >= 0)))
    if bad.size:
        raise ValueError(
            f"Column {column!r} has a missing, infinite or negative dosage for {len(bad)} perturbed cells, for example "
            f"{values[bad[0]]:g} in cell {cells[bad[0]]!r}. Give each perturbed cell a dosage of at least 0."
        )


def check_covariate(values: np.ndarray, column: str, cells: pd.Index) -> None:
    """Raise if a continuous covariate is missing or infinite in a cell.

    Parameters
    ----------
    values
        Values of the cells.
    column
        Name of the column, for messages.
    cells
        Names of the cells.
    """
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ValueError(
            f"Column {column!r} is missing or infinite in {len(bad)} cells, for example in cell {cells[bad[0]]!r}. "
            "Fill in the values, or leave the covariate or the cells out."
        )


def check_embedding(adata: AnnData | MuData, keys: ScreenKeys, names: list[str]) -> None:
    """Raise unless ``uns`` holds a valid embedding of every perturbation of the data.

    Parameters
    ----------
    adata
        Object to be registered.
    keys
        Where its parts are.
    names
        Labels of the perturbation column.
    """
    key = keys.perturbation_embedding_key
    if key is None:
        return
    uns: Any = keys.holder(adata, "perturbation_embedding_key").uns
    if key not in uns:
        raise KeyError(
            f"`perturbation_embedding_key` names {key!r}, which is not in adata.uns."
            f"{did_you_mean(key, [str(name) for name in uns])} Store a data frame (one row per perturbation) or a dict "
            "(name -> vector) there."
        )
    required = {part for name in names for part in parse_perturbation(name, keys.control)}
    read_embedding(uns[key], required=required, control=keys.control, where=f"adata.uns[{key!r}]")
