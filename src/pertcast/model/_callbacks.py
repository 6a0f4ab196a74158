"""What happens between epochs: keeping the best weights, and checkpoints to resume from."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from lightning.pytorch import LightningModule, Trainer

__all__ = ["KeepBest", "ResumeCheckpoint", "StopAfter"]


class KeepBest(Callback):
    """Keeps the averaged weights with the lowest validation loss, and puts them into the module at the end.

    Parameters
    ----------
    monitor
        Logged value to minimise.
    """

    def __init__(self, monitor: str = "validation_loss") -> None:
        self.monitor = monitor
        self.best = float("inf")
        self.weights: dict[str, torch.Tensor] | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the validation loss."""
        value = trainer.callback_metrics.get(self.monitor)
        if value is not None and float(value) < self.best and not trainer.sanity_checking:
            self.best = float(value)
            network: Any = pl_module.module
            self.weights = copy.deepcopy(network.average.network.state_dict())

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the best weights."""
        if self.weights is not None:
            module: Any = pl_module.module
            module.average.network.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"best": self.best, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best, self.weights = state_dict["best"], state_dict["weights"]


class StopAfter(Callback):
    """Stops in the middle of an epoch, too, but then looks at the validation loss, which a limit of Lightning does not.

    Parameters
    ----------
    max_steps
        Steps after which to stop.
    """

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Ask for the end."""
        if trainer.global_step >= self.max_steps:
            trainer.should_stop = True


class ResumeCheckpoint(Callback):
    """Writes one checkpoint after every epoch, in a way that a kill cannot leave half a file.

    Parameters
    ----------
    path
        File to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoint beside the last one, then replace it."""
        part = self.path.with_suffix(".part")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(part)
        if trainer.is_global_zero:
            part.replace(self.path)
        trainer.strategy.barrier()
