"""From prediction tasks to the tensors of sampling requests, many tasks at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pertcast.data._messages import shorten
from pertcast.model._means import PopulationMeans
from pertcast.model._zeros import ZeroRestorer
from pertcast.module import SampleRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._tasks import PredictionTask
    from pertcast.model._forecast import Forecaster
    from pertcast.module import PopulationModule

__all__ = ["PopulationDrawer", "identity_code"]

_VALUES_ON_CPU, _VALUES_ON_GPU = 2**21, 2**25


def identity_code(names: Sequence[str], trained: Collection[str], name: str, column: str) -> int:
    """Code of a context or batch whose identity a model embeds.

    Parameters
    ----------
    names
        All names, in the order of their codes.
    trained
        Those with perturbed cells that the network was trained on.
    name
        The one asked for.
    column
        What it is, for the message.

    Raises
    ------
    ValueError
        If the network was not trained on it.
    """
    if name not in trained:
        raise ValueError(
            f"This model embeds the identity of every {column}, and was not trained on perturbed cells of {name!r}, "
            f"only on those of {shorten(sorted(trained))}. Train with `embed_{column}=False` to predict others from "
            "their control cells."
        )
    return names.index(name)


@dataclass(frozen=True, eq=False)
class _Job:
    """A task that is being drawn."""

    task: PredictionTask
    rng: np.random.Generator
    controls: np.ndarray
    """Rows of the control cells that describe the population, int64 ``[N]``."""
    shift: np.ndarray
    """Forecast of the anchor, float32 ``[G]``."""
    sets: list[np.ndarray]
    """Positions of the cells of each set among the sources."""
    cells: np.ndarray
    """Where the predicted cells go, float32 ``[n, G]``."""


class PopulationDrawer:
    """Draws the cells of many tasks, sets of all of them together.

    The source cells of a task are shuffled and cut into sets of nearly equal size. Sets of equal size are drawn
    together, whatever their tasks, each with a random stream of its own: neither the batch size nor the other tasks
    change a result.

    Parameters
    ----------
    module
        Trained module.
    forecaster
        Its anchor; None without one.
    query
        Control cells.
    identity_codes
        Codes of the context and batch of a population, for models that embed identities.
    batch_size
        Cells to draw at a time; by default as many as hold 8 MiB of expression, or 128 MiB on a GPU. Tasks are taken
        together up to this number of cells; a task is in memory as a whole, a few times over. The tasks of a large
        population are parts of it.
    sampling
        Options of the sampler of the module.
    part_ids
        Ids of single perturbations; those of the vocabulary by default.
    """

    def __init__(
        self,
        module: PopulationModule,
        forecaster: Forecaster | None,
        query: ControlQuery,
        *,
        identity_codes: Callable[[ControlPopulation], tuple[int, int]],
        batch_size: int | None,
        sampling: Mapping[str, Any],
        part_ids: Mapping[str, int] | None = None,
    ) -> None:
        self.module, self.forecaster, self.query = module, forecaster, query
        self.device = module.device  # looking it up walks through all parameters
        self.identity_codes, self.sampling = identity_codes, sampling
        values = _VALUES_ON_CPU if self.device.type == "cpu" else _VALUES_ON_GPU
        self.batch_size = batch_size or max(module.config.set_size, values // query.metadata.var_names.size)
        names = query.metadata.vocabulary.names
        self._ids = {name: code for code, name in enumerate(names)} if part_ids is None else part_ids
        self._control_means: dict[ControlPopulation, np.ndarray] = {}
        self._detections: dict[ControlPopulation, np.ndarray] = {}
        sparse = module.nonnegative and module.config.zeros == "hurdle"
        moved = module.anchored and not module.nonnegative
        self._restore = ZeroRestorer(query) if sparse else None
        self._mean_of = PopulationMeans(module, query) if sparse or moved else None

    def draw(self, tasks: Sequence[PredictionTask]) -> Iterator[np.ndarray]:
        """Draw tasks in their order.

        Parameters
        ----------
        tasks
            What to predict.

        Yields
        ------
        The cells of each task, float32 ``[n, G]``.
        """
        n_threads = torch.get_num_threads()
        with ThreadPoolExecutor(n_threads) as pool:
            waiting: Iterator[np.ndarray] = iter(())
            for block in self._blocks(tasks):
                jobs = self._draw_block(block)
                if n_threads == 1:
                    yield from map(self._finish, jobs)
                elif self.device.type == "cpu":  # all cores draw, then all restore zeros
                    yield from pool.map(self._finish, jobs)
                else:  # the cores restore the zeros of one block while the device draws the next
                    done, waiting = waiting, pool.map(self._finish, jobs)
                    yield from done
            yield from waiting

    def _blocks(self, tasks: Sequence[PredictionTask]) -> Iterator[Sequence[PredictionTask]]:
        """Cut tasks into those that are drawn together."""
        first = 0
        while first < len(tasks):
            last, n_cells = first + 1, len(tasks[first].sources)
            together = self.module.mixes_conditions and not _is_replaced(tasks[first])
            while together and last < len(tasks) and not _is_replaced(tasks[last]):
                n_cells += len(tasks[last].sources)
                if n_cells > self.batch_size:
                    break
                last += 1
            yield tasks[first:last]
            first = last

    def _draw_block(self, tasks: Sequence[PredictionTask]) -> list[_Job]:
        """Draw the cells of some tasks."""
        jobs = [self._start(task) for task in tasks]
        conditions = self._conditions(jobs)
        sets = [
            (number, positions, (job.task.torch_seed() + i) % (2**63 - 1))
            for number, job in enumerate(jobs)
            for i, positions in enumerate(job.sets)
        ]
        sets.sort(key=lambda each: len(each[1]))
        n_sets = max(1, self.batch_size // self.module.config.set_size)
        for first, last in _runs_of_equal_size([positions for _, positions, _ in sets], n_sets):
            self._draw_sets(jobs, sets[first:last], conditions)
        return jobs

    def _finish(self, job: _Job) -> np.ndarray:
        """Give the cells of a task their mean and, where expression is sparse, their zeros."""
        if self._mean_of is None:
            return job.cells
        mean = self._mean_of(job.task, job.cells, job.shift)
        if self._restore is not None:
            return self._restore(job.task, job.cells, mean, job.rng)
        return job.cells + (mean - job.cells.mean(axis=0, dtype=np.float64)).astype(np.float32)

    def _draw_sets(self, jobs: list[_Job], sets: list[tuple[int, np.ndarray, int]], conditions: dict[str, Any]) -> None:
        """Draw sets of equal size, and put their cells in place."""
        device = self.device
        rows = np.stack([jobs[number].task.sources[positions] for number, positions, _ in sets])
        owner = torch.tensor([number for number, *_ in sets], device=device)
        request = SampleRequest(
            source=torch.from_numpy(self.query.gather(rows)).to(device),
            owner=None if len(jobs) == 1 else owner,
            **conditions,
        )
        generators = [torch.Generator(device=device).manual_seed(seed) for *_, seed in sets]
        drawn = self.module.sample(request, generators=generators, **self.sampling).float().cpu().numpy()
        for (number, positions, _), cells in zip(sets, drawn, strict=True):
            jobs[number].cells[positions] = cells

    def _start(self, task: PredictionTask) -> _Job:
        """Make the draws of a task that come before its cells, and forecast its shift."""
        rng, config, population = task.rng(), self.module.config, task.population
        pool = population.pool
        few = len(pool) <= config.n_controls
        controls = pool if few else pool[np.sort(rng.choice(len(pool), config.n_controls, replace=False))]
        order = rng.permutation(len(task.sources))
        n_genes = self.query.metadata.var_names.size
        shift = np.zeros(n_genes, dtype=np.float32)
        if self.forecaster is not None:
            shift = self.forecaster.shift(
                task.part_names,
                task.dosage,
                self._control_mean(population),
                population.context_name,
                population.batch,
                n_control=len(pool),
                stand_ins=task.stand_ins,
            )
        return _Job(
            task=task,
            rng=rng,
            controls=controls,
            shift=shift,
            sets=np.array_split(order, -(-len(order) // config.set_size)),
            cells=np.empty((len(order), n_genes), dtype=np.float32),
        )

    def _control_mean(self, population: ControlPopulation) -> np.ndarray:
        """Mean of the controls of a population, computed once."""
        if population not in self._control_means:
            self._control_means[population] = self.query.mean(population.pool)
        return self._control_means[population]

    def _detection(self, population: ControlPopulation) -> np.ndarray:
        """Share of the controls of a population that express each gene, computed once."""
        if population not in self._detections:
            pool, step = population.pool, max(1, _VALUES_ON_CPU // self.query.metadata.var_names.size)
            blocks = (self.query.gather(pool[first : first + step]) for first in range(0, len(pool), step))
            counts = sum(np.count_nonzero(block, axis=0) for block in blocks)
            self._detections[population] = np.asarray(counts / len(pool), dtype=np.float32)
        return self._detections[population]

    def _part_ids(self, task: PredictionTask) -> np.ndarray:
        """Ids of the parts of a perturbation; where others stand in for a part, their vectors are used instead."""
        if _is_replaced(task):
            return np.zeros(len(task.part_names), dtype=np.int64)
        return np.array([self._ids[name] for name in task.part_names], dtype=np.int64)

    def _conditions(self, jobs: list[_Job]) -> dict[str, Any]:
        """Tensors of C conditions: what all sets of a task share."""
        tasks = [job.task for job in jobs]
        controls = _padded([job.controls for job in jobs], -1)
        part_ids = _padded([self._part_ids(task) for task in tasks], -1)
        n_parts = np.array([len(task.part_names) for task in tasks])
        codes = np.array([self.identity_codes(task.population) for task in tasks], dtype=np.int64)
        tensors = {
            "control": self.query.gather(controls),
            "control_mask": controls >= 0,
            "shift": np.stack([job.shift for job in jobs]),
            "part_ids": np.maximum(part_ids, 0),
            "part_mask": np.arange(part_ids.shape[1]) < n_parts[:, None],
            "dosage": np.array([task.dosage for task in tasks], dtype=np.float32),
            "covariates": np.stack([task.population.covariates for task in tasks]),
            "context": codes[:, 0],
            "batch": codes[:, 1],
        }
        if self.module.needs_detection:
            tensors["detection"] = np.stack([self._detection(task.population) for task in tasks])
        device = self.device
        conditions: dict[str, Any] = {name: torch.from_numpy(value).to(device) for name, value in tensors.items()}
        if _is_replaced(tasks[0]):
            conditions["stand_ins"] = tuple(
                torch.tensor([self._ids[name] for name in names], device=device) for names in tasks[0].stand_ins
            )
        return conditions


def _is_replaced(task: PredictionTask) -> bool:
    """Whether other perturbations stand in for a part; such a task is drawn alone."""
    return any(names != (part,) for part, names in zip(task.part_names, task.stand_ins, strict=True))


def _padded(rows: list[np.ndarray], value: int) -> np.ndarray:
    """Arrays of any lengths below each other, int64 ``[C, longest]``."""
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded


def _runs_of_equal_size(sets: list[np.ndarray], n_sets: int) -> list[tuple[int, int]]:
    """Ranges of sets of equal size, at most ``n_sets`` long."""
    runs, first = [], 0
    while first < len(sets):
        last = first
        while last < len(sets) and last - first < n_sets and len(sets[last]) == len(sets[first]):
            last += 1
        runs.append((first, last))
        first = last
    return runs
