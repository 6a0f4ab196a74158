"""Defaults of training: length, and seed."""

from __future__ import annotations

from typing import NamedTuple

from scvi import settings

__all__ = ["Budget", "default_budget", "default_seed"]

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
    ValueError
        If a number is below 1.

    Examples
    --------
    >>> default_budget(50)
    Budget(max_epochs=14, steps_per_epoch=25)
    """
    for name, value in (("max_epochs", max_epochs), ("steps_per_epoch", steps_per_epoch)):
        if value is not None and value < 1:
            raise ValueError(f"`{name}` must be at least 1, but found {value}. Leave it out for the default.")
    total = min(n_steps + per_condition * n_conditions, _MAX_STEPS)
    length = steps_per_epoch or max(shortest_epoch, total // 40)
    return Budget(max_epochs or -(-total // length), length)


def default_seed() -> int:
    """Seed of scvi-tools, or 0 where none is set."""
    return int(settings.seed) if settings.seed is not None else 0
