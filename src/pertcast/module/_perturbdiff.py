"""PerturbDiff as an scvi module: the loss and the sampler on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from scvi.module.base import BaseModuleClass, LossOutput
from torch import nn

from pertcast.diffusion import (
    add_noise,
    get_sampler,
    get_schedule,
    guided,
    initial_noise,
    noise_from,
    population_loss,
    spaced_times,
)
from pertcast.module._batch import SampleRequest, choose_sources
from pertcast.module._ema import ExponentialMovingAverage
from pertcast.module._gate import ResidualGate
from pertcast.module._inputs import FixedInput, LearnedInput
from pertcast.nn import ConditionEncoder, PopulationTransformer
from pertcast.representation import GeneSpace, PCASpace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from pertcast.module._config import PerturbDiffConfig
    from pertcast.nn import ControlEncoding

__all__ = ["PerturbDiffModule"]


class PerturbDiffModule(BaseModuleClass):
    r"""Diffusion over populations, anchored at shifted control cells.

    With s a control cell moved by the anchor, the network predicts what it lacks, for all cells of a set at once:
    :math:`\hat x_0 = \mathrm{bound}(s + r_\theta(x_t, s, t, \mathrm{condition}, \mathrm{controls}))`.

    Parameters
    ----------
    config
        Hyper-parameters.
    n_genes
        Number of genes G.
    nonnegative
        Whether expression cannot be negative.
    n_trained
        Number of single perturbations seen in training.
    vectors
        Given vectors of single perturbations, [V, E].
    n_covariates, n_contexts, n_batches
        Sizes of what :class:`~pertcast.nn.ConditionEncoder` encodes.
    """

    scale: Tensor
    dose_offset: Tensor
    dose_moments: Tensor
    covariate_moments: Tensor

    def __init__(
        self,
        config: PerturbDiffConfig,
        n_genes: int,
        *,
        nonnegative: bool,
        n_trained: int,
        vectors: Tensor | None = None,
        n_covariates: int = 0,
        n_contexts: int = 0,
        n_batches: int = 0,
    ) -> None:
        super().__init__()
        self.config, self.nonnegative, self.anchored = config, nonnegative, config.anchor != "none"
        self.schedule = get_schedule(config.schedule)
        self.representation = (
            GeneSpace(n_genes, nonnegative=nonnegative)
            if config.representation == "genes"
            else PCASpace(n_genes, config.n_latent, nonnegative=nonnegative)
        )
        n_features = self.representation.n_features
        self.input = (
            LearnedInput(n_features)
            if config.n_input == "learned"
            else FixedInput(n_features, min(config.n_input, n_features))
        )
        self.network = nn.ModuleDict(
            {
                "cells": PopulationTransformer(
                    self.input.n_features,
                    n_features,
                    n_hidden=config.n_hidden,
                    n_layers=config.n_layers,
                    n_heads=config.n_heads,
                    n_tokens=config.n_tokens,
                    self_conditioning=config.self_conditioning > 0,
                    zero_output=self.anchored,
                ),
                "condition": ConditionEncoder(
                    n_trained,
                    config.n_hidden,
                    vectors=vectors,
                    n_covariates=n_covariates,
                    n_contexts=n_contexts if config.embed_context else 0,
                    n_batches=n_batches if config.embed_batch else 0,
                ),
            }
        )
        self.average = ExponentialMovingAverage(self.network, config.ema_decay)
        self.gate = ResidualGate()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("dose_offset", torch.ones(()))
        self.register_buffer("dose_moments", torch.tensor([0.0, 1.0]))
        self.register_buffer("covariate_moments", torch.stack([torch.zeros(n_covariates), torch.ones(n_covariates)]))

    def forward(self, tensors: dict[str, Tensor], generator: Generator) -> LossOutput:
        """Loss of a batch: Lightning calls modules."""
        return self.loss(tensors, generator)

    def loss(self, tensors: dict[str, Tensor], generator: Generator) -> LossOutput:
        """Training loss of B sets (PerturbDiff, arXiv 2602.19685, Eq. 8): noise, predict, compare populations.

        Parameters
        ----------
        tensors
            A ``pertcast.data.PopulationBatch``, and the anchor ``shift`` [B, G].
        generator
            Source of all randomness of the step, on the device of the batch.
        """
        config, mask = self.config, tensors["mask"]
        target = self.representation.encode(tensors["X"])
        source = choose_sources(tensors["control"], tensors["control_mask"], mask.shape[1], generator)
        moved = self.representation.encode(self.move(source, tensors["shift"]))
        network = self.network if self.training else self.average.network
        condition, controls = self.encode(network, tensors, generator=generator if self.training else None)

        draw = torch.rand(2, len(target), generator=generator, device=target.device)
        t = torch.where(draw[0] < config.noise_share, torch.ones_like(draw[1]), draw[1].clamp_min(1e-3))
        noise = torch.randn(target.shape, generator=generator, device=target.device)
        x_t = add_noise(target / self.scale, noise, t, self.schedule)
        previous = None
        if config.self_conditioning > 0:
            with torch.no_grad():
                previous = self.predict_x0(network, x_t, t, moved, mask, condition, controls, torch.zeros_like(x_t))
            kept = torch.rand(len(target), 1, 1, generator=generator, device=target.device) < config.self_conditioning
            previous = previous * kept
        x0 = self.predict_x0(network, x_t, t, moved, mask, condition, controls, previous)
        losses = population_loss(x0, target / self.scale, mask, mse_weight=config.mse_weight, unbiased=config.unbiased)
        return LossOutput(
            loss=losses.total.mean(),
            n_obs_minibatch=len(target),
            extra_metrics={"energy": losses.energy.mean().detach(), "mse": losses.mse.mean().detach()},
        )

    def one_step(self, tensors: dict[str, Tensor], generator: Generator) -> tuple[Tensor, Tensor]:
        """Cells drawn in one step for the sets of a batch, and the real ones, both [B, M, K]."""
        mask, network = tensors["mask"], self.average.network
        target = self.representation.encode(tensors["X"])
        source = choose_sources(tensors["control"], tensors["control_mask"], mask.shape[1], generator)
        moved = self.representation.encode(self.move(source, tensors["shift"]))
        condition, controls = self.encode(network, tensors)
        noise = torch.randn(target.shape, generator=generator, device=target.device)
        t = noise.new_ones(len(noise))
        previous = torch.zeros_like(noise) if self.config.self_conditioning > 0 else None
        x0 = self.predict_x0(network, noise, t, moved, mask, condition, controls, previous)
        return x0 * self.scale, target

    def predict_x0(
        self,
        network: Any,
        x_t: Tensor,
        t: Tensor,
        moved: Tensor,
        mask: Tensor,
        condition: Tensor,
        controls: ControlEncoding,
        previous: Tensor | None = None,
    ) -> Tensor:
        """Predict the noise-free cells, in units of the data scale, [B, M, K]."""
        alpha, sigma = (x.to(x_t.dtype)[:, None, None] for x in (self.schedule.alpha(t), self.schedule.sigma(t)))
        noisy = self.input.noisy(x_t * self.scale, alpha, sigma, self.scale)
        before = None if previous is None else self.input.clean(previous * self.scale, self.scale)
        cells = network["cells"](noisy, self.input.clean(moved, self.scale), mask, t, condition, controls, before)
        if self.anchored:
            cells = moved + self.gate(cells * self.scale)
        else:
            cells = cells * self.scale
        return self.representation.bound(cells) / self.scale

    @torch.inference_mode()
    def sample(
        self,
        request: SampleRequest,
        *,
        n_steps: int,
        guidance_scale: float,
        generators: Sequence[Generator],
        callback: Any = None,
    ) -> Tensor:
        """Draw cells for B sets, one for each source cell.

        Parameters
        ----------
        request
            Sources, controls and conditions.
        n_steps
            Calls of the network; twice as many with guidance.
        guidance_scale
            Strength w of classifier-free guidance; 0 is none.
        generators
            One generator for each set: the result for a set does not depend on the sets beside it.
        callback
            Called as ``callback(step, t, x_t, x0)`` after every step, in units of the data scale.

        Returns
        -------
        Cells in the units of the data, [B, M, G].
        """
        network: Any = self.average.network
        mask = request.source.new_ones(request.source.shape[:2], dtype=torch.bool)
        moved_cells = self.move(request.source, request.shift)
        moved = self.representation.encode(moved_cells)
        n_sets = len(request.source)
        condition, controls = self.encode(network, request._asdict())
        condition = condition.expand(n_sets, -1)
        controls = controls.expand(n_sets)
        null = network["condition"].null.expand_as(condition)

        def denoise(x_t: Tensor, t: Tensor, previous: Tensor | None) -> Tensor:
            if self.config.self_conditioning > 0 and previous is None:
                previous = torch.zeros_like(x_t)
            x0 = self.predict_x0(network, x_t, t, moved, mask, condition, controls, previous)
            if guidance_scale == 0:
                return x0
            without = self.predict_x0(network, x_t, t, moved, mask, null, controls, previous)
            return self.representation.bound(guided(x0, without, guidance_scale))

        start = initial_noise(moved.shape, 1.0, self.schedule, generators, device=moved.device)
        times = spaced_times(n_steps, self.schedule)
        x0 = get_sampler(self.config.sampler)(
            denoise, start, times, self.schedule, noise_fn=noise_from(generators), callback=callback
        )
        return self.representation.decode(x0 * self.scale, moved_cells)

    def move(self, source: Tensor, shift: Tensor) -> Tensor:
        """Control cells moved by the anchor, [B, M, G]; as they are without an anchor."""
        return source + shift[:, None] if self.anchored else source

    def encode(
        self, network: Any, tensors: dict[str, Any], *, generator: Generator | None = None
    ) -> tuple[Tensor, ControlEncoding]:
        """Encode conditions [B, D] and controls; a generator drops conditions and identities as in training."""
        n, device = len(tensors["dosage"]), tensors["dosage"].device
        keep, dropped = None, None
        if generator is not None:
            draw = torch.rand(2, n, generator=generator, device=device)
            dropped = draw[0] < self.config.condition_dropout
            keep = draw[1] >= network["condition"].identity_dropout
        dosage = (torch.log(tensors["dosage"] + self.dose_offset) - self.dose_moments[0]) / self.dose_moments[1]
        covariates = (tensors["covariates"] - self.covariate_moments[0]) / self.covariate_moments[1]
        condition = network["condition"](
            tensors["part_ids"],
            tensors["part_mask"],
            dosage,
            covariates,
            tensors["context"],
            tensors["batch"],
            keep_identity=keep,
            parts=_mean_vectors(network["condition"], tensors.get("stand_ins", ())),
        )
        if dropped is not None:
            condition = torch.where(dropped[:, None], network["condition"].null, condition)
        features = self.input.clean(self.representation.encode(tensors["control"]), self.scale)
        return condition, network["cells"].encode_controls(features, tensors["control_mask"])


def _mean_vectors(encoder: Any, stand_ins: Sequence[Tensor]) -> Tensor | None:
    """Mean of the vectors that speak for each of K parts, [1, K, D]; None without any."""
    if not stand_ins:
        return None
    return torch.stack([encoder.part_vectors(ids[None])[0].mean(0) for ids in stand_ins])[None]
