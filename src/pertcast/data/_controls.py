"""Control cells matched to conditions, with an explicit fallback."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from pertcast.data._codes import combine_codes
from pertcast.data._groups import RowGroups
from pertcast.data._messages import shorten

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pertcast.data._index import ConditionIndex

__all__ = ["DEFAULT_MIN_CONTROLS", "MatchLevel", "MatchedControls", "match_controls"]

logger = logging.getLogger(__name__)

DEFAULT_MIN_CONTROLS = 5


class MatchLevel(IntEnum):
    """How closely the controls of a condition match it.

    Examples
    --------
    >>> import pertcast as pc
    >>> index = pc.data.ConditionIndex.from_codes(
    ...     [0, 0, 1, 1], ["control", "A"], batch=[0, 0, 0, 1], batch_names=["day 1", "day 2"]
    ... )
    >>> level = pc.data.match_controls(index).level[index.perturbed]
    >>> [pc.data.MatchLevel(each).name for each in level]
    ['CONTEXT_BATCH', 'CONTEXT']
    """

    CONTEXT_BATCH = 0
    """Same context and same batch."""
    CONTEXT = 1
    """Same context, any batch."""
    BATCH = 2
    """Same batch, any context."""


@dataclass(frozen=True, eq=False, repr=False)
class MatchedControls:
    """Control cells of each condition; conditions share groups, so that no row is stored for each condition.

    Parameters
    ----------
    groups
        The Q groups of control rows that are in use.
    group
        Group of each condition of the index, int32 ``[C]``; -1 for conditions that were not asked for.
    level
        :class:`MatchLevel` of each condition, int8 ``[C]``; -1 for conditions that were not asked for.

    Examples
    --------
    >>> import pertcast as pc
    >>> index = pc.data.ConditionIndex.from_codes(
    ...     [0, 0, 0, 1, 1, 2], ["control", "A", "B"], context=[0, 0, 1, 0, 1, 0], context_names=["B cells", "T cells"]
    ... )
    >>> controls = pc.data.match_controls(index)
    >>> controls
    MatchedControls[n_groups=2, context_batch=3, context=0, batch=0]
    >>> index.names(index.perturbed)
    ['A | B cells', 'A | T cells', 'B | B cells']
    >>> [controls.rows(condition).tolist() for condition in index.perturbed]
    [[0, 1], [2], [0, 1]]
    """

    groups: RowGroups
    group: np.ndarray
    level: np.ndarray

    def rows(self, condition: int | np.integer) -> np.ndarray:
        """Row numbers of the controls of a condition, as a view.

        Raises
        ------
        KeyError
            If no controls were matched to the condition.
        """
        group = self.group[condition]
        if group < 0:
            raise KeyError(f"No controls were matched to condition {condition}.")
        return self.groups.rows(group)

    def __repr__(self) -> str:
        """Return counts on one line."""
        counts = ", ".join(f"{level.name.lower()}={np.count_nonzero(self.level == level)}" for level in MatchLevel)
        return f"MatchedControls[n_groups={len(self.groups)}, {counts}]"


def match_controls(
    index: ConditionIndex,
    *,
    conditions: ArrayLike | None = None,
    usable: np.ndarray | None = None,
    min_controls: int = DEFAULT_MIN_CONTROLS,
    log: bool = True,
) -> MatchedControls:
    """Match control cells to conditions.

    A condition gets the controls of its context and batch. If there are fewer than ``min_controls`` of them it gets
    all controls of its context, from any batch; if its context has none at all, those of its batch, whatever their
    context. The last step needs at least two batches: a batch that holds all cells says nothing about one of them.
    What was used is logged in one line.

    Parameters
    ----------
    index
        Index of the screen.
    conditions
        Conditions to match; the perturbed ones that are not skipped by default.
    usable
        Control cells that may be used, bool ``[N]``; all by default.
    min_controls
        Smallest number of controls that is preferred to those of other batches. The squared error of a mean of n
        cells is 1/n of the variance between cells: with the default of 5 it is a fifth, about what the difference
        between batches of one cell type adds.
    log
        Whether to log the levels that were used.

    Returns
    -------
    The controls of every condition.

    Raises
    ------
    ValueError
        If a condition has no controls by these rules, naming its context.

    Examples
    --------
    The second batch has a single control, so its condition gets those of both batches:

    >>> import pertcast as pc
    >>> index = pc.data.ConditionIndex.from_codes(
    ...     [0, 0, 0, 1, 1], ["control", "A"], batch=[0, 0, 1, 0, 1], batch_names=["day 1", "day 2"]
    ... )
    >>> controls = pc.data.match_controls(index, min_controls=2)
    >>> [controls.rows(condition).tolist() for condition in index.perturbed]
    [[0, 1], [0, 1, 2]]
    """
    wanted = index.perturbed if conditions is None else np.asarray(conditions, dtype=np.int64)
    rows, context, batch = _control_cells(index, usable)
    n_batches = len(index.batch_names)

    # Controls are sorted by context and then batch, so both kinds of groups are slices of `rows`.
    by_pair = _runs(combine_codes([(context, len(index.context_names)), (batch, n_batches)]))
    by_context = _runs(context)
    by_batch_order = np.argsort(batch, kind="stable")
    by_batch = _runs(batch[by_batch_order])

    target_context, target_batch = index.context[wanted].astype(np.int64), index.batch[wanted].astype(np.int64)
    pair, n_pair = by_pair.find(target_context * n_batches + target_batch)
    whole, n_whole = by_context.find(target_context)
    any_context, n_any_context = by_batch.find(target_batch)
    use_pair = (n_pair > 0) & ((n_pair >= min_controls) | (n_pair == n_whole))
    level = np.where(use_pair, MatchLevel.CONTEXT_BATCH, np.where(n_whole > 0, MatchLevel.CONTEXT, MatchLevel.BATCH))
    lost = (level == MatchLevel.BATCH) & ((n_any_context == 0) | (n_batches == 1))
    if lost.any():
        _raise_without_controls(index, np.unique(target_context[lost]), np.unique(target_batch[lost]))

    offsets = np.array([0, len(by_pair.start), len(by_pair.start) + len(by_context.start)])
    candidates = np.stack([pair, whole, any_context])[level, np.arange(len(wanted))] + offsets[level]
    used, inverse = np.unique(candidates, return_inverse=True)
    needs_batch = bool((level == MatchLevel.BATCH).any())
    shift = len(rows) if needs_batch else 0
    groups = RowGroups(
        np.concatenate([rows, rows[by_batch_order]]) if needs_batch else rows,
        np.concatenate([by_pair.start, by_context.start, by_batch.start + shift])[used],
        np.concatenate([by_pair.stop, by_context.stop, by_batch.stop + shift])[used],
    )
    group = np.full(len(index), -1, dtype=np.int32)
    levels = np.full(len(index), -1, dtype=np.int8)
    group[wanted], levels[wanted] = inverse, level
    matched = MatchedControls(groups, group, levels)
    if log:
        _log_levels(index, matched, wanted)
    return matched


@dataclass(frozen=True, eq=False)
class _Runs:
    """Runs of equal values in a sorted array."""

    value: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def find(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run of each value, and its length; length 0 (and run 0) where there is none."""
        if not len(self.value):
            return np.zeros(len(values), dtype=np.int64), np.zeros(len(values), dtype=np.int64)
        run = np.minimum(np.searchsorted(self.value, values), len(self.value) - 1)
        length = np.where(self.value[run] == values, (self.stop - self.start)[run], 0)
        return np.where(length > 0, run, 0), length


def _runs(values: np.ndarray) -> _Runs:
    start = np.flatnonzero(np.r_[len(values) > 0, values[1:] != values[:-1]])
    return _Runs(values[start], start, np.r_[start[1:], len(values)][: len(start)])


def _control_cells(index: ConditionIndex, usable: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, contexts and batches of the usable control cells, sorted by context and batch."""
    controls = np.flatnonzero(index.is_control)
    sizes = index.n_cells[controls]
    rows = index.order[: sizes.sum()]  # the control conditions come first
    context, batch = np.repeat(index.context[controls], sizes), np.repeat(index.batch[controls], sizes)
    if usable is None:
        return rows, context, batch
    keep = usable[rows]
    return rows[keep], context[keep], batch[keep]


def _raise_without_controls(index: ConditionIndex, contexts: np.ndarray, batches: np.ndarray) -> None:
    names = [index.context_names[code] for code in contexts]
    found = shorten(index.batch_names[code] for code in batches)
    nor_batch = f", and none in its batch(es) {found}" if len(index.batch_names) > 1 else ""
    raise ValueError(
        f"No control cells for the context(s) {shorten(names)}: there are none in the context{nor_batch}. Add control "
        f"cells of these contexts (label {index.perturbation_names[0]!r}), join them with a context that has controls, "
        "or leave their cells out."
    )


def _log_levels(index: ConditionIndex, matched: MatchedControls, conditions: np.ndarray) -> None:
    levels = matched.level[conditions]
    fallback = conditions[levels != MatchLevel.CONTEXT_BATCH]
    message = (
        f"Controls of {len(conditions)} conditions: {np.count_nonzero(levels == MatchLevel.CONTEXT_BATCH)} from the "
        f"same context and batch, {np.count_nonzero(levels == MatchLevel.CONTEXT)} from the same context in any batch, "
        f"{np.count_nonzero(levels == MatchLevel.BATCH)} from the same batch in any context"
    )
    if fallback.size:
        logger.warning("%s; not from the same context and batch: %s.", message, shorten(index.names(fallback)))
    else:
        logger.info("%s.", message)
