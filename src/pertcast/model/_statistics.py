"""What the module must know of the training data before the first step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pertcast.data import gather_rows
from pertcast.data._on_disk import RowsOnDisk
from pertcast.data._split import Part, split_of_conditions
from pertcast.module import FixedInput
from pertcast.representation import AutoencoderSpace, PCASpace, principal_components

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pertcast.data import Screen, ShiftTable
    from pertcast.module import PopulationEncoderModule, PopulationModule
    from pertcast.representation import PrincipalComponents

__all__ = [
    "fit_components",
    "fit_space",
    "is_nonnegative",
    "least_value",
    "n_singles",
    "set_statistics",
    "training_cells",
]

_MAX_CELLS = 20_000


def least_value(X: Any) -> float:
    """Smallest value of a matrix, at most 0 if it is sparse; one pass over its stored values."""
    if isinstance(X, RowsOnDisk):
        return min((least_value(block) for _, block in X.blocks()), default=0.0)
    if isinstance(X, np.ndarray):
        return float(X.min(initial=np.inf))
    return float(X.data.min(initial=0.0))  # `X.min()` would sort the values of the user


def is_nonnegative(X: Any) -> bool:
    """Whether no value of a matrix is below 0."""
    return least_value(X) >= 0


def n_singles(screen: Screen, conditions: np.ndarray | None = None) -> int:
    """Number of single perturbations that some conditions have, alone or in combinations.

    Parameters
    ----------
    screen
        Registered screen.
    conditions
        Perturbed conditions; by default those that are neither skipped nor only tested.
    """
    index = screen.index
    if conditions is None:
        conditions = index.perturbed
        if screen.parts is not None:
            conditions = conditions[split_of_conditions(index, screen.parts)[conditions] != Part.TEST]
    return len({part for code in np.unique(index.perturbation[conditions]) for part in index.parts(int(code))})


def fit_components(screen: Screen, conditions: np.ndarray, n_components: int, *, seed: int) -> PrincipalComponents:
    """Principal components of the cells of training conditions and their controls.

    Parameters
    ----------
    screen
        Registered screen.
    conditions
        Training conditions.
    n_components
        Number of components.
    seed
        Seed of the choice of cells, where there are many.
    """
    return principal_components(training_cells(screen, conditions, seed=seed), n_components, seed=seed)


@torch.no_grad()
def set_statistics(
    module: PopulationModule, screen: Screen, table: ShiftTable, components: PrincipalComponents, *, seed: int
) -> None:
    """Fit the inputs, the representation, the scale of the data and that of dosages and covariates.

    Parameters
    ----------
    module
        Module to set.
    screen
        Registered screen.
    table
        Shifts of the training conditions.
    components
        Principal components of the training cells.
    seed
        Seed of a representation that is trained.
    """
    given, found = module.config.data_scale, fit_space(module, screen, table, components, seed=seed)
    module.scale.fill_(found if given is None else given)

    names = [screen.index.perturbation_names[code] for code in np.unique(table.perturbation)]
    part_ids, part_mask = screen.vocabulary.encode(names)
    networks: tuple[Any, Any] = (module.network, module.average.network)
    for network in networks:
        network["condition"].set_seen(torch.from_numpy(np.unique(part_ids[part_mask])))

    module.log_dosage.fit(table.dosage)
    if screen.covariates is not None:
        values = screen.covariates[screen.controls.groups.all_rows()].astype(np.float64)
        mean, spread = values.mean(0), values.std(0)
        differs = spread > 1e-6 * np.abs(mean)  # by more than what float32 rounds
        moments = np.stack([mean, np.where(differs, spread, np.maximum(np.abs(mean), 1.0))])
        module.covariate_moments.copy_(torch.from_numpy(moments.astype(np.float32)))


@torch.no_grad()
def fit_space(
    module: PopulationModule | PopulationEncoderModule,
    screen: Screen,
    table: ShiftTable,
    components: PrincipalComponents,
    *,
    seed: int,
) -> float:
    """Fit the representation and the inputs of a module.

    Parameters
    ----------
    module
        Module to set.
    screen
        Registered screen.
    table
        Shifts of the training conditions.
    components
        Principal components of the training cells.
    seed
        Seed of a representation that is trained.

    Returns
    -------
    Typical standard deviation of a feature.
    """
    space, inputs = module.representation, module.input
    if isinstance(space, PCASpace):
        n_directions = min(len(table), space.n_features // 4)
        strongest = np.argsort(-np.linalg.norm(table.shift, axis=1), kind="stable")[:500]
        space.fit(components, torch.from_numpy(table.shift[strongest]).float(), n_directions=n_directions)
        captured = torch.as_tensor(components.variance)[: space.n_features - n_directions]
        between = (torch.from_numpy(table.shift).float() @ space.axes).var(0, correction=0)
        variance = between + float(captured.min())
        variance[: len(captured)] = captured
        centre, axes = torch.zeros(space.n_features), torch.eye(space.n_features)
        total = float(variance.sum())
    elif isinstance(space, AutoencoderSpace):
        cells = training_cells(screen, table.condition, seed=seed)
        space.fit(cells, seed=seed)
        codes = [space.encode(torch.from_numpy(rows).to(space.mean)) for rows in _blocks(cells)]
        found = principal_components(torch.cat(codes).cpu().numpy(), space.n_features, seed=seed)
        centre, axes, variance = (torch.as_tensor(each) for each in (found.mean, found.axes, found.variance))
        total = found.total_variance
    else:
        centre, axes = torch.as_tensor(components.mean), torch.as_tensor(components.axes)
        variance, total = torch.as_tensor(components.variance), components.total_variance
    if isinstance(inputs, FixedInput):
        inputs.fit(centre, axes, variance)
    return max((total / space.n_features) ** 0.5, 1e-6)


def training_cells(screen: Screen, conditions: np.ndarray, *, seed: int) -> Any:
    """Cells of training conditions and their controls, 20,000 at most, dense or sparse."""
    controls = screen.controls.groups.select(np.unique(screen.controls.group[conditions]))
    rows = np.unique(np.concatenate([screen.index.groups.select(conditions).all_rows(), controls.all_rows()]))
    if len(rows) > _MAX_CELLS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _MAX_CELLS, replace=False))
    return screen.X[rows]


def _blocks(X: Any, size: int = 2048) -> Iterator[np.ndarray]:
    """Rows of a matrix as float32, some at a time."""
    for first in range(0, X.shape[0], size):
        yield gather_rows(X, np.arange(first, min(first + size, X.shape[0])))
