"""Doloris, a dual conditional diffusion implicit bridge, as an scvi module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from scvi.module.base import LossOutput
from torch.nn.functional import binary_cross_entropy_with_logits

from pertcast.diffusion import GaussianPath, get_schedule
from pertcast.module._base import PopulationModule
from pertcast.module._batch import choose_sources
from pertcast.module._doloris_config import MASKS
from pertcast.module._doloris_masks import move_population, nearest_rates, switch_genes
from pertcast.module._doloris_network import BridgeNetwork
from pertcast.nn import GraphConditionEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor

    from pertcast.module._batch import SampleRequest
    from pertcast.module._doloris_config import DolorisConfig

__all__ = ["BridgeEnds", "DolorisModule"]

_VALIDATION_STEPS = 8
_PSEUDO_CELLS = 5.0
_CERTAIN = 0.99


class BridgeEnds(NamedTuple):
    """What a bridge must know of its ends, for each of C conditions or B sets.

    Examples
    --------
    >>> import torch
    >>> from pertcast.module import DolorisConfig
    >>> ones, odds = torch.ones(1, 2), torch.tensor([[50.0, -50.0]])
    >>> ends = BridgeEnds(ones, ones, level=ones, moved=2 * ones, detection=0.5 * ones, log_odds=odds)
    >>> module = DolorisModule(DolorisConfig(zeros="bernoulli"), 2, nonnegative=True, n_trained=1)
    >>> expressed = torch.zeros(1, 3, 2, dtype=torch.bool)
    >>> module.draw_mask(expressed, ends, uniform=torch.full((1, 3, 2), 0.5)).tolist()
    [[[True, False], [True, False], [True, False]]]
    """

    source: Tensor
    """Control condition and context, [C, D]."""
    target: Tensor
    """Perturbation and context, [C, D]."""
    level: Tensor
    """Mean of each gene in control cells that express it (in all, without masks), drawn towards that of training where
    few do, [C, G]."""
    moved: Tensor
    """The same for perturbed cells as the anchor forecasts it; ``level`` without an anchor, [C, G]."""
    detection: Tensor
    """Share of control cells that express each gene, [C, G]."""
    log_odds: Tensor
    """Predicted log odds that a perturbed cell expresses a gene, [C, G]."""


class DolorisModule(PopulationModule):
    r"""Inverts control cells to noise, and decodes the noise under the perturbation (arXiv 2506.21107).

    Two denoisers share the Gaussian latent space (dual diffusion implicit bridges, Su et al. 2023). Their losses are
    masked squared errors over expressed genes, :math:`\| M \odot (x_0 - \hat x_0) \|^2 / \sum M`; a third network
    predicts which genes are silent. Steps are those of :class:`~pertcast.diffusion.GaussianPath`.

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
    Before training, cells without silent genes are the control cells moved by the anchor:

    >>> import torch
    >>> from pertcast.module import DolorisConfig, SampleRequest
    >>> module = DolorisModule(DolorisConfig(), 2, nonnegative=False, n_trained=1)
    >>> cells, mask, code = torch.ones(1, 3, 2), torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
    >>> shift, dosage, covariates = torch.tensor([[1.0, 2.0]]), torch.ones(1), torch.zeros(1, 0)
    >>> request = SampleRequest(cells, cells, mask, shift, code[None], mask[:, :1], dosage, covariates, code, code)
    >>> found = module.sample(request, n_steps=2, generators=[torch.Generator()])
    >>> torch.allclose(found, cells + shift, atol=1e-5)
    True
    """

    mixes_conditions = True

    config: DolorisConfig
    level: Tensor
    variance: Tensor
    frequency: Tensor
    rates: Tensor

    def __init__(self, config: DolorisConfig, n_genes: int, **sizes: Any) -> None:
        super().__init__(config, n_genes, **sizes)
        self.masked = self.needs_detection = self.nonnegative and config.zeros in MASKS
        self.noise = get_schedule(config.schedule)
        self.register_buffer("level", torch.zeros(n_genes))
        self.register_buffer("variance", torch.ones(n_genes))
        self.register_buffer("frequency", torch.full((n_genes,), 0.5))
        self.register_buffer("rates", torch.zeros(0, n_genes, dtype=torch.float16))

    @torch.no_grad()
    def fit_levels(self, level: Tensor, variance: Tensor, frequency: Tensor, rates: Tensor) -> None:
        """Tell the module how genes are expressed in training cells.

        Parameters
        ----------
        level, variance
            Mean and variance of each gene where it is expressed (everywhere, without masks), [G].
        frequency
            Share of cells that express each gene, [G].
        rates
            The same for each of P training conditions, [P, G].
        """
        self.level.copy_(level)
        self.variance.copy_(variance.clamp_min(float(self.scale) ** 2 * 1e-2))
        self.frequency.copy_(frequency.clamp(1e-3, 1 - 1e-3))
        self.rates = rates.to(self.rates)

    def build_cells(self) -> BridgeNetwork:
        """Build the denoisers."""
        config, n_genes = self.config, self.representation.n_features
        return BridgeNetwork(self.input.n_features, n_genes, n_hidden=config.n_hidden, n_layers=config.n_layers)

    def build_condition(
        self, n_trained: int, *, vectors: Tensor | None, n_covariates: int, n_contexts: int, n_batches: int
    ) -> GraphConditionEncoder:
        """Build the encoder of conditions; cells describe contexts and batches."""
        return GraphConditionEncoder(
            n_trained,
            self.config.n_hidden,
            n_genes=self.representation.n_features,
            n_embedding=self.config.n_gene_features,
            n_heads=self.config.n_heads,
            learned=self.config.gene_embedding == "learned",
            knockout=self.config.gene_readout == "knockout",
            vectors=vectors,
            n_covariates=n_covariates,
        )

    def ends(self, network: Any, tensors: dict[str, Any], *, generator: Generator | None = None) -> BridgeEnds:
        """Describe the ends of the bridges of C conditions; a generator drops identities as in training."""
        mask = tensors["control_mask"][..., None]
        control = tensors["control"].where(mask, 0)
        context = network["cells"].describe(self.input.clean(control, self.scale), tensors["control_mask"])
        target = self.encode_condition(network, tensors, generator=generator) + context
        n = mask.sum(1)
        n_on = (control > 0).sum(1) if self.masked else n.expand(-1, control.shape[2])
        level = self._level(control.sum(1), n_on)
        given = tensors.get("detection")
        detection = (n_on / n) if given is None else given
        if self.masked:
            prior = (detection * n + self.frequency) / (n + 1)
            rate, moved = move_population(prior, level, tensors["shift"]) if self.anchored else (prior, level)
            log_odds = rate.logit() + self.gate(network["cells"].log_odds(target))
        else:
            log_odds, moved = torch.zeros_like(level), level + tensors["shift"] if self.anchored else level
        return BridgeEnds(network["condition"].null + context, target, level, moved, detection, log_odds)

    def _level(self, total: Tensor, n_cells: Tensor) -> Tensor:
        """Mean of each gene over cells, from its sum and the number of cells, [C, G].

        A gene of few cells is taken to differ from its training level as the genes of the context do on average: the
        fewer counts a cell has, the higher is log-normalised expression where there is any.
        """
        offset = (total - n_cells * self.level).sum(1, keepdim=True) / n_cells.sum(1, keepdim=True).clamp_min(1)
        typical = torch.maximum(self.level + offset, 0.1 * self.level) if self.masked else self.level
        return (total + _PSEUDO_CELLS * typical) / (n_cells + _PSEUDO_CELLS)

    def loss(self, tensors: dict[str, Tensor], generator: Generator) -> LossOutput:
        """Squared errors of both denoisers and the entropy of the masks; on held-out sets the energy distance.

        Parameters
        ----------
        tensors
            A ``pertcast.data.PopulationBatch``, and the anchor ``shift`` [B, G].
        generator
            Source of all randomness of the step, on the device of the batch.
        """
        if not self.training:
            return self.held_out_loss(tensors, generator)
        network, target = self.network, tensors["X"].where(tensors["mask"][..., None], 0)
        ends = self.ends(network, tensors, generator=generator)
        source = choose_sources(tensors["control"], tensors["control_mask"], target.shape[1], generator)
        everywhere = torch.ones_like(tensors["mask"])
        errors = {
            "source": self._error(network, source, everywhere, ends.level, (ends.source,), generator),
            "target": self._error(network, target, tensors["mask"], ends.moved, (ends.source, ends.target), generator),
        }
        if self.masked:
            rate = (target > 0).sum(1) / tensors["mask"].sum(1, keepdim=True)
            errors["mask"] = binary_cross_entropy_with_logits(ends.log_odds, rate)
        total = torch.stack(list(errors.values())).sum()
        metrics = {name: error.detach() for name, error in errors.items()}
        return LossOutput(loss=total, n_obs_minibatch=len(target), extra_metrics=metrics)

    def _error(
        self,
        network: Any,
        cells: Tensor,
        mask: Tensor,
        level: Tensor,
        conditions: tuple[Tensor, ...],
        generator: Generator,
    ) -> Tensor:
        """Squared error of a denoiser over expressed genes, at a random time for each cell, in units of the scale."""
        t = torch.rand(mask.shape, generator=generator, device=cells.device)
        noise = torch.randn(cells.shape, generator=generator, device=cells.device)
        alpha, sigma = self.noise.alpha(t)[..., None], self.noise.sigma(t)[..., None]
        x_t = alpha * cells + sigma * self.scale * noise
        slope = self._slope(network, x_t, t, alpha, sigma, conditions)
        wanted, weight = self._path(level, None).aim(cells, noise, alpha, sigma)
        counted = (cells > 0) if self.masked else mask[..., None].expand_as(cells)
        error = (slope - wanted) * (weight * counted / self.scale)
        return error.square().sum() / counted.sum().clamp_min(1)

    def _slope(
        self,
        network: Any,
        x_t: Tensor,
        t: Tensor,
        alpha: Tensor,
        sigma: Tensor,
        conditions: tuple[Tensor, ...],
    ) -> Tensor:
        """Output of a denoiser for noisy cells [B, M, G] at times [B, M] under one or two conditions [B, D]."""
        features = self.input.noisy(x_t, alpha, sigma, self.scale).flatten(0, 1)
        each = (condition.repeat_interleave(x_t.shape[1], 0) for condition in conditions)
        return network["cells"](features, t.flatten(), *each).view_as(x_t)

    def one_step(self, tensors: dict[str, Tensor], generator: Generator) -> tuple[Tensor, Tensor]:
        """Translated cells for the sets of a batch, in few steps, and the real ones, both [B, M, G]."""
        target = tensors["X"]
        source = choose_sources(tensors["control"], tensors["control_mask"], target.shape[1], generator)
        ends = self.ends(self.average.network, tensors)
        n_steps = min(self.config.n_steps, _VALIDATION_STEPS)
        return self.translate(source, ends, n_steps=n_steps, generators=[generator] * len(target)), target

    def translate(self, source: Tensor, ends: BridgeEnds, *, n_steps: int, generators: Sequence[Generator]) -> Tensor:
        """Carry control cells over the bridge.

        Parameters
        ----------
        source
            Control cells, [B, M, G].
        ends
            What is known of both ends, for B sets.
        n_steps
            Steps to noise, and as many back.
        generators
            Source of randomness of each set; used only with masks.

        Returns
        -------
        Cells in the units of the data, [B, M, G].
        """
        times = torch.linspace(0, 1, n_steps + 1, dtype=torch.float64).tolist()
        before = after = None
        noise = torch.zeros(())
        if self.masked:
            noise = torch.stack([_draw(torch.randn, source[0], generator) for generator in generators])
            uniform = torch.stack([_draw(torch.rand, source[0], generator) for generator in generators])
            before, after = (source > 0).to(source), self.draw_mask(source > 0, ends, uniform).to(source)
        start = self._path(ends.level, before)
        y = start.to_noise(
            self._denoiser(ends.source),
            start.coordinates(source, noise),
            times,
            n_refinements=self.config.n_refinements,
        )
        end = self._path(ends.moved, after)
        y = end.to_data(self._denoiser(ends.source, ends.target), y, times[::-1])
        return self.representation.bound(end.cells(y, 0.0))

    def _path(self, level: Tensor, mask: Tensor | None) -> GaussianPath:
        return GaussianPath(level[:, None], self.variance, self.scale, self.noise, mask)

    def _denoiser(self, *conditions: Tensor) -> Callable[[Tensor, float], Tensor]:
        """Denoiser with averaged weights as a function of cells and time: of control cells under one condition."""

        def slope(x_t: Tensor, t: float) -> Tensor:
            times = x_t.new_full(x_t.shape[:2], t)
            alpha, sigma = self.noise.alpha(times[:1, :1, None]), self.noise.sigma(times[:1, :1, None])
            return self.gate(self._slope(self.average.network, x_t, times, alpha, sigma, conditions))

        return slope

    def draw_mask(self, expressed: Tensor, ends: BridgeEnds, uniform: Tensor) -> Tensor:
        """Draw which genes predicted cells express.

        Parameters
        ----------
        expressed
            Genes that the control cells express, bool [B, M, G].
        ends
            What is known of both ends, for B sets.
        uniform
            Uniform random numbers, [B, M, G].

        Returns
        -------
        bool [B, M, G].
        """
        probability = ends.log_odds.sigmoid()
        if self.config.zeros == "bernoulli":
            return uniform < probability[:, None]
        wanted = probability
        if self.config.zeros == "nearest":
            wanted = nearest_rates(probability, self.rates.to(probability))
            wanted = torch.where(probability >= _CERTAIN, 1.0, torch.where(probability <= 1 - _CERTAIN, 0.0, wanted))
        return switch_genes(expressed, ends.detection[:, None], wanted[:, None], uniform)

    @torch.inference_mode()
    def sample(self, request: SampleRequest, *, n_steps: int, generators: Sequence[Generator]) -> Tensor:
        """Carry the source cells of B sets over the bridge, each cell by itself.

        Parameters
        ----------
        request
            Sources, controls and conditions.
        n_steps
            Steps to noise, and as many back.
        generators
            Source of randomness of each set; used only with masks.

        Returns
        -------
        Cells in the units of the data, [B, M, G].
        """
        ends = self.ends(self.average.network, request._asdict())
        ends = BridgeEnds(*map(request.per_set, ends))
        return self.translate(request.source, ends, n_steps=n_steps, generators=generators)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        """Make room for the rates that were saved: the number of conditions is known only from the data."""
        saved = state_dict.get(prefix + "rates")
        if saved is not None:
            self.rates = torch.empty_like(saved, device=self.rates.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _draw(random: Any, like: Tensor, generator: Generator) -> Tensor:
    return random(like.shape, generator=generator, device=like.device)
