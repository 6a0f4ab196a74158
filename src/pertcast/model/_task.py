"""From a prediction task to the tensors of a sampling request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from pertcast.model._zeros import with_zeros
from pertcast.module import SampleRequest

if TYPE_CHECKING:
    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._tasks import PredictionTask
    from pertcast.model._forecast import Forecaster
    from pertcast.module import PerturbDiffModule

__all__ = ["draw_task", "identity_code"]


def identity_code(names: tuple[str, ...], name: str, column: str, *, embedded: bool) -> int:
    """Code of a context or batch; 0 where the model does not embed identities.

    Raises
    ------
    ValueError
        If the model embeds identities and the name is not one of its training data.
    """
    if not embedded:
        return 0
    if name not in names:
        raise ValueError(
            f"This model embeds the identity of every {column}, and {name!r} was not in the training data, which "
            f"held {', '.join(map(repr, names[:10]))}. Train with `embed_{column}=False` to predict unseen ones from "
            "their control cells."
        )
    return names.index(name)


def draw_task(
    module: PerturbDiffModule,
    forecaster: Forecaster | None,
    query: ControlQuery,
    task: PredictionTask,
    *,
    context_code: int,
    batch_code: int,
    n_sets: int,
    n_steps: int,
    guidance_scale: float,
) -> np.ndarray:
    """Draw the cells of one task, a few sets at a time.

    The source cells are shuffled and cut into sets of nearly equal size. Sets of equal size are drawn together, each
    with a random stream of its own, so their number at a time does not change the result.

    Parameters
    ----------
    module
        Trained module.
    forecaster
        Its anchor; None without one.
    query
        Control cells.
    task
        What to predict.
    context_code, batch_code
        Codes of the identities, for models that embed them.
    n_sets
        Sets to draw at a time.
    n_steps
        Diffusion steps.
    guidance_scale
        Strength of guidance.

    Returns
    -------
    float32 ``[n, G]``.
    """
    rng, device, config = task.rng(), module.device, module.config
    fixed = _fixed_tensors(module, forecaster, query, task, rng)
    fixed |= {"context": torch.tensor([context_code]), "batch": torch.tensor([batch_code])}
    fixed = {name: value.to(device) for name, value in fixed.items()}
    stand_ins = tuple(ids.to(device) for ids in _stand_in_ids(query, task))
    order = rng.permutation(len(task.sources))
    sets = np.array_split(order, -(-len(order) // config.set_size))
    seeds = [(task.torch_seed() + number) % (2**63 - 1) for number in range(len(sets))]
    cells = np.empty((len(order), query.metadata.var_names.size), dtype=np.float32)
    for first, last in _runs_of_equal_size(sets, n_sets):
        rows = np.stack(sets[first:last])
        source = torch.from_numpy(query.gather(task.sources[rows])).to(device)
        generators = [torch.Generator(device=device).manual_seed(seed) for seed in seeds[first:last]]
        request = SampleRequest(source=source, **fixed, stand_ins=stand_ins)
        drawn = module.sample(request, n_steps=n_steps, guidance_scale=guidance_scale, generators=generators)
        cells[rows] = drawn.float().cpu().numpy()
    if module.nonnegative and config.zeros == "hurdle":
        return with_zeros(module, query, task, cells, fixed["shift"][0].cpu().numpy(), rng)
    return cells


def _fixed_tensors(
    module: PerturbDiffModule,
    forecaster: Forecaster | None,
    query: ControlQuery,
    task: PredictionTask,
    rng: np.random.Generator,
) -> dict[str, torch.Tensor]:
    """What all sets of a task share."""
    population: ControlPopulation = task.population
    n_controls = module.config.n_controls
    pool = population.pool
    chosen = pool if len(pool) <= n_controls else pool[np.sort(rng.choice(len(pool), n_controls, replace=False))]
    control = torch.from_numpy(query.gather(chosen))[None]
    mean = query.mean(pool)
    known = _ids(query)
    shift = np.zeros(len(mean), dtype=np.float32)
    if forecaster is not None:
        shift = forecaster.shift(
            task.part_names, task.dosage, mean, population.context_name, population.batch, stand_ins=task.stand_ins
        )
    return {
        "control": control,
        "control_mask": torch.ones(control.shape[:2], dtype=torch.bool),
        "shift": torch.from_numpy(shift)[None],
        "part_ids": torch.tensor([[known.get(name, 0) for name in task.part_names]]),
        "part_mask": torch.ones((1, len(task.part_names)), dtype=torch.bool),
        "dosage": torch.tensor([task.dosage], dtype=torch.float32),
        "covariates": torch.from_numpy(population.covariates)[None],
    }


def _ids(query: ControlQuery) -> dict[str, int]:
    return {name: code for code, name in enumerate(query.metadata.vocabulary.names)}


def _stand_in_ids(query: ControlQuery, task: PredictionTask) -> list[torch.Tensor]:
    """Ids that speak for each part, where a part does not speak for itself; else none."""
    if all(names == (part,) for part, names in zip(task.part_names, task.stand_ins, strict=True)):
        return []
    known = _ids(query)
    return [torch.tensor([known[name] for name in names]) for names in task.stand_ins]


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
