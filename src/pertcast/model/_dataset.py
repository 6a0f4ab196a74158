"""Batches with the forecasts of the anchor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from pertcast.data import population_means

if TYPE_CHECKING:
    from pertcast.data import PopulationDataset, Screen, SetRequest, ShiftTable
    from pertcast.model._forecast import Forecaster

__all__ = ["AnchoredDataset", "anchored_dataset"]


class AnchoredDataset(Dataset[dict[str, Any]]):
    """Adds to each batch the anchor, the mean shift that moves its control cells.

    Parameters
    ----------
    dataset
        Dataset of populations.
    conditions
        The P conditions with an anchor, sorted.
    shifts
        Their anchors, float32 ``[P, G]``.
    """

    def __init__(self, dataset: PopulationDataset, conditions: np.ndarray, shifts: np.ndarray) -> None:
        self.dataset, self.conditions = dataset, conditions
        self.shifts = torch.from_numpy(shifts)

    def __getitem__(self, request: SetRequest) -> dict[str, Any]:
        """Gather the cells of one request and its anchors."""
        position = np.searchsorted(self.conditions, request.condition)
        if not np.array_equal(self.conditions[np.minimum(position, len(self.conditions) - 1)], request.condition):
            raise KeyError(f"Some of the conditions {np.unique(request.condition)} have no anchor.")
        return {**self.dataset[request], "shift": self.shifts[position]}


def anchored_dataset(
    dataset: PopulationDataset,
    screen: Screen,
    forecaster: Forecaster | None,
    table: ShiftTable,
    validation: np.ndarray,
) -> AnchoredDataset:
    """Add anchors to the batches: the measured shift in training, the forecast one in validation.

    With the measured shift the mean is right already and the network learns what else a population does; how well the
    mean can be forecast does not blur that, and contexts cannot be told apart by what their forecasts lack.

    Parameters
    ----------
    dataset
        Dataset of populations.
    screen
        Registered screen.
    forecaster
        Anchor that was fitted on ``table``; anchors are 0 without one.
    table
        Shifts of the training conditions.
    validation
        Held-out conditions that are looked at.
    """
    index = screen.index
    conditions = np.concatenate([table.condition, validation]).astype(np.int64)
    shifts = np.zeros((len(conditions), screen.X.shape[1]), dtype=np.float32)
    if forecaster is not None:
        shifts[: len(table)] = table.shift
        groups = screen.controls.groups.select(screen.controls.group[validation])
        means = population_means(screen.X, groups) if len(validation) else np.zeros((0, shifts.shape[1]))
        for row, (condition, mean) in enumerate(zip(validation, means, strict=True), start=len(table)):
            shifts[row] = forecaster.shift(
                index.parts(index.perturbation[condition]),
                float(index.dosage[condition]),
                mean,
                index.context_names[index.context[condition]],
                index.batch_names[index.batch[condition]],
                n_control=int(groups.sizes[row - len(table)]),
            )
    order = np.argsort(conditions)
    return AnchoredDataset(dataset, conditions[order], shifts[order])
