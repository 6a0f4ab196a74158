"""Turning a column of labels into integer codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = ["encode_labels"]


def encode_labels(values: pd.Series, known: Sequence[str] = ()) -> tuple[np.ndarray, list[str]]:
    """Encode labels as codes into a list of names.

    Labels are compared as strings, so that ``1`` read from one file equals ``"1"`` read from another. Categories that
    no cell carries get no name. The order of a categorical column is kept; other labels are sorted.

    Parameters
    ----------
    values
        Column of N labels; missing values get code -1.
    known
        Names that take the first codes, whether a cell carries them or not.

    Returns
    -------
    Codes (int32, length N) and names.

    Examples
    --------
    >>> import pandas as pd
    >>> codes, names = encode_labels(pd.Series(["b", "a", "b"]))
    >>> codes.tolist(), names
    ([1, 0, 1], ['a', 'b'])
    >>> codes, names = encode_labels(pd.Series(["b", "a", "b"]), known=["b", "c"])
    >>> codes.tolist(), names
    ([0, 2, 0], ['b', 'c', 'a'])
    """
    categorical = values.astype("category").cat
    raw = categorical.codes.to_numpy()
    seen = np.bincount(raw[raw >= 0], minlength=len(categorical.categories)) > 0
    position = {str(name): code for code, name in enumerate(known)}
    table = np.full(len(seen) + 1, -1, dtype=np.int32)  # the last entry is what code -1 (missing) points at
    for code in np.flatnonzero(seen).tolist():
        table[code] = position.setdefault(str(categorical.categories[code]), len(position))
    return table[raw], list(position)
