"""Dosages as keys and as text: those that are one float32, in which the index keeps them, are one."""

from __future__ import annotations

import numpy as np

__all__ = ["dosage_key", "dosage_name"]


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
