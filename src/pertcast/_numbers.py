"""Checks of numbers that users give."""

from __future__ import annotations

import math
from numbers import Integral, Real

__all__ = ["check_number", "check_whole"]


def check_whole(name: str, value: object, *, least: int = 1) -> int:
    """Return a whole number, after a check.

    Parameters
    ----------
    name
        Argument that holds it.
    value
        What was given.
    least
        Smallest number that is fine.

    Raises
    ------
    TypeError
        If it is no whole number; True and False are none.
    ValueError
        If it is too small.

    Examples
    --------
    >>> check_whole("n_steps", 3)
    3
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` must be a whole number, but found {value!r}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, but found {value}.")
    return int(value)


def check_number(name: str, value: object, *, least: float = -math.inf, above: float = -math.inf) -> float:
    """Return a finite number, after a check.

    Parameters
    ----------
    name
        Argument that holds it.
    value
        What was given.
    least
        Smallest number that is fine.
    above
        Largest number that is too small.

    Raises
    ------
    TypeError
        If it is no number; True and False are none.
    ValueError
        If it is NaN, infinite or too small.

    Examples
    --------
    >>> check_number("guidance_scale", 1)
    1.0
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number, but found {value!r}.")
    if not math.isfinite(value):
        raise ValueError(f"`{name}` must be finite, but found {value}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least:g}, but found {value}.")
    if value <= above:
        raise ValueError(f"`{name}` must be above {above:g}, but found {value}.")
    return float(value)
