"""Training of models of populations: hold-out, anchor, network, gate."""

from __future__ import annotations

import logging
from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pertcast.data import PopulationDataModule, ShiftTable
from pertcast.data._saving import NO_DATA
from pertcast.model._budget import Budget, default_budget, limit_budget
from pertcast.model._dataset import anchored_dataset
from pertcast.model._forecast import Forecaster, fit_forecaster
from pertcast.model._gate import NO_EVIDENCE, choose_gate
from pertcast.model._runner import run_training, trained_or_as_before
from pertcast.model._statistics import fit_components, n_singles, set_statistics
from pertcast.model._train_checks import check_training

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pertcast.data import Screen
    from pertcast.data._split import ConditionSplit
    from pertcast.module import PopulationConfig, PopulationModule
    from pertcast.representation import PrincipalComponents

__all__ = ["TrainingMixin"]

logger = logging.getLogger(__name__)


class TrainingMixin:
    """``train``, and what a model may define of it: ``_split``, ``_set_statistics`` and ``_budget``."""

    adata: Any
    config: PopulationConfig
    module: PopulationModule
    seed: int
    is_trained_: bool
    trainer: Any
    split_: ConditionSplit
    forecaster_: Forecaster | None
    identity_names_: dict[str, tuple[str, ...]]
    trained_names_: dict[str, tuple[str, ...]]
    _description: str
    _model_summary_string: str

    _note_conditions: Any

    @property
    @abstractmethod
    def screen(self) -> Screen:
        """The registered training data, indexed."""

    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        *,
        validation_size: float = 0.2,
        steps_per_epoch: int | None = None,
        early_stopping: bool = True,
        early_stopping_patience: int = 45,
        checkpoint_dir: str | Path | None = None,
        ckpt_path: str | Path | None = None,
        plan_kwargs: Mapping[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model.

        Conditions are held out for validation as the split column says, or else whole units: contexts, or batches
        where there are fewer than three contexts, or else combinations, perturbations, or perturbations in one context
        (see ``model.split_``). The averaged weights with the lowest validation loss are kept, and the held-out
        conditions decide how much of the network is added to the anchor; where nothing can be held out, half of it is.

        Parameters
        ----------
        max_epochs
            Number of epochs; by default chosen from the number of conditions and logged.
        accelerator, devices
            As in :class:`scvi.train.Trainer`.
        validation_size
            Share of these units to hold out, at least one; 0 for none. Of their conditions at most 512 are looked at.
        steps_per_epoch
            Batches of an epoch; by default chosen with ``max_epochs``. ``max_steps`` in their place ends training after
            that many batches.
        early_stopping
            Whether to stop when the validation loss no longer falls.
        early_stopping_patience
            Epochs without a lower validation loss before training stops. A default run is shorter than the default
            patience and goes to its end, where the learning rate is small and the loss often falls once more.
        checkpoint_dir
            Folder for ``last.ckpt``, written after every epoch.
        ckpt_path
            Checkpoint to resume from: a run that was killed and resumed ends with the weights of one that was not.
        plan_kwargs
            Further arguments of the training plan: ``warmup``, ``compile`` (use :func:`torch.compile`) and
            ``compile_kwargs``.
        **trainer_kwargs
            Further arguments of :class:`scvi.train.Trainer`, such as ``enable_progress_bar`` or ``precision``, by
            default ``"bf16-mixed"`` where the device has units for it, and ``"32-true"`` elsewhere.

        Raises
        ------
        TypeError
            If there is no such argument; the message says what to use in its place.
        ValueError
            If the model was loaded without data, these hold nothing to train on, or a number is out of its range.
        """
        if self.adata is None:
            raise ValueError(NO_DATA.format(type(self).__name__))
        check_training(self, plan_kwargs, trainer_kwargs)
        screen, config = self.screen, self.config
        split = self._split(screen, validation_size)
        budget = self._budget(len(split.train), max_epochs, steps_per_epoch)
        budget = limit_budget(budget, trainer_kwargs.get("max_steps"), max_epochs=max_epochs)
        n_components = config.n_latent if config.n_input == "learned" else max(config.n_input, config.n_latent)
        components = fit_components(screen, split.train, n_components, seed=self.seed)
        learned = np.union1d(split.train, split.validation) if self.module.anchored else split.train
        whole = ShiftTable.from_index(screen.X, screen.index, screen.controls, learned)  # all cells are read once
        table = whole if np.array_equal(learned, split.train) else whole.select(np.searchsorted(learned, split.train))
        fit = partial(fit_forecaster, screen, components, nonnegative=self.module.nonnegative, seed=self.seed)
        forecaster = fit(table) if self.module.anchored else None
        if not self.is_trained_:
            self._set_statistics(screen, split.train, table, components)
        with trained_or_as_before(self):
            self.module.train()  # Lightning keeps the mode it finds
            self.module.gate.set(1.0)
            data = self._batches(split, table, forecaster, budget.steps_per_epoch)
            logger.info(
                "Training for at most %d epochs of %d steps on %d conditions%s.",
                *budget,
                len(split.train),
                f", validating on {len(data.validation)}" if len(data.validation) else "",
            )
            run_training(
                self,
                data,
                budget,
                accelerator=accelerator,
                devices=devices,
                early_stopping=early_stopping,
                early_stopping_patience=early_stopping_patience,
                checkpoint_dir=checkpoint_dir,
                ckpt_path=ckpt_path,
                plan_kwargs=plan_kwargs,
                **trainer_kwargs,
            )
            if self.module.anchored:
                self._set_gate(data)
                self.forecaster_ = fit(whole) if whole is not table else forecaster
        self.split_ = split
        self._note_conditions(screen.index, learned, np.union1d(split.train, split.validation))
        self._note_training(split, budget)

    def _batches(
        self, split: ConditionSplit, table: ShiftTable, forecaster: Forecaster | None, steps_per_epoch: int
    ) -> PopulationDataModule:
        """Batches of training and validation, with the shifts of the anchor."""
        data = PopulationDataModule(
            self.screen,
            split,
            n_sets=self.config.n_sets,
            set_size=self.config.set_size,
            n_controls=self.config.n_controls,
            steps_per_epoch=steps_per_epoch,
            seed=self.seed,
        )
        data.dataset = anchored_dataset(  # type: ignore[assignment]
            data.dataset, self.screen, forecaster, table, data.validation
        )
        return data

    def _set_gate(self, data: PopulationDataModule) -> None:
        """Decide by the held-out conditions how much of the network is added to the anchor."""
        if len(data.split.validation):
            choose_gate(self.module, data.validation_batches(), seed=self.seed)
        else:
            self.module.gate.set(NO_EVIDENCE)
            logger.info("Gate of the network: %.2f, because no conditions are held out to choose it.", NO_EVIDENCE)

    def _note_training(self, split: ConditionSplit, budget: Budget) -> None:
        """Note what the model was trained on."""
        index = self.screen.index
        self.identity_names_ = {"context": index.context_names, "batch": index.batch_names}
        self.trained_names_ = {
            "context": tuple(index.context_names[code] for code in np.unique(index.context[split.train])),
            "batch": tuple(index.batch_names[code] for code in np.unique(index.batch[split.train])),
        }
        description = self._description.format(n_perturbations=n_singles(self.screen, split.train))
        self._model_summary_string = (
            f"{description}, trained on {len(split.train)} conditions for {self.trainer.global_step} steps "
            f"of at most {budget.n_steps}, gate: {float(self.module.gate.value):.2g}"
        )

    def _split(self, screen: Screen, validation_size: float) -> ConditionSplit:
        """Conditions for training and validation."""
        return screen.split(validation_size=validation_size, seed=self.seed)

    def _set_statistics(
        self, screen: Screen, conditions: np.ndarray, table: ShiftTable, components: PrincipalComponents
    ) -> None:
        """Tell the module what it must know of the training conditions before the first step."""
        set_statistics(self.module, screen, table, components, seed=self.seed)

    def _budget(self, n_conditions: int, max_epochs: int | None, steps_per_epoch: int | None) -> Budget:
        """Length of training, as far as it is not given."""
        return default_budget(n_conditions, max_epochs=max_epochs, steps_per_epoch=steps_per_epoch)
