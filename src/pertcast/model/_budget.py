"""Defaults of training: length, and seed."""

from __future__ import annotations

from typing import NamedTuple

from scvi import settings

from pertcast._numbers import check_whole

__all__ = ["Budget", "default_budget", "default_seed", "limit_budget", "resolve_seed"]

_MAX_STEPS = 20_000


class Budget(NamedTuple):
    """Length of a training run."""

    max_epochs: int
    steps_per_epoch: int

    @property
    def n_steps(self) -> int:
        """Number of steps."""
        return self.max_epochs * self.steps_per_epoch


def default_budget(
    n_conditions: int,
    *,
    max_epochs: int | None = None,
    steps_per_epoch: int | None = None,
    n_steps: int = 250,
    per_condition: int = 2,
    shortest_epoch: int = 25,
) -> Budget:
    """Choose the number of steps from the number of training conditions.

    `n_steps`, and `per_condition` more for each condition, up to 20,000; in epochs of a 40th of all steps, but of
    `shortest_epoch` at least.

    Parameters
    ----------
    n_conditions
        Training conditions.
    max_epochs
        Number of epochs, if it is given.
    steps_per_epoch
        Steps of an epoch, if they are given.
    n_steps
        Steps of a model without conditions.
    per_condition
        Further steps for each condition.
    shortest_epoch
        Least length of an epoch that is not given.

    Raises
    ------
    TypeError
        If a number is not a whole one.
    ValueError
        If a number is below 1.

    Examples
    --------
    >>> default_budget(50)
    Budget(max_epochs=14, steps_per_epoch=25)
    """
    for name, value in (("max_epochs", max_epochs), ("steps_per_epoch", steps_per_epoch)):
        if value is not None:
            check_whole(name, value)
    total = min(n_steps + per_condition * n_conditions, _MAX_STEPS)
    length = steps_per_epoch or max(shortest_epoch, total // 40)
    return Budget(max_epochs or -(-total // length), length)


def limit_budget(budget: Budget, max_steps: int | None, *, max_epochs: int | None) -> Budget:
    """Fit the epochs of a run to the steps that are asked for.

    Parameters
    ----------
    budget
        Length of training without that number.
    max_steps
        Number of steps; None, and -1 as in Lightning, for no such limit.
    max_epochs
        Number of epochs, if it was given too; the run ends with what comes first.

    Raises
    ------
    TypeError
        If the number is not a whole one.
    ValueError
        If it is below 1.

    Examples
    --------
    >>> limit_budget(Budget(14, 25), 20, max_epochs=None), limit_budget(Budget(14, 25), 1000, max_epochs=None)
    (Budget(max_epochs=1, steps_per_epoch=20), Budget(max_epochs=40, steps_per_epoch=25))
    """
    if max_steps is None or max_steps == -1:
        return budget
    length = min(budget.steps_per_epoch, check_whole("max_steps", max_steps))
    n_epochs = -(-max_steps // length)
    return Budget(n_epochs if max_epochs is None else min(max_epochs, n_epochs), length)


def resolve_seed(seed: int | None) -> int:
    """Check a seed that a user gives, or return the default one.

    Parameters
    ----------
    seed
        Seed; None for the default one.

    Raises
    ------
    TypeError
        If the seed is not a whole number.
    ValueError
        If it is below 0.
    """
    return default_seed() if seed is None else check_whole("seed", seed, least=0)


def default_seed() -> int:
    """Seed of scvi-tools, or 0 where none is set."""
    return int(settings.seed) if settings.seed is not None else 0
