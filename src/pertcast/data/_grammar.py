"""The grammar of perturbation names: single perturbations joined by ``+``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["canonical_name", "canonical_names", "parse_perturbation", "spellings"]

SEPARATOR = "+"


def parse_perturbation(name: str, control: str = "control") -> tuple[str, ...]:
    """Split a perturbation name into its single perturbations.

    Names are case-sensitive and may hold any character but ``+``, which joins the parts of a combination. The order
    of the parts does not matter, blanks around them are dropped, and the control adds nothing to a combination.

    Parameters
    ----------
    name
        Label of a cell, for example ``"IFN-beta"`` or ``"CEBPA+KLF1"``.
    control
        Label of unperturbed cells. It may itself hold a ``+``.

    Returns
    -------
    The sorted parts; an empty tuple for the control.

    Raises
    ------
    TypeError
        If ``name`` is not a string.
    ValueError
        If a part is empty (``"A+"``) or occurs twice (``"A+A"``).

    Examples
    --------
    >>> parse_perturbation("KLF1 + CEBPA")
    ('CEBPA', 'KLF1')
    >>> parse_perturbation("BCR/FcR-XL+control")
    ('BCR/FcR-XL',)
    >>> parse_perturbation("control")
    ()
    """
    if not isinstance(name, str):
        raise TypeError(f"A perturbation name must be a string, but found {name!r} of type {type(name).__name__}.")
    control = control.strip()
    if name.strip() == control:
        return ()
    parts = [part.strip() for part in name.split(SEPARATOR)]
    if not all(parts):
        raise ValueError(
            f"The perturbation name {name!r} has an empty part. '{SEPARATOR}' joins the parts of a combination, as in "
            f"'A{SEPARATOR}B'. Remove the stray '{SEPARATOR}', or replace it if it belongs to the name "
            "(for example 'Ca2+' by 'Ca2-plus')."
        )
    parts = [part for part in parts if part != control]
    repeated = sorted({part for part in parts if parts.count(part) > 1})
    if repeated:
        raise ValueError(
            f"The perturbation name {name!r} holds {repeated[0]!r} more than once. Name each part once, and give "
            "repeated or stronger treatment as a dosage (`dosage_key`)."
        )
    return tuple(sorted(parts))


def canonical_name(parts: Iterable[str], control: str = "control") -> str:
    """Join parts into the one name that every spelling of a combination maps to.

    Parameters
    ----------
    parts
        Single perturbations, in any order.
    control
        Name given to the empty combination.

    Returns
    -------
    The parts in alphabetical order, joined by ``+``.

    Examples
    --------
    >>> canonical_name(["KLF1", "CEBPA"])
    'CEBPA+KLF1'
    >>> canonical_name([])
    'control'
    """
    return SEPARATOR.join(sorted(parts)) or control


def spellings(labels: Sequence[str], control: str = "control") -> dict[str, str]:
    """How data spell their perturbations, for those that are always spelled in one way.

    Parameters
    ----------
    labels
        Labels as they stand in the data.
    control
        Label of unperturbed cells.

    Returns
    -------
    The label of each canonical name.

    Examples
    --------
    >>> spellings(["B+A", "control", "C+D", "D+C", "A+control"])
    {'A+B': 'B+A', 'A': 'A+control'}
    """
    found: dict[str, set[str]] = {}
    for label in labels:
        found.setdefault(canonical_name(parse_perturbation(label, control), control), set()).add(label.strip())
    return {name: min(several) for name, several in found.items() if len(several) == 1 and name != control.strip()}


def canonical_names(labels: Sequence[str], control: str = "control") -> tuple[tuple[str, ...], np.ndarray]:
    """Map raw labels onto their sorted canonical names.

    Parameters
    ----------
    labels
        Labels as they stand in the data.
    control
        Label of unperturbed cells.

    Returns
    -------
    The canonical names, the control first and always there, and for each label the position of its name.

    Examples
    --------
    >>> names, codes = canonical_names(["B+A", "control", "A+B", "A"])
    >>> names
    ('control', 'A', 'A+B')
    >>> codes.tolist()
    [2, 0, 2, 1]
    """
    control = control.strip()
    of_label = [canonical_name(parse_perturbation(label, control), control) for label in labels]
    names = (control, *sorted(set(of_label) - {control}))
    position = {name: code for code, name in enumerate(names)}
    return names, np.array([position[name] for name in of_label], dtype=np.int64)
