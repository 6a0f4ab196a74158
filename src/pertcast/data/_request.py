"""What a user asks a model to predict: perturbations and dosages."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import pandas as pd

from pertcast.data._dosages import dosage_key
from pertcast.data._grammar import canonical_name, parse_perturbation
from pertcast.data._messages import did_you_mean, shorten

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pertcast.data._index import ConditionIndex
    from pertcast.data._screen import ScreenMetadata

__all__ = ["Dosages", "Request", "request_labels", "resolve_requests", "trained_dosages"]

logger = logging.getLogger(__name__)

type Dosages = float | Sequence[float] | Mapping[str, float | Sequence[float]] | pd.Series
"""One dosage for all perturbations, one for each, or a mapping from perturbation to one or several."""

_NO_DOSAGE = 1.0


class Request(NamedTuple):
    """A perturbation to predict, and its dosage (1 where the screen has no dosages).

    Examples
    --------
    >>> import pertcast as pc
    >>> request = pc.data.Request("CEBPA+KLF1", dosage=10.0)
    >>> pc.data.parse_perturbation(request.perturbation), request.dosage
    (('CEBPA', 'KLF1'), 10.0)
    """

    perturbation: str
    dosage: float


def trained_dosages(index: ConditionIndex, conditions: ArrayLike | None = None) -> dict[str, tuple[float, ...]]:
    """Dosages at which each perturbation was measured, for ``model.dosages_``.

    Parameters
    ----------
    index
        Index of the screen.
    conditions
        Conditions that were trained on; the perturbed ones that are not skipped by default.

    Examples
    --------
    >>> from pertcast.data import ConditionIndex
    >>> index = ConditionIndex.from_codes([0, 1, 1, 2], ["control", "A", "B"], dosage=[0, 10, 0.1, 3])
    >>> trained_dosages(index)
    {'A': (0.1, 10.0), 'B': (3.0,)}
    """
    ids = index.perturbed if conditions is None else np.asarray(conditions, dtype=np.int64)
    found: dict[str, set[float]] = {}
    for code, dosage in zip(index.perturbation[ids].tolist(), index.dosage[ids], strict=True):
        found.setdefault(index.perturbation_names[code], set()).add(dosage_key(dosage))
    return {name: tuple(sorted(found[name])) for name in sorted(found)}


def resolve_requests(
    perturbations: str | Sequence[str] | None,
    dosages: Dosages | None,
    metadata: ScreenMetadata,
    trained: Mapping[str, Sequence[float]],
) -> list[Request]:
    """Turn the arguments of ``predict`` into pairs of perturbation and dosage.

    Parameters
    ----------
    perturbations
        Names, with the parts of a combination in any order; all that were trained on by default.
    dosages
        One number, one for each of ``perturbations``, or a mapping, which a series with names as its index is too; by
        default the dosages of the training data. Dosages that are one float32 are one.
    metadata
        What the model knows of its training data.
    trained
        Dosages of the training data: what :func:`trained_dosages` returned.

    Returns
    -------
    Canonical names and dosages in the order asked for, without repeats.

    Raises
    ------
    TypeError
        If a name is not a string or a dosage is not a number.
    ValueError
        If nothing or the control is asked for, if dosages do not fit the perturbations or name one twice, or if they
        are given for a screen without dosages.
    """
    control = metadata.control.strip()
    names = list(trained) if perturbations is None else _names(perturbations, control)
    if not names:
        raise ValueError("The model was trained on no perturbation. Name some: `perturbations=[...]`.")
    if not metadata.has_dosage:
        if dosages is not None:
            raise ValueError(
                "`dosages` are given, but the model was set up without `dosage_key`. Leave them out, or set up and "
                "train a model with the dosage column."
            )
        asked = [Request(name, _NO_DOSAGE) for name in names]
    elif dosages is None:
        asked = [Request(name, dosage) for name in names for dosage in _trained(name, trained)]
    elif isinstance(dosages, Mapping) or _has_names(dosages):
        asked = _from_mapping(names, cast("Mapping[str, float | Sequence[float]]", dosages), control)
    elif isinstance(dosages, Real):
        asked = [Request(name, _dosage(dosages, name)) for name in names]
    else:
        values = list(cast("Sequence[float]", dosages))
        if perturbations is None or len(values) != len(names):
            raise ValueError(
                f"`dosages` lists {len(values)} numbers for {len(names)} perturbations; it must hold one for each of "
                f"`perturbations`. For several dosages of one perturbation use a dict: "
                f"dosages={{{names[0]!r}: {values!r}}}."
            )
        asked = [Request(name, _dosage(value, name)) for name, value in zip(names, values, strict=True)]
    unique = list(dict.fromkeys(asked))
    if len(unique) < len(asked):
        logger.info("%d repeated perturbations are predicted once.", len(asked) - len(unique))
    return unique


def request_labels(
    requests: Sequence[Request], perturbations: str | Sequence[str] | None, metadata: ScreenMetadata
) -> dict[str, str]:
    """Labels of requested perturbations in results: as they were asked for, else as the training data spell them.

    Parameters
    ----------
    requests
        Perturbations and dosages.
    perturbations
        Names as they were given; None for all that were trained on.
    metadata
        What the model knows of its training data.

    Returns
    -------
    Label of each canonical name.
    """
    given = [] if perturbations is None else [perturbations] if isinstance(perturbations, str) else list(perturbations)
    control = metadata.control.strip()
    asked = {canonical_name(parse_perturbation(name, control), control): name.strip() for name in reversed(given)}
    known = metadata.spellings | asked
    return {request.perturbation: known.get(request.perturbation, request.perturbation) for request in requests}


def _names(perturbations: str | Sequence[str], control: str) -> list[str]:
    """Canonical names of the perturbations."""
    if not isinstance(perturbations, Iterable):
        raise TypeError(
            f"`perturbations` must be a name or a list of names, but found {perturbations!r}. Names are strings: "
            f"{str(perturbations)!r}."
        )
    raw = [perturbations] if isinstance(perturbations, str) else list(perturbations)
    if not raw:
        raise ValueError("`perturbations` is empty. Name at least one, or leave it out to predict all.")
    names = [canonical_name(parse_perturbation(name, control), control) for name in raw]
    if control in names:
        raise ValueError(
            f"`perturbations` holds the control {control!r}, which is not predicted: the control cells that you give "
            "are its cells. Leave it out."
        )
    return names


def _trained(name: str, trained: Mapping[str, Sequence[float]]) -> Sequence[float]:
    if name in trained:
        return trained[name]
    raise ValueError(
        f"The training data have no dosage for {name!r}, so `dosages` must name one, for example "
        f"dosages={{{name!r}: 1.0}}."
    )


def _has_names(dosages: object) -> bool:
    """Whether dosages are a series that names perturbations, and not one that only numbers its values."""
    return isinstance(dosages, pd.Series) and any(isinstance(name, str) for name in dosages.index)


def _from_mapping(names: list[str], dosages: Mapping[str, float | Sequence[float]], control: str) -> list[Request]:
    """Pairs from a mapping of names to one or several dosages."""
    given: dict[str, float | Sequence[float]] = {}
    for spelling, value in dosages.items():
        name = canonical_name(parse_perturbation(spelling, control), control)
        if name in given:
            raise ValueError(
                f"`dosages` names {name!r} more than once. Give all its dosages as one list: "
                f"dosages={{{name!r}: [...]}}."
            )
        given[name] = value
    missing = [name for name in names if name not in given]
    if missing:
        raise ValueError(f"`dosages` holds none for {shorten(missing)}. Give one, or several, for each perturbation.")
    stray = [name for name in given if name not in names]
    if stray:
        raise ValueError(
            f"`dosages` names {shorten(stray)}, which is not among the perturbations to predict."
            f"{did_you_mean(stray[0], names)}"
        )
    asked = []
    for name in names:
        value = given[name]
        several = [value] if isinstance(value, Real) else list(cast("Sequence[float]", value))
        if not several:
            raise ValueError(f"`dosages` holds an empty list for {name!r}. Give at least one number.")
        asked += [Request(name, _dosage(each, name)) for each in several]
    return asked


def _dosage(value: object, name: str) -> float:
    """Return a dosage as a number, after a check."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"The dosage of {name!r} must be a number, but found {value!r}.")
    dosage = dosage_key(float(value))
    if not (np.isfinite(dosage) and dosage >= 0):
        raise ValueError(f"The dosage of {name!r} must be finite and at least 0, but found {value!r}.")
    return dosage
