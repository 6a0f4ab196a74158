"""Drawing sets of cells from populations."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch.distributed
from torch.utils.data import DistributedSampler, Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

    from pertcast.data._controls import MatchedControls
    from pertcast.data._groups import RowGroups

__all__ = ["PopulationSampler", "SequentialPopulations", "SetRequest"]


class SetRequest(NamedTuple):
    """Rows of B sets of cells and of their matched controls.

    Examples
    --------
    >>> import pertcast as pc
    >>> index = pc.data.ConditionIndex.from_codes([0, 0, 0, 1, 1], ["control", "A"])
    >>> sampler = pc.data.SequentialPopulations(
    ...     index.groups, pc.data.match_controls(index), [1], n_sets=1, set_size=3, n_controls=3
    ... )
    >>> request = next(iter(sampler))
    >>> request.target.tolist(), request.target_mask.tolist(), request.control.tolist()
    ([[3, 4, -1]], [[True, True, False]], [[0, 1, 2]])
    """

    condition: np.ndarray
    """Condition of each set, int64 ``[B]``."""
    target: np.ndarray
    """Rows of the cells of each set, int64 ``[B, M]``; -1 pads a population of fewer than M cells."""
    control: np.ndarray
    """Rows of matched control cells, int64 ``[B, N]``; -1 pads."""

    @property
    def target_mask(self) -> np.ndarray:
        """Where ``target`` holds a cell, bool ``[B, M]``."""
        return self.target >= 0

    @property
    def control_mask(self) -> np.ndarray:
        """Where ``control`` holds a cell, bool ``[B, N]``."""
        return self.control >= 0


def draw_rows(rows: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rows without replacement; all of them, padded with -1, where there are fewer than asked for.

    Parameters
    ----------
    rows
        Rows to draw from.
    size
        Number of rows to draw.
    rng
        Source of randomness.
    """
    if len(rows) > size:
        return rows[rng.choice(len(rows), size, replace=False)].astype(np.int64)
    drawn = np.full(size, -1, dtype=np.int64)
    drawn[: len(rows)] = rows
    return drawn


class _SetDrawer:
    """Draws one request for given conditions."""

    def __init__(self, groups: RowGroups, controls: MatchedControls, set_size: int, n_controls: int) -> None:
        self.groups, self.controls = groups, controls
        self.set_size, self.n_controls = set_size, n_controls

    def __call__(self, conditions: np.ndarray, rngs: list[np.random.Generator]) -> SetRequest:
        target = np.empty((len(conditions), self.set_size), dtype=np.int64)
        control = np.empty((len(conditions), self.n_controls), dtype=np.int64)
        for i, (condition, rng) in enumerate(zip(conditions, rngs, strict=True)):
            target[i] = draw_rows(self.groups.rows(condition), self.set_size, rng)
            control[i] = draw_rows(self.controls.rows(condition), self.n_controls, rng)
        return SetRequest(np.asarray(conditions, dtype=np.int64), target, control)


class PopulationSampler(DistributedSampler[SetRequest]):
    """Endless random sets for training, cut into epochs of a fixed number of steps.

    Conditions come in shuffled passes, so within an epoch no condition is drawn more than once more often than
    another. The cells of a set are drawn without replacement; a population of fewer than ``set_size`` cells gives all
    its cells, never a cell twice. The stream depends on ``(seed, epoch, rank)`` alone.

    Implementation: Lightning wraps any sampler that is not a ``DistributedSampler`` when it trains on several devices,
    and leaves this one alone. Rank and number of processes are asked for when an epoch starts, unless they are given,
    so the sampler can be made before the processes know each other. All ranks get the same number of steps, each its
    own stream; a step on R ranks therefore uses R times ``n_sets`` sets.

    Parameters
    ----------
    groups
        Rows of all conditions.
    controls
        Matched controls; those of each of ``conditions`` are needed.
    conditions
        Conditions to draw from.
    n_sets
        Sets B of one request.
    set_size
        Cells M of a set.
    n_controls
        Control cells N of a set.
    steps_per_epoch
        Requests of an epoch, on each rank.
    seed
        Seed of the stream.
    num_replicas
        Number of processes; asked of :mod:`torch.distributed` by default.
    rank
        Rank of this process; asked of :mod:`torch.distributed` by default.

    Raises
    ------
    ValueError
        If there are no conditions, a size or number of steps is below 1, only one of ``num_replicas`` and ``rank`` is
        given, or ``rank`` is not in [0, ``num_replicas``).

    Examples
    --------
    >>> import pertcast as pc
    >>> index = pc.data.ConditionIndex.from_codes([0, 0, 0, 1, 1, 2, 2], ["control", "A", "B"])
    >>> sizes = {"n_sets": 2, "set_size": 2, "n_controls": 3, "steps_per_epoch": 4}
    >>> sampler = pc.data.PopulationSampler(index.groups, pc.data.match_controls(index), index.perturbed, **sizes)
    >>> requests = list(sampler)
    >>> len(requests), requests[0].target.shape
    (4, (2, 2))
    >>> [sorted(request.condition.tolist()) for request in requests]
    [[1, 2], [1, 2], [1, 2], [1, 2]]
    """

    def __init__(
        self,
        groups: RowGroups,
        controls: MatchedControls,
        conditions: ArrayLike,
        *,
        n_sets: int,
        set_size: int,
        n_controls: int,
        steps_per_epoch: int,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        self.conditions = _nonempty(conditions)
        _require_positive(n_sets=n_sets, set_size=set_size, n_controls=n_controls, steps_per_epoch=steps_per_epoch)
        if (num_replicas is None) != (rank is None):
            raise ValueError("Give both `num_replicas` and `rank`, or neither.")
        super().__init__(
            _Sized(steps_per_epoch), num_replicas=num_replicas or 1, rank=rank or 0, shuffle=True, seed=seed
        )
        self._asks_for_rank = rank is None
        self._draw = _SetDrawer(groups, controls, set_size, n_controls)
        self.n_sets = n_sets
        self.steps_per_epoch = steps_per_epoch

    def __iter__(self) -> Iterator[SetRequest]:
        """Yield the requests of the epoch set with ``set_epoch``."""
        if self._asks_for_rank and torch.distributed.is_available() and torch.distributed.is_initialized():
            self.num_replicas, self.rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        rng = np.random.default_rng((self.seed, self.epoch, self.rank))
        waiting = np.zeros(0, dtype=np.int64)
        for _ in range(self.steps_per_epoch):
            while len(waiting) < self.n_sets:
                waiting = np.concatenate([waiting, rng.permutation(self.conditions)])
            chosen, waiting = waiting[: self.n_sets], waiting[self.n_sets :]
            yield self._draw(chosen, [rng] * self.n_sets)

    def __len__(self) -> int:
        """Return the number of requests of an epoch."""
        return self.steps_per_epoch


class SequentialPopulations(Sampler[SetRequest]):
    """One set for each condition, the same in every epoch: for validation.

    The draw of a condition depends on the seed and its id, not on the conditions beside it. Lightning shares the
    requests out among the ranks.

    Parameters
    ----------
    groups
        Rows of all conditions.
    controls
        Matched controls; those of each of ``conditions`` are needed.
    conditions
        Conditions to draw from, in this order.
    n_sets
        Sets B of a request; the last one may hold fewer.
    set_size
        Cells M of a set.
    n_controls
        Control cells N of a set.
    seed
        Seed of the draws.

    Raises
    ------
    ValueError
        If there are no conditions, or a size is below 1.

    Examples
    --------
    >>> import pertcast as pc
    >>> index = pc.data.ConditionIndex.from_codes([0, 0, 1, 2, 3], ["control", "A", "B", "C"])
    >>> sampler = pc.data.SequentialPopulations(
    ...     index.groups, pc.data.match_controls(index), index.perturbed, n_sets=2, set_size=1, n_controls=2
    ... )
    >>> [(request.condition.tolist(), request.target.tolist()) for request in sampler]
    [([1, 2], [[2], [3]]), ([3], [[4]])]
    """

    def __init__(
        self,
        groups: RowGroups,
        controls: MatchedControls,
        conditions: ArrayLike,
        *,
        n_sets: int,
        set_size: int,
        n_controls: int,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.conditions = _nonempty(conditions)
        _require_positive(n_sets=n_sets, set_size=set_size, n_controls=n_controls)
        self._draw = _SetDrawer(groups, controls, set_size, n_controls)
        self.n_sets = n_sets
        self.seed = seed

    def __iter__(self) -> Iterator[SetRequest]:
        """Yield the requests."""
        for first in range(0, len(self.conditions), self.n_sets):
            chosen = self.conditions[first : first + self.n_sets]
            yield self._draw(chosen, [np.random.default_rng((self.seed, int(condition))) for condition in chosen])

    def __len__(self) -> int:
        """Return the number of requests."""
        return -(-len(self.conditions) // self.n_sets)


class _Sized(torch.utils.data.Dataset[SetRequest]):
    """Gives ``DistributedSampler`` the length that it asks for."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


def _nonempty(conditions: ArrayLike) -> np.ndarray:
    ids = np.asarray(conditions, dtype=np.int64).reshape(-1)
    if not ids.size:
        raise ValueError("There are no conditions to draw sets from.")
    return ids


def _require_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"`{name}` must be at least 1, but found {size}.")
