"""Lightning data module over populations."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from scvi import settings
from torch.utils.data import DataLoader

from pertcast.data._dataset import PopulationDataset
from pertcast.data._sampler import PopulationSampler, SequentialPopulations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.utils.data import Sampler

    from pertcast.data._dataset import PopulationBatch
    from pertcast.data._matrix import Matrix
    from pertcast.data._sampler import SetRequest
    from pertcast.data._screen import Screen
    from pertcast.data._split import ConditionSplit

__all__ = ["PopulationDataModule"]

_MOST_VALIDATED = 512
"""Validation conditions that are looked at: the error of their mean is then far below the differences that count."""


class PopulationDataModule(LightningDataModule):
    """Training and validation batches of sets, in the form that the train runner of scvi-tools expects.

    Of more than 512 validation conditions 512 are looked at, drawn at random, so that the time of an epoch has a bound.

    Parameters
    ----------
    screen
        Registered screen.
    split
        Conditions to train and validate on.
    n_sets
        Sets B of a batch.
    set_size
        Cells M of a set.
    n_controls
        Control cells N of a set.
    steps_per_epoch
        Training batches of an epoch, on each device.
    seed
        Seed of the draws.
    X
        Matrix ``[N, K]`` to take cells from in place of the expression of the screen, for example an encoded one.
    num_workers
        Worker processes; ``scvi.settings.dl_num_workers`` by default.
    pin_memory
        Whether batches are put in pinned memory; where there is a GPU by default.

    Examples
    --------
    Of three cell types with a control and two perturbations each, one is held out for validation:

    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(10, n_genes=20, n_cell_types=3, n_perturbations=2, combinations=0, seed=0)
    >>> pc.baselines.NoEffect.setup_anndata(adata, cell_type_key="cell_type")
    >>> screen = pc.data.screen_from_manager(pc.baselines.NoEffect(adata).adata_manager)
    >>> sizes = {"n_sets": 2, "set_size": 8, "n_controls": 8, "steps_per_epoch": 5}
    >>> data = pc.data.PopulationDataModule(screen, screen.split(), **sizes)
    >>> data.n_train, data.n_val, len(data.train_dataloader())
    (180, 60, 5)
    """

    def __init__(
        self,
        screen: Screen,
        split: ConditionSplit,
        *,
        n_sets: int,
        set_size: int,
        n_controls: int,
        steps_per_epoch: int,
        seed: int = 0,
        X: Matrix | None = None,
        num_workers: int | None = None,
        pin_memory: bool | None = None,
    ) -> None:
        super().__init__()
        self.screen, self.split = screen, split
        self.dataset = PopulationDataset(
            screen.X if X is None else X, screen.index, screen.controls, screen.vocabulary, screen.covariates
        )
        self._draws: dict[str, Any] = {
            "n_sets": n_sets,
            "set_size": set_size,
            "n_controls": n_controls,
            "seed": seed,
        }
        self._steps_per_epoch = steps_per_epoch
        self._num_workers = settings.dl_num_workers if num_workers is None else num_workers
        self._pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory

    @cached_property
    def train_idx(self) -> np.ndarray:
        """Rows of the cells of the training conditions and of their matched controls, sorted."""
        index, controls = self.screen.index, self.screen.controls
        groups = np.unique(controls.group[self.split.train])
        used = [index.groups.select(self.split.train).all_rows(), controls.groups.select(groups).all_rows()]
        return np.unique(np.concatenate(used))

    @cached_property
    def val_idx(self) -> np.ndarray:
        """Rows of the perturbed cells of the validation conditions, sorted."""
        return np.sort(self.screen.index.groups.select(self.split.validation).all_rows())

    @cached_property
    def test_idx(self) -> np.ndarray:
        """Rows of the perturbed cells of the test conditions, sorted."""
        return np.sort(self.screen.index.groups.select(self.split.test).all_rows())

    @cached_property
    def validation(self) -> np.ndarray:
        """Ids of the validation conditions that are looked at, sorted."""
        conditions = self.split.validation
        if len(conditions) <= _MOST_VALIDATED:
            return conditions
        chosen = np.random.default_rng(self._draws["seed"]).choice(conditions, _MOST_VALIDATED, replace=False)
        return np.sort(chosen)

    @property
    def n_train(self) -> int:
        """Number of cells used in training."""
        return len(self.train_idx)

    @property
    def n_val(self) -> int:
        """Number of perturbed cells of the validation conditions."""
        return len(self.val_idx)

    def train_dataloader(self) -> DataLoader:
        """Endless random sets, cut into epochs."""
        sampler = PopulationSampler(
            self.screen.index.groups,
            self.screen.controls,
            self.split.train,
            steps_per_epoch=self._steps_per_epoch,
            **self._draws,
        )
        return self._loader(sampler)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """One fixed set for each of :attr:`validation`; no loader if there are none."""
        if not len(self.validation):
            return []
        sampler = SequentialPopulations(self.screen.index.groups, self.screen.controls, self.validation, **self._draws)
        return self._loader(sampler)

    def validation_batches(self) -> Iterator[PopulationBatch]:
        """Batches of the held-out conditions, in order; none if there are none."""
        loader = self.val_dataloader()
        return iter(()) if isinstance(loader, list) else iter(loader)

    def _loader(self, sampler: Sampler[SetRequest]) -> DataLoader:
        """Load whole requests: the sampler makes the batches."""
        return DataLoader(
            self.dataset,
            sampler=sampler,
            batch_size=None,
            num_workers=self._num_workers,
            persistent_workers=settings.dl_persistent_workers and self._num_workers > 0,
            pin_memory=self._pin_memory,
            generator=torch.Generator().manual_seed(self._draws["seed"]),  # not the global one
        )
