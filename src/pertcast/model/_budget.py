"""A sensible training budget for the data at hand."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Budget", "default_budget"]


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

    Examples
    --------
    >>> default_budget(50)
    Budget(max_epochs=14, steps_per_epoch=25)
    """
    n_steps = min(250 + 2 * n_conditions, 20_000)
    length = steps_per_epoch or max(25, n_steps // 40)
    return Budget(max_epochs or -(-n_steps // length), length)
