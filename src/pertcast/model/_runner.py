"""Running the training of any model: plan, callbacks, trainer."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scvi.train import TrainRunner

from pertcast.model._callbacks import KeepBest, ResumeCheckpoint, StopAfter
from pertcast.model._plan import PopulationTrainingPlan
from pertcast.model._precision import automatic_precision

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pertcast.data import PopulationDataModule
    from pertcast.model._budget import Budget

logger = logging.getLogger(__name__)

__all__ = ["run_training", "trained_or_as_before"]


@contextmanager
def trained_or_as_before(model: Any) -> Iterator[None]:
    """Give a trained model its weights and buffers back if training it again fails or is interrupted.

    One that was not trained before is not trained then.

    Parameters
    ----------
    model
        Model with ``module`` and ``is_trained_``.
    """
    module = model.module
    before = {name: value.clone() for name, value in module.state_dict().items()} if model.is_trained_ else None
    try:
        yield
    except BaseException:
        if before is not None:
            module.load_state_dict(before)
            module.eval()
            logger.warning("Training did not come to its end. The model is as it was before.")
        model.is_trained_ = before is not None
        raise


def run_training(
    model: Any,
    data: PopulationDataModule,
    budget: Budget,
    *,
    accelerator: str,
    early_stopping: bool,
    early_stopping_patience: int,
    checkpoint_dir: str | Path | None,
    ckpt_path: str | Path | None,
    plan_kwargs: Mapping[str, Any] | None,
    **trainer_kwargs: Any,
) -> None:
    """Train the module of a model, and keep the averaged weights with the lowest validation loss.

    Parameters
    ----------
    model
        Model with ``module``, ``config`` and ``seed``.
    data
        Training and validation batches.
    budget
        Length of training.
    accelerator, early_stopping, early_stopping_patience, checkpoint_dir, ckpt_path, plan_kwargs
        As in :meth:`~pertcast.model._base.PopulationModel.train`.
    **trainer_kwargs
        Arguments of :class:`scvi.train.Trainer`.
    """
    validates = len(data.split.validation) > 0
    callbacks = [*trainer_kwargs.pop("callbacks", [])]
    callbacks += [KeepBest()] if validates else []
    callbacks += [ResumeCheckpoint(Path(checkpoint_dir) / "last.ckpt")] if checkpoint_dir is not None else []
    max_steps = trainer_kwargs.get("max_steps")
    n_steps = budget.n_steps if max_steps in (None, -1) else min(budget.n_steps, max_steps)
    callbacks += [StopAfter(n_steps)] if n_steps < budget.n_steps else []
    plan = PopulationTrainingPlan(
        model.module,
        n_steps=n_steps,
        learning_rate=model.config.learning_rate,
        weight_decay=model.config.weight_decay,
        seed=model.seed,
        **dict(plan_kwargs or {}),
    )
    defaults = {
        "early_stopping": early_stopping and validates,
        "early_stopping_monitor": "validation_loss",
        "early_stopping_patience": early_stopping_patience,
        "check_val_every_n_epoch": 1 if validates else None,
        "gradient_clip_val": 1.0,
        "log_every_n_steps": min(10, budget.steps_per_epoch),
        "precision": automatic_precision(accelerator),
    }
    TrainRunner(
        model,
        training_plan=plan,
        data_splitter=data,
        max_epochs=budget.max_epochs,
        accelerator=accelerator,
        callbacks=callbacks,
        ckpt_path=None if ckpt_path is None else str(ckpt_path),
        **defaults | trainer_kwargs,
    )()
