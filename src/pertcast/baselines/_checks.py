"""Checks of the arguments of baselines."""

from __future__ import annotations

import numpy as np

__all__ = ["check_count", "check_positive"]


def check_count(name: str, value: int, minimum: int = 1) -> int:
    """Return a whole number, after a check that it is at least ``minimum``.

    Examples
    --------
    >>> check_count("n_neighbours", 0)
    Traceback (most recent call last):
    ValueError: `n_neighbours` must be a whole number of at least 1, but found 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ValueError(f"`{name}` must be a whole number of at least {minimum}, but found {value!r}.")
    return int(value)


def check_positive(name: str, value: float) -> float:
    """Return a number, after a check that it is finite and above 0.

    Examples
    --------
    >>> check_positive("ridge", -1)
    Traceback (most recent call last):
    ValueError: `ridge` must be a finite number above 0, but found -1.
    """
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"`{name}` must be a finite number above 0, but found {value!r}.")
    return float(value)
