"""Defaults of training: length, and seed."""

from __future__ import annotations

from typing import NamedTuple

from scvi import settings

__all__ = ["Budget", "default_budget", "default_seed"]


class Budget(NamedTuple):
    """Length of a training run."""

    max_epochs: int
    steps_per_epoch: int

    @property
    def n_steps(self) -> int:
        """Number of steps."""
        return self.max_epochs * self.steps_per_epoch


def default_budget(n_conditions: int, *, max_epochs: int | None = None, steps_per_epoch: int | None = None) -> Budget:
    """Choose the number of steps from the number of training conditions.

    250 steps, and two more for each condition, up to 20,000; in epochs of 25 steps, or of a 40th of all steps where
    that is more.

    Parameters
    ----------
    n_conditions
        Training conditions.
    max_epochs
        Number of epochs, if it is given.
    steps_per_epoch
        Steps of an epoch, if they are given.

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
    n_steps = min(250 + 2 * n_conditions, 20_000)
    length = steps_per_epoch or max(25, n_steps // 40)
    return Budget(max_epochs or -(-n_steps // length), length)


def default_seed() -> int:
    """Seed of scvi-tools, or 0 where none is set."""
    return int(settings.seed) if settings.seed is not None else 0
