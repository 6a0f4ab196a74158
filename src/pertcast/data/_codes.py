"""Arithmetic on integer codes: combining several factors into one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["combine_codes", "cross_codes"]

NAME_SEPARATOR = " | "
_MAX_KEY = np.iinfo(np.int64).max


def combine_codes(factors: Sequence[tuple[np.ndarray, int]]) -> np.ndarray:
    """Combine several codes of each cell into one integer that sorts like them, the first factor first.

    Parameters
    ----------
    factors
        Pairs of non-negative codes (length N) and the number of their levels.

    Returns
    -------
    Keys, int64 of length N. Where the product of the levels is too large for int64, the keys so far are replaced by
    their ranks.

    Examples
    --------
    >>> combine_codes([(np.array([0, 1, 1]), 2), (np.array([2, 0, 2]), 3)]).tolist()
    [2, 3, 5]
    """
    codes, levels = factors[0]
    key = codes.astype(np.int64)
    for codes, size in factors[1:]:
        if levels > _MAX_KEY // size:
            unique, key = np.unique(key, return_inverse=True)
            levels = len(unique)
        key *= size
        key += codes
        levels *= size
    return key


def cross_codes(
    factors: Mapping[str, tuple[np.ndarray, Sequence[str]]], n_cells: int
) -> tuple[np.ndarray, tuple[str, ...], pd.DataFrame]:
    """Cross several labels of each cell; only combinations that some cell has get a code.

    Parameters
    ----------
    factors
        Column name to codes (length N) and the names they point at. Without a column all cells are alike.
    n_cells
        Number of cells N.

    Returns
    -------
    Codes (int32 of length N), the name of each combination (its labels joined by ``" | "``), and a table with the
    labels of each combination. Combinations are sorted by the codes of their labels.

    Raises
    ------
    ValueError
        If there are several columns and a label holds ``" | "``, so that two combinations may have one name.

    Examples
    --------
    >>> codes, names, table = cross_codes(
    ...     {"type": (np.array([1, 0, 1]), ["B", "T"]), "sex": (np.array([0, 0, 0]), ["f"])}, 3
    ... )
    >>> codes.tolist(), names
    ([1, 0, 1], ('B | f', 'T | f'))
    """
    if not factors:
        return np.zeros(n_cells, dtype=np.int32), ("all",), pd.DataFrame(index=range(1))
    if len(factors) > 1:
        for column, (_, names) in factors.items():
            _check_joinable(column, names)
    key = combine_codes([(codes, len(names)) for codes, names in factors.values()])
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    table = pd.DataFrame({column: [names[code] for code in codes[first]] for column, (codes, names) in factors.items()})
    joined = tuple(NAME_SEPARATOR.join(row) for row in table.itertuples(index=False, name=None))
    return inverse.astype(np.int32), joined, table


def _check_joinable(column: str, names: Sequence[str]) -> None:
    """Raise if a label could be mistaken for several joined ones, or for the edge of one, such as ``"T |"``."""
    for name in names:
        if NAME_SEPARATOR in f" {name} ":
            raise ValueError(
                f"Column {column!r} holds the label {name!r}, but where several columns make up the context, their "
                f"labels are joined by {NAME_SEPARATOR!r}, so that two contexts could have one name. Replace the '|': "
                f"`adata.obs[{column!r}] = adata.obs[{column!r}].astype(str).str.replace('|', '/')`."
            )
