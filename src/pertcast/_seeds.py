"""Random numbers of torch that depend on a seed alone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generator that initialises weights on the processor, and restore it afterwards.

    :func:`torch.manual_seed` would seed those of GPUs too, and they would stay so.

    Parameters
    ----------
    seed
        Seed, at least 0.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
