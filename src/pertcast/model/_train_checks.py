"""Checks of the arguments of training that are handed on: to the plan, and to the trainer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer as LightningTrainer
from scvi.train import Trainer, TrainRunner

from pertcast.data._messages import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PLAN_ARGUMENTS", "check_training"]

PLAN_ARGUMENTS = ("warmup", "compile", "compile_kwargs")
"""Arguments of the training plan that are not those of the model."""

_SPLIT = "Whole conditions are held out, not cells: use `validation_size`, or `split_key` of `setup_anndata`."
_ADVICE = {
    "batch_size": "A batch is {config.n_sets} sets of {config.set_size} cells; other numbers are given to the model: "
    "`{model}(adata, n_sets=..., set_size=...)`.",
    "train_size": _SPLIT,
    "datasplitter_kwargs": _SPLIT,
    "shuffle_set_split": "What is held out is drawn with the seed of the model, `{model}(adata, seed=...)`, or named "
    "by `split_key` of `setup_anndata`.",
    "n_steps": "The length of training is `max_epochs` times `steps_per_epoch`, or `max_steps`.",
    "lr": "It is given to the model: `{model}(adata, learning_rate=...)`.",
    "plan_config": "Use `plan_kwargs`.",
    "use_gpu": "Use `accelerator` and `devices`.",
}


def check_training(model: Any, plan_kwargs: Mapping[str, Any] | None, trainer_kwargs: Mapping[str, Any]) -> None:
    """Raise unless plan and trainer have the arguments that are meant for them.

    Parameters
    ----------
    model
        Model to train, with ``config``.
    plan_kwargs
        Arguments of the training plan.
    trainer_kwargs
        What ``train`` was given beside its own arguments.

    Raises
    ------
    TypeError
        If there is no such argument; the message says what to use in its place.
    """
    if not isinstance(plan_kwargs, Mapping | None):
        raise TypeError(f"`plan_kwargs` must be a dict, such as {{'warmup': 100}}, but found {plan_kwargs!r}.")
    own = [name for name in _parameters(type(model).train) if name not in ("self", "trainer_kwargs")]
    of_trainer = {name for each in (LightningTrainer, Trainer, TrainRunner) for name in _parameters(each)}
    of_trainer -= {"model", "training_plan", "data_splitter", "kwargs", "trainer_kwargs"}
    of_model = [name for name in _parameters(type(model)) if name not in ("adata", "registry")]
    for name in plan_kwargs or {}:
        if name not in PLAN_ARGUMENTS:
            advice = _advice(model, name, {"the model": of_model, "`train`": [*own, *of_trainer]}, PLAN_ARGUMENTS)
            raise TypeError(f"`plan_kwargs` has no argument {name!r}.{advice} It has {', '.join(PLAN_ARGUMENTS)}.")
    for name in trainer_kwargs:
        if name not in of_trainer:
            advice = _advice(model, name, {"the model": of_model, "`plan_kwargs`": PLAN_ARGUMENTS}, [*own, *of_trainer])
            raise TypeError(f"`train` has no argument {name!r}.{advice} It has {', '.join(own)}, and those of Trainer.")


def _advice(model: Any, name: str, elsewhere: Mapping[str, Any], known: Any) -> str:
    """Write what to use in place of an argument, with a leading blank."""
    if name in _ADVICE:
        return " " + _ADVICE[name].format(model=type(model).__name__, config=model.config)
    owner = next((owner for owner, names in elsewhere.items() if name in names), None)
    return did_you_mean(name, known) if owner is None else f" It is an argument of {owner}: give it there."


def _parameters(owner: Callable[..., Any]) -> list[str]:
    """Names of the arguments of a function or class."""
    return list(inspect.signature(owner).parameters)
