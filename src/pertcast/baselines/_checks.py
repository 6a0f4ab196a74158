"""Checks of the arguments of baselines."""

from __future__ import annotations

import numpy as np

__all__ = ["check_positive"]


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
