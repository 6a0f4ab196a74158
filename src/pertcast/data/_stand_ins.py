"""Measured perturbations that stand in for ones that were never measured, at the user's explicit choice."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import numpy as np

from pertcast.data._grammar import parse_perturbation
from pertcast.data._messages import did_you_mean, shorten
from pertcast.data._neighbours import nearest_vectors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pertcast.data._vocabulary import PerturbationVocabulary

__all__ = ["Unseen", "find_stand_ins"]

logger = logging.getLogger(__name__)

Unseen = Literal["error", "mean", "neighbours"]

N_NEIGHBOURS = 5


def find_stand_ins(
    names: Iterable[str],
    vocabulary: PerturbationVocabulary,
    unseen: Unseen,
    *,
    measured: Collection[str] | None = None,
) -> dict[str, tuple[str, ...]]:
    """List the measured perturbations that stand in for each single perturbation that was never measured.

    Parameters
    ----------
    names
        Perturbations and combinations to predict.
    vocabulary
        Perturbations that the model knows.
    unseen
        ``"error"``: none stand in, and a perturbation that was not measured and has no vector is an error. ``"mean"``:
        all measured ones stand in for such a perturbation. ``"neighbours"``: the five with the most similar vectors
        (cosine, after centring) stand in for every perturbation that was not measured; one without a vector is an
        error.
    measured
        Single perturbations with training cells; by default all that the vocabulary counts as trained.

    Returns
    -------
    Measured names for each single perturbation that needs them; others are left out.

    Raises
    ------
    ValueError
        If a perturbation is unknown, ``unseen`` is none of the three, or ``"neighbours"`` is asked for without
        vectors.

    Examples
    --------
    >>> from pertcast.data import PerturbationVocabulary
    >>> vocabulary = PerturbationVocabulary(["A", "B"])
    >>> find_stand_ins(["A", "A+C"], vocabulary, "mean")
    {'C': ('A', 'B')}
    """
    if unseen not in ("error", "mean", "neighbours"):
        raise ValueError(f"unseen={unseen!r} is unknown; choose 'error', 'mean' or 'neighbours'.")
    names = list(names)
    known = tuple(sorted(vocabulary.trained_names if measured is None else measured))
    parts = {part for name in names for part in parse_perturbation(name, vocabulary.control)}
    missing = sorted(parts.difference(known))
    if unseen == "neighbours" and vocabulary.vectors is None:
        raise ValueError(
            "unseen='neighbours' needs vectors to find neighbours by. Register a table of them with "
            "`perturbation_embedding_key`, or use unseen='mean'."
        )
    if unseen == "mean":
        silent = missing if vocabulary.vectors is None else vocabulary.unknown(names)
        found = dict.fromkeys(silent, known)
    else:
        unknown = vocabulary.unknown(names)
        if unseen == "neighbours" and unknown:
            raise ValueError(
                f"unseen='neighbours' finds neighbours by vectors, but {shorten(unknown)} has none in the table that "
                f"`perturbation_embedding_key` names.{did_you_mean(unknown[0], vocabulary.names)} Set the model up "
                "with a vector for it, or use unseen='mean'."
            )
        vocabulary.encode(names)  # raises for a perturbation that the model does not know
        if vocabulary.vectors is None and missing:
            raise ValueError(
                f"{shorten(missing)} has no cells in the training part of the data and no vector, so nothing is known "
                "of it. Register vectors with `perturbation_embedding_key`, or choose unseen='mean'."
            )
        found = {name: _neighbours(name, vocabulary, known) for name in missing} if unseen == "neighbours" else {}
    for name, others in found.items():
        logger.info("%s was never measured; in its place stands the mean of %s.", name, shorten(others))
    return found


def _neighbours(name: str, vocabulary: PerturbationVocabulary, known: tuple[str, ...]) -> tuple[str, ...]:
    """Measured perturbations with the most similar vectors, the nearest first."""
    vectors = np.asarray(vocabulary.vectors, dtype=float)
    row = {each: number for number, each in enumerate(vocabulary.names)}
    nearest = nearest_vectors(vectors[row[name]], vectors[[row[each] for each in known]], N_NEIGHBOURS)
    return tuple(known[position] for position in nearest)
