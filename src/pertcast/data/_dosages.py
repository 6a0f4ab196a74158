"""Dosages as keys and as text: those that are one float32, in which the index keeps them, are one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["dosage_key", "dosage_name", "nearest_dosage"]


def dosage_key(dosage: float | np.floating) -> float:
    """Dosage as a key: the number that the shortest text of its float32 stands for, so that 0.1 stays 0.1.

    Parameters
    ----------
    dosage
        Dosage of any type of numbers.

    Examples
    --------
    >>> dosage_key(0.1), dosage_key(np.float32(0.1))
    (0.1, 0.1)
    """
    with np.errstate(over="ignore"):
        return float(str(np.float32(dosage)))


def dosage_name(dosage: float | np.floating) -> str:
    """Dosage as a part of names, other for each float32.

    Parameters
    ----------
    dosage
        Dosage of any type of numbers.

    Examples
    --------
    >>> [dosage_name(dosage) for dosage in (1.0, np.float32(0.1), 1234567)]
    ['1', '0.1', '1234567']
    """
    return f"{dosage_key(dosage):.9g}"  # 9 digits tell all float32 apart


def nearest_dosage(measured: Iterable[float], dosage: float) -> float:
    """Measured dosage whose logarithm is nearest; the lower one of two that are as near.

    Parameters
    ----------
    measured
        Dosages, at least one, 0 or more. Half of the smallest positive one is added before logarithms are taken.
    dosage
        Dosage asked for, 0 or more.

    Examples
    --------
    >>> nearest_dosage([0.1, 1.0, 10.0], 4.0)
    10.0
    """
    values = np.unique([*measured])
    offset = values[values > 0].min(initial=np.inf) / 2
    if not np.isfinite(offset):
        return float(values[0])
    distance = np.abs(np.log(values + offset) - np.log(dosage + offset))
    return float(values[int(np.argmin(distance > distance.min() + 1e-9))])
