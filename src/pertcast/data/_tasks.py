"""One predicted population as a unit of work, with its own source of randomness."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pertcast.data._grammar import parse_perturbation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._request import Request

__all__ = ["PredictionTask", "make_tasks"]

_MOST_VALUES, _LEAST_CELLS = 2**26, 2**12
"""Expression of a task, 256 MiB; and the cells that it may have whatever the number of genes."""


@dataclass(frozen=True, eq=False)
class PredictionTask:
    """One population to predict, or a part of a large one: control population x perturbation x dosage x draw.

    Parameters
    ----------
    population
        Control cells to start from.
    perturbation
        Canonical name.
    part_names
        Its K single perturbations, sorted.
    stand_ins
        For each of them the names that speak for it: itself, or the measured perturbations that stand in for it.
    dosage
        Dosage; 1 where the screen has none.
    draw
        Number of the draw, from 0.
    sources
        Row of the control cell that each predicted cell starts from, int64 ``[n]``.
    seed
        Root of all randomness of this task. It depends on the user's seed, on the names of context, batch,
        perturbation, dosage and draw, and on the number of the part alone, so what else is predicted, the order of the
        cells and the batch size make no difference.
    """

    population: ControlPopulation
    perturbation: str
    part_names: tuple[str, ...]
    stand_ins: tuple[tuple[str, ...], ...]
    dosage: float
    draw: int
    sources: np.ndarray
    seed: np.random.SeedSequence

    def rng(self) -> np.random.Generator:
        """Return a new NumPy generator; every call starts the same stream."""
        return np.random.default_rng(self.seed)

    def torch_seed(self) -> int:
        """Return a seed for a :class:`torch.Generator`, in [0, 2^63)."""
        return int(self.seed.generate_state(1, np.uint64)[0] >> np.uint64(1))


def make_tasks(
    query: ControlQuery,
    requests: Sequence[Request],
    *,
    n_cells: int | None = None,
    n_populations: int = 1,
    seed: int = 0,
    stand_ins: Mapping[str, tuple[str, ...]] | None = None,
) -> list[PredictionTask]:
    """List the populations to predict: by request, then draw, then control population.

    A population whose expression would take more than 256 MiB, and that has more than 4,096 cells, is cut into parts,
    at random and of nearly equal size, so that the memory of a prediction has a bound.

    Parameters
    ----------
    query
        Control cells.
    requests
        Perturbations and dosages.
    n_cells
        Predicted cells for each context, spread over its batches in proportion to their controls; one for each control
        cell by default. Source cells are drawn without replacement while they last, then all over again.
    n_populations
        Number of independent draws.
    seed
        Seed of all draws.
    stand_ins
        Measured perturbations that stand in for others; see :func:`~pertcast.data._stand_ins.find_stand_ins`.
    """
    replaced = dict(stand_ins or {})
    sizes = _sizes(query.populations, n_cells)
    sources = {
        (i, draw): _parts(
            _sources(population, size, _seed_of(seed, "sources", population, draw)),
            max(_LEAST_CELLS, _MOST_VALUES // len(query.metadata.var_names)),
            _seed_of(seed, "parts", population, draw),
        )
        for i, (population, size) in enumerate(zip(query.populations, sizes, strict=True))
        for draw in range(n_populations)
    }
    tasks = []
    for request in requests:
        parts = parse_perturbation(request.perturbation, query.metadata.control)
        for draw in range(n_populations):
            for i, population in enumerate(query.populations):
                for number, of_part in enumerate(sources[i, draw]):
                    names = [request.perturbation, repr(request.dosage), *([f"part {number}"] if number else [])]
                    tasks.append(
                        PredictionTask(
                            population=population,
                            perturbation=request.perturbation,
                            part_names=parts,
                            stand_ins=tuple(replaced.get(part, (part,)) for part in parts),
                            dosage=request.dosage,
                            draw=draw,
                            sources=of_part,
                            seed=_seed_of(seed, "cells", population, draw, *names),
                        )
                    )
    return tasks


def _sizes(populations: Sequence[ControlPopulation], n_cells: int | None) -> list[int | None]:
    """Cells to predict for each population; ``None`` for one for each control cell."""
    if n_cells is None:
        return [None] * len(populations)
    sizes: list[int | None] = [0] * len(populations)
    for name in dict.fromkeys(population.context_name for population in populations):
        of_context = [i for i, population in enumerate(populations) if population.context_name == name]
        weights = np.array([len(populations[i].rows) for i in of_context])
        for i, size in zip(of_context, _apportion(n_cells, weights), strict=True):
            sizes[i] = size
    return sizes


def _apportion(total: int, weights: np.ndarray) -> list[int]:
    """Share out a whole number in proportion to weights: the largest remainders are rounded up, the first of equals.

    Examples
    --------
    >>> _apportion(10, np.array([1, 1, 2]))
    [3, 2, 5]
    """
    exact = total * weights.astype(np.int64)
    shares = exact // weights.sum()
    left = total - int(shares.sum())
    shares[np.argsort(-(exact % weights.sum()), kind="stable")[:left]] += 1
    return shares.tolist()


def _sources(population: ControlPopulation, size: int | None, root: np.random.SeedSequence) -> np.ndarray:
    """Rows of the cells that predicted cells start from."""
    rows = population.rows.astype(np.int64)
    if size is None:
        return rows
    rounds, rest = divmod(size, len(rows))
    drawn = np.random.default_rng(root).choice(len(rows), rest, replace=False)
    return np.concatenate([np.tile(rows, rounds), rows[np.sort(drawn)]])


def _parts(sources: np.ndarray, n_most: int, root: np.random.SeedSequence) -> list[np.ndarray]:
    """Cut sources into random parts of at most ``n_most`` cells, in which they keep their order."""
    n_parts = -(-len(sources) // n_most)
    if n_parts <= 1:
        return [sources] * n_parts
    order = np.random.default_rng(root).permutation(len(sources))
    return [sources[np.sort(part)] for part in np.array_split(order, n_parts)]


def _seed_of(seed: int, purpose: str, population: ControlPopulation, draw: int, *names: str) -> np.random.SeedSequence:
    """Seed sequence of a task, from names that are the same in every run and on every machine."""
    labels = [purpose, *population.context.values(), population.batch, *names, str(draw)]
    text = "".join(f"{len(label)}:{label}" for label in labels)  # lengths keep neighbours apart
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.SeedSequence([seed, *np.frombuffer(digest, dtype="<u4").tolist()])
