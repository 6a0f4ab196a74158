"""PerturbDiff as an scvi module: the loss and the sampler on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from scvi.module.base import LossOutput

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
from pertcast.module._base import PopulationModule
from pertcast.nn import ConditionEncoder, ControlEncoding, PopulationTransformer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from pertcast.module._batch import SampleRequest
    from pertcast.module._config import PerturbDiffConfig

__all__ = ["PerturbDiffModule"]


class PerturbDiffModule(PopulationModule):
    r"""Diffusion over populations, anchored at shifted control cells.

    With s a control cell moved by the anchor, the network predicts what it lacks, for all cells of a set at once:
    :math:`\hat x_0 = \mathrm{bound}(s + r_\theta(x_t, s, t, \mathrm{condition}, \mathrm{controls}))`. With
    ``anchor="none"`` the first term is absent, and s in the second is the control cell where it is.

    Parameters
    ----------
    config
        Hyper-parameters.
    n_genes
        Number of genes G.
    **sizes
        The other arguments of :class:`PopulationModule`.

    Examples
    --------
    Before training, cells are the control cells moved by the anchor:

    >>> import torch
    >>> from pertcast.module import PerturbDiffConfig, SampleRequest
    >>> module = PerturbDiffModule(PerturbDiffConfig(), 2, nonnegative=True, n_trained=1)
    >>> cells, mask, code = torch.ones(1, 3, 2), torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
    >>> shift, dosage, covariates = torch.tensor([[1.0, 2.0]]), torch.ones(1), torch.zeros(1, 0)
    >>> request = SampleRequest(cells, cells, mask, shift, code[None], mask[:, :1], dosage, covariates, code, code)
    >>> module.sample(request, n_steps=1, guidance_scale=0.0, generators=[torch.Generator()]).tolist()
    [[[2.0, 3.0], [2.0, 3.0], [2.0, 3.0]]]
    """

    config: PerturbDiffConfig
    mixes_conditions = True

    def __init__(self, config: PerturbDiffConfig, n_genes: int, **sizes: Any) -> None:
        super().__init__(config, n_genes, **sizes)
        self.condition_dropout = config.condition_dropout
        self.schedule = get_schedule(config.schedule)

    def build_cells(self) -> PopulationTransformer:
        """Build the population transformer."""
        config = self.config
        return PopulationTransformer(
            self.input.n_features,
            self.representation.n_features,
            n_hidden=config.n_hidden,
            n_layers=config.n_layers,
            n_heads=config.n_heads,
            n_tokens=config.n_tokens,
            self_conditioning=config.self_conditioning > 0,
            zero_output=self.anchored,
        )

    def build_condition(
        self, n_trained: int, *, vectors: Tensor | None, n_covariates: int, n_contexts: int, n_batches: int
    ) -> ConditionEncoder:
        """Build the encoder of conditions, with identities of contexts and batches where these are embedded."""
        return ConditionEncoder(
            n_trained,
            self.config.n_hidden,
            vectors=vectors,
            n_covariates=n_covariates,
            n_contexts=n_contexts if self.config.embed_context else 0,
            n_batches=n_batches if self.config.embed_batch else 0,
        )

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
        target, moved = self.pairs(tensors, generator)
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
        target, moved = self.pairs(tensors, generator)
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
        mask: Tensor | None,
        condition: Tensor,
        controls: ControlEncoding,
        previous: Tensor | None = None,
    ) -> Tensor:
        """Predict the noise-free cells, in units of the data scale, [B, M, K]."""
        alpha, sigma = (x.to(x_t.dtype)[:, None, None] for x in (self.schedule.alpha(t), self.schedule.sigma(t)))
        noisy = self.input.noisy(x_t * self.scale, alpha, sigma, self.scale)
        before = None if previous is None else self.input.clean(previous * self.scale, self.scale)
        cells = network["cells"](noisy, self.input.clean(moved, self.scale), mask, t, condition, controls, before)
        cells = self.gate.add(moved, cells, self.scale) if self.anchored else cells * self.scale
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
            Calls of the network; with guidance, for twice as many sets.
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
        moved_cells = self.move(request.source, request.per_set(request.shift))
        moved = self.representation.encode(moved_cells)
        condition, controls = self.encode(network, request._asdict())
        condition = request.per_set(condition)
        controls = ControlEncoding(*map(request.per_set, controls))
        if guidance_scale != 0:  # one call for the sets with and without their condition
            condition = torch.cat([condition, network["condition"].null.expand_as(condition)])
            controls = ControlEncoding(*map(_twice, controls))
            moved = _twice(moved)

        def denoise(x_t: Tensor, t: Tensor, previous: Tensor | None) -> Tensor:
            if self.config.self_conditioning > 0 and previous is None:
                previous = torch.zeros_like(x_t)
            if guidance_scale == 0:
                return self.predict_x0(network, x_t, t, moved, None, condition, controls, previous)
            before = None if previous is None else _twice(previous)
            both = self.predict_x0(network, _twice(x_t), _twice(t), moved, None, condition, controls, before)
            x0, without = both.chunk(2)
            return self.representation.bound(guided(x0, without, guidance_scale))

        start = initial_noise((len(generators), *moved.shape[1:]), 1.0, self.schedule, generators, device=moved.device)
        times = spaced_times(n_steps, self.schedule)
        x0 = get_sampler(self.config.sampler)(
            denoise, start, times, self.schedule, noise_fn=noise_from(generators), callback=callback
        )
        return self.representation.decode(x0 * self.scale, moved_cells)


def _twice(values: Tensor) -> Tensor:
    """Two copies below each other, [B, ...] to [2 B, ...]."""
    return torch.cat([values, values])
