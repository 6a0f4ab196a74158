"""How the module is trained, step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule

from pertcast._numbers import check_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from pertcast.module import PopulationModule

__all__ = ["PopulationTrainingPlan"]


class PopulationTrainingPlan(LightningModule):
    """Trains with AdamW, a warm-up, a cosine decay and averaged weights.

    All randomness of a step comes from a generator seeded with ``(seed, step, rank)``, so a run that is killed and
    resumed takes the same steps as one that is not.

    Parameters
    ----------
    module
        Module to train.
    n_steps
        Steps until the learning rate reaches a twentieth of its peak.
    learning_rate
        Peak learning rate.
    weight_decay
        Weight decay of AdamW.
    warmup
        Steps of linear warm-up; 0 for none.
    seed
        Seed of noise, times and dropped conditions.
    compile
        Whether to compile the network for training with :func:`torch.compile`. It takes a minute or so before the
        first step and needs a C++ compiler.
    compile_kwargs
        Further arguments of :func:`torch.compile`.
    """

    def __init__(
        self,
        module: PopulationModule,
        *,
        n_steps: int,
        learning_rate: float,
        weight_decay: float,
        warmup: int = 50,
        seed: int = 0,
        compile: bool = False,
        compile_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.n_steps, self.warmup, self.seed = n_steps, check_whole("warmup", warmup, least=0), seed
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.n_obs_training = self.n_obs_validation = 1
        self.compile_kwargs = dict(compile_kwargs or {}) if compile else None

    def _generator(self, *numbers: int) -> torch.Generator:
        """Make a generator that depends on the seed and some numbers."""
        mixed = 0
        for number in (self.seed, *numbers):
            mixed = (mixed * 1_000_003 + number + 0x9E3779B9) % (2**63 - 1)
        return torch.Generator(device=self.device).manual_seed(mixed)

    def on_fit_start(self) -> None:
        """Compile the parts of the network in place, if asked for: names of weights stay."""
        if self.compile_kwargs is not None:
            for part in self.module.network.children():
                part.compile(**self.compile_kwargs)

    def on_fit_end(self) -> None:
        """Let the network be called as it is again."""
        if self.compile_kwargs is not None:
            for part in self.module.network.children():
                part._compiled_call_impl = None

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch."""
        output = self.module(batch, self._generator(0, self.global_step, self.global_rank))
        self._log(output, "train")
        return output.loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Loss of one batch of held-out conditions, with averaged weights and the same draws in every epoch."""
        self._log(self.module(batch, self._generator(1, batch_idx, self.global_rank)), "validation")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Follow the weights."""
        self.module.average.update(self.module.network)

    def configure_optimizers(self) -> Any:
        """AdamW without weight decay on vectors; warm-up, then cosine decay to a twentieth."""
        weights = [p for p in self.module.network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ]
        # One pass over the weights; Lightning does not clip gradients for it in mixed precision.
        fused = self.device.type in ("cpu", "cuda") and "mixed" not in str(self.trainer.precision)
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.99), fused=fused)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _WarmupThenCosine(self.n_steps, self.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _log(self, output: Any, mode: str) -> None:
        options = {
            "batch_size": output.n_obs_minibatch,
            "on_step": False,
            "on_epoch": True,
            "sync_dist": self.trainer.world_size > 1,
        }
        self.log(f"{mode}_loss", output.loss.detach(), prog_bar=True, **options)
        for key, value in output.extra_metrics.items():
            self.log(f"{key}_{mode}", value, **options)


@dataclass(frozen=True)
class _WarmupThenCosine:
    """Share of the peak learning rate at a step; an object with a name, so that a trained model can be pickled."""

    n_steps: int
    warmup: int

    def __call__(self, step: int) -> float:
        progress = min(step / max(self.n_steps, 1), 1.0)
        return min(1.0, (step + 1) / max(self.warmup, 1)) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))
