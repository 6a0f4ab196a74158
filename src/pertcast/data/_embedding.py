"""Reading a table of perturbation embeddings: one vector per single perturbation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pertcast.data._grammar import SEPARATOR, parse_perturbation
from pertcast.data._messages import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["read_embedding"]

logger = logging.getLogger(__name__)


def read_embedding(
    table: pd.DataFrame | Mapping[str, Any],
    *,
    required: Iterable[str] = (),
    control: str = "control",
    where: str = "the embedding table",
) -> tuple[tuple[str, ...], np.ndarray]:
    """Validate an embedding table and return it as sorted names and a matrix.

    Parameters
    ----------
    table
        A data frame with one row per perturbation, or a mapping from name to vector. It may hold more perturbations
        than the data. Entries for the control are dropped, and so are (with a warning) entries for combinations:
        the vectors of their parts describe them.
    required
        Single perturbations that must be there.
    control
        Label of unperturbed cells.
    where
        What messages call the table, for example ``adata.uns['gene_embedding']``.

    Returns
    -------
    The sorted names and the float32 matrix of their vectors, shape ``[len(names), E]``.

    Raises
    ------
    TypeError
        If ``table`` is neither a data frame nor a mapping, a name is not a string, or a vector is not numeric.
    ValueError
        If a name is repeated or a required one is missing, if vectors are empty or differ in length, or if a vector
        holds NaN or infinite values.

    Examples
    --------
    >>> names, vectors = read_embedding({"KLF1": [0.0, 1.0], "CEBPA": [1.0, 0.0]})
    >>> names
    ('CEBPA', 'KLF1')
    >>> vectors.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    rows = _rows(table, where)
    singles: dict[str, np.ndarray] = {}
    combinations = []
    for name, vector in rows:
        parts = parse_perturbation(name, control)
        if len(parts) > 1:
            combinations.append(name)
        elif parts:
            if parts[0] in singles:
                raise ValueError(f"{where} holds {parts[0]!r} more than once. Keep one vector for each perturbation.")
            singles[parts[0]] = vector
    if combinations:
        logger.warning(
            "%s: %d entries for combinations are not used (%s); the vectors of their parts, joined by '%s', are.",
            where,
            len(combinations),
            shorten(combinations),
            SEPARATOR,
        )
    missing = sorted(set(required) - set(singles))
    if missing:
        raise ValueError(
            f"{where} has no vector for {len(missing)} perturbation(s) of the data: {shorten(missing)}. Add their "
            "vectors, or leave these cells out."
        )
    if not singles:
        raise ValueError(f"{where} holds no perturbation. Give it one vector for each perturbation.")
    names = tuple(sorted(singles))
    return names, _stack(names, singles, where)


def _rows(table: pd.DataFrame | Mapping[str, Any], where: str) -> Iterable[tuple[str, np.ndarray]]:
    """Pairs of name and vector."""
    if isinstance(table, pd.DataFrame):
        not_numeric = [str(name) for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
        if not_numeric:
            raise TypeError(
                f"{where} has columns that are not numeric: {shorten(not_numeric)}. Give it one row per perturbation, "
                "its name as the index, and only numbers in the columns."
            )
        return zip(table.index, table.to_numpy(dtype=np.float32, na_value=np.nan), strict=True)
    if isinstance(table, Mapping):
        return [(name, _vector(name, vector, where)) for name, vector in table.items()]
    raise TypeError(
        f"{where} must be a data frame (one row per perturbation) or a dict (name -> vector), but it is a "
        f"{type(table).__name__}."
    )


def _vector(name: str, vector: Any, where: str) -> np.ndarray:
    """One vector as float32."""
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused later
            return np.asarray(vector, dtype=np.float32).reshape(-1)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{where}: the vector of {name!r} is not a sequence of numbers.") from error


def _stack(names: tuple[str, ...], vectors: Mapping[str, np.ndarray], where: str) -> np.ndarray:
    """Stack the vectors, after a check of their lengths and values."""
    lengths = {name: vectors[name].size for name in names}
    usual = max(set(lengths.values()), key=list(lengths.values()).count)
    if usual == 0:
        raise ValueError(f"{where} has vectors of length 0. Each perturbation needs at least one number.")
    odd = [f"{name} ({length})" for name, length in lengths.items() if length != usual]
    if odd:
        raise ValueError(f"{where} has vectors of unequal length: most have {usual} numbers, but not {shorten(odd)}.")
    matrix = np.stack([vectors[name] for name in names])
    broken = [names[row] for row in np.flatnonzero(~np.isfinite(matrix).all(axis=1))]
    if broken:
        raise ValueError(
            f"{where} has NaN or infinite values (in float32) in the vectors of {shorten(broken)}. Replace them, or "
            "leave these perturbations out."
        )
    return matrix
