"""Splits of a screen by condition, never by cell."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from pertcast.data._holdout import HoldOutKind, hold_out, unit_labels
from pertcast.data._messages import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pertcast.data._index import ConditionIndex

__all__ = ["ConditionSplit", "Part", "read_split_labels", "split_conditions", "split_of_conditions"]

logger = logging.getLogger(__name__)


class Part(IntEnum):
    """Codes of the parts of a split."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


_PART_OF_LABEL = {
    "train": Part.TRAIN,
    "training": Part.TRAIN,
    "validation": Part.VALIDATION,
    "valid": Part.VALIDATION,
    "val": Part.VALIDATION,
    "test": Part.TEST,
}


@dataclass(frozen=True, eq=False, repr=False)
class ConditionSplit:
    """Ids of the perturbed conditions of each part, sorted.

    Parameters
    ----------
    train
        Conditions to train on.
    validation
        Conditions to validate on; may be empty.
    test
        Conditions that training never sees.
    kind
        What validation holds out: ``"labels"`` where the user's column says so, else the kind of
        :func:`split_conditions`.
    held_out
        Names of the units that validation holds out; empty for ``"labels"`` and ``"none"``.

    Examples
    --------
    >>> import pertcast as pc
    >>> index = pc.data.ConditionIndex.from_codes([0, 1, 2, 3], ["control", "A", "B", "A+B"])
    >>> split = pc.data.split_conditions(index, kind="combination")
    >>> split
    ConditionSplit[train=2, validation=1, test=0, kind='combination']
    >>> split.held_out, index.names(split.train)
    (('A+B',), ['A', 'B'])
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    kind: HoldOutKind | Literal["labels"]
    held_out: tuple[str, ...] = ()

    def train_on(self, conditions: np.ndarray, index: ConditionIndex) -> ConditionSplit:
        """Return the split with some of the validation conditions, and all of their units, moved to training.

        Parameters
        ----------
        conditions
            Ids of conditions that :func:`split_conditions` held out, not by labels.
        index
            Index of the screen, which knows their units.

        Raises
        ------
        ValueError
            If labels say what is held out.
        """
        if self.kind == "labels":
            raise ValueError("Labels say what is held out, and what they hold out is not trained on.")
        if not len(conditions):
            return self
        unit = np.array(unit_labels(index, self.validation, self.kind), dtype=object)
        moved = np.isin(unit, unit[np.isin(self.validation, conditions)])
        logger.info("%d of the conditions held out for validation are trained on all the same.", moved.sum())
        train, rest = np.union1d(self.train, self.validation[moved]), self.validation[~moved]
        units = tuple(sorted(set(unit[~moved])))
        return ConditionSplit(train, rest, self.test, self.kind if units else "none", units)

    def __repr__(self) -> str:
        """Return counts on one line."""
        return (
            f"ConditionSplit[train={len(self.train)}, validation={len(self.validation)}, test={len(self.test)}, "
            f"kind={self.kind!r}]"
        )


def read_split_labels(labels: Sequence[str]) -> np.ndarray:
    """Turn the labels of a split into the codes of :class:`Part`; letter case is ignored.

    Parameters
    ----------
    labels
        Distinct labels of the column.

    Raises
    ------
    ValueError
        If a label is none of train, validation (valid, val) and test.

    Examples
    --------
    >>> read_split_labels(["Test", "train", "val"]).tolist()
    [2, 0, 1]
    """
    unknown = [label for label in labels if str(label).strip().casefold() not in _PART_OF_LABEL]
    if unknown:
        raise ValueError(
            f"The split holds the label(s) {shorten(unknown)}, but each cell must be 'train', 'validation' (or "
            "'valid', 'val') or 'test'. Rename the labels, or drop the cells that belong to none."
        )
    return np.array([_PART_OF_LABEL[str(label).strip().casefold()] for label in labels], dtype=np.int8)


def split_of_conditions(index: ConditionIndex, parts: np.ndarray) -> np.ndarray:
    """Part of each condition, from the part of each cell.

    Parameters
    ----------
    index
        Index of the screen.
    parts
        Code of :class:`Part` for each cell, ``[N]``.

    Returns
    -------
    int8 ``[C]``; for control conditions, which may be in several parts, the lowest code.

    Raises
    ------
    ValueError
        If a perturbed condition has cells in two parts.
    """
    ordered = np.asarray(parts)[index.order]
    low = np.minimum.reduceat(ordered, index.groups.start) if len(index) else ordered
    high = np.maximum.reduceat(ordered, index.groups.start) if len(index) else ordered
    leaks = np.flatnonzero((low != high) & ~index.is_control)
    if leaks.size:
        raise ValueError(
            f"{len(leaks)} perturbed condition(s) have cells in more than one part of the split, which leaks them into "
            f"training: {shorten(index.names(leaks))}. Give all cells of a condition (perturbation, dosage, cell type, "
            "covariates and batch) one label."
        )
    return low.astype(np.int8)


def split_conditions(
    index: ConditionIndex,
    *,
    parts: np.ndarray | None = None,
    validation_size: float = 0.1,
    kind: HoldOutKind | Literal["auto"] = "auto",
    embedded: bool = False,
    seed: int = 0,
) -> ConditionSplit:
    """Split the perturbed conditions into train, validation and test.

    With ``parts``, the user's column says what is trained on, validated on and tested. Where it names no validation
    conditions, and where there is no column, conditions are held out of training for validation: see
    :func:`~pertcast.data._holdout.hold_out`.

    Parameters
    ----------
    index
        Index of the screen.
    parts
        Code of the part of each cell, ``[N]``: 0 to train on, 1 to validate on, 2 to test.
    validation_size
        Share of the units to hold out for validation, in [0, 1); 0 holds out none.
    kind
        What to hold out: ``"context"``, ``"batch"``, ``"combination"``, ``"perturbation"``, ``"condition"``,
        ``"none"`` or ``"auto"``.
    embedded
        Whether every perturbation has an embedding, so that a perturbation may be missing from training.
    seed
        Seed of the choice.

    Returns
    -------
    The conditions of each part.

    Raises
    ------
    ValueError
        If a perturbed condition is in two parts, if none is left for training, or if ``kind`` names units that cannot
        be held out.

    Examples
    --------
    A column of the user marks the cells of B (code 2) for testing:

    >>> import numpy as np
    >>> import pertcast as pc
    >>> index = pc.data.ConditionIndex.from_codes([0, 0, 1, 1, 2, 3], ["control", "A", "B", "C"])
    >>> split = pc.data.split_conditions(index, parts=np.array([0, 2, 0, 0, 2, 0]), kind="none")
    >>> index.names(split.train), index.names(split.test)
    (['A', 'C'], ['B'])
    """
    if not 0 <= validation_size < 1:
        raise ValueError(f"`validation_size` is a share in [0, 1), but found {validation_size}.")
    if kind not in (*get_args(HoldOutKind), "auto"):
        raise ValueError(f"`kind` must be one of {(*get_args(HoldOutKind), 'auto')}, but found {kind!r}.")
    pool = index.perturbed
    if not pool.size:
        raise ValueError(
            f"There are no perturbed cells to train on: the data hold {int(index.n_cells[index.is_control].sum())} "
            "control cells and no perturbed condition with enough cells. Give the model a screen with perturbed cells; "
            "controls alone are enough for `predict`."
        )
    part = np.zeros(len(index), dtype=np.int8) if parts is None else split_of_conditions(index, parts)
    train, validation, test = (pool[part[pool] == code] for code in (Part.TRAIN, Part.VALIDATION, Part.TEST))
    if not train.size:
        raise ValueError(
            "No perturbed condition is left for training: the split labels every perturbed cell 'validation' or "
            "'test'. Label some conditions 'train'."
        )
    if validation.size:
        split = ConditionSplit(train, validation, test, "labels")
    else:
        size_kind = kind if validation_size > 0 else "none"
        held = hold_out(index, train, kind=size_kind, size=validation_size, embedded=embedded, seed=seed)
        if held.kind == "none" and size_kind not in ("auto", "none"):
            raise ValueError(
                f"Nothing can be held out for validation with kind={kind!r}: every choice would leave training empty "
                "or without one of the perturbations. Use kind='auto' or kind='none', or name the validation "
                "conditions in `split_key`."
            )
        split = ConditionSplit(np.setdiff1d(train, held.conditions), held.conditions, test, held.kind, held.units)
    _log(split, held_by_labels=bool(validation.size))
    return split


def _log(split: ConditionSplit, *, held_by_labels: bool) -> None:
    if held_by_labels:
        reason = "as the split column says"
    elif split.held_out:
        reason = f"held out by {split.kind}: {shorten(split.held_out)}"
    else:
        reason = "nothing is held out for validation"
    logger.info(
        "%d conditions for training, %d for validation, %d for testing; %s.",
        len(split.train),
        len(split.validation),
        len(split.test),
        reason,
    )
