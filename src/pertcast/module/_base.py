"""What the scvi modules of all population models share: the space of cells, the network, conditions and controls."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from scvi.module.base import BaseModuleClass, LossOutput
from torch import nn

from pertcast._log_dosage import LogDosage
from pertcast.diffusion import energy_distance
from pertcast.module._batch import choose_sources
from pertcast.module._ema import ExponentialMovingAverage
from pertcast.module._gate import ResidualGate
from pertcast.module._inputs import FixedInput, LearnedInput
from pertcast.nn import ConditionEncoder, PopulationTransformer
from pertcast.representation import make_representation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor

    from pertcast.module._config import PopulationConfig
    from pertcast.nn import ControlEncoding

__all__ = ["PopulationModule"]


class PopulationModule(BaseModuleClass):
    """Base of modules that predict sets of cells from control cells and a condition.

    A subclass implements :meth:`loss`, :meth:`one_step` and ``sample``, and builds other networks than the default ones
    in :meth:`build_cells` and :meth:`build_condition`. Averaged weights are used for everything but training.

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

    Examples
    --------
    A module whose cells are the control cells, moved by the anchor:

    >>> import torch
    >>> from pertcast.module import SetTransformerConfig
    >>> class Moved(PopulationModule):
    ...     def loss(self, tensors, generator):
    ...         return self.held_out_loss(tensors, generator)
    ...
    ...     def one_step(self, tensors, generator):
    ...         target, moved = self.pairs(tensors, generator)
    ...         return moved, target
    ...
    ...     def sample(self, request, *, generators):
    ...         return self.move(request.source, request.per_set(request.shift))
    >>> module = Moved(SetTransformerConfig(anchor="shift"), 2, nonnegative=True, n_trained=1)
    >>> module.move(torch.ones(1, 3, 2), shift=torch.tensor([[1.0, 2.0]]))
    tensor([[[2., 3.],
             [2., 3.],
             [2., 3.]]])
    """

    scale: Tensor
    covariate_moments: Tensor

    sample: Callable[..., Tensor]
    """``sample(request, *, generators, **options)``: one cell for each source cell, [B, M, G] in the units of the data.

    There is one generator for each set: the result for a set does not depend on the sets beside it.
    """

    mixes_conditions: bool = False
    """Whether ``sample`` draws sets of several conditions together."""

    needs_detection: bool = False
    """Whether ``sample`` is told which share of all controls expresses each gene."""

    condition_dropout: float = 0.0
    """Share of training sets without condition."""

    def __init__(
        self,
        config: PopulationConfig,
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
        self.n_covariates = n_covariates
        self.representation = make_representation(
            config.representation, n_genes, config.n_latent, nonnegative=nonnegative
        )
        n_features = self.representation.n_features
        self.input = (
            LearnedInput(n_features)
            if config.n_input == "learned"
            else FixedInput(n_features, min(config.n_input, n_features))
        )
        cells = self.build_cells()
        condition = self.build_condition(
            n_trained, vectors=vectors, n_covariates=n_covariates, n_contexts=n_contexts, n_batches=n_batches
        )
        self.network = nn.ModuleDict({"cells": cells, "condition": condition})
        self.average = ExponentialMovingAverage(self.network, config.ema_decay)
        self.gate = ResidualGate()
        self.register_buffer("scale", torch.ones(()))
        self.log_dosage = LogDosage()
        self.register_buffer("covariate_moments", torch.stack([torch.zeros(n_covariates), torch.ones(n_covariates)]))

    def build_cells(self) -> nn.Module:
        """Build the network that transforms cells: a population transformer whose output starts at 0.

        It is called when all attributes but networks and buffers are set.
        """
        size: Any = self.config
        return PopulationTransformer(
            self.input.n_features,
            self.representation.n_features,
            n_hidden=size.n_hidden,
            n_layers=size.n_layers,
            n_heads=size.n_heads,
            n_tokens=size.n_tokens,
        )

    def build_condition(
        self, n_trained: int, *, vectors: Tensor | None, n_covariates: int, n_contexts: int, n_batches: int
    ) -> nn.Module:
        """Build the encoder of conditions: :class:`~pertcast.nn.ConditionEncoder` without identities.

        Parameters
        ----------
        n_trained, vectors, n_covariates, n_contexts, n_batches
            As given to the module.
        """
        width: Any = self.config
        return ConditionEncoder(n_trained, width.n_hidden, vectors=vectors, n_covariates=n_covariates)

    def forward(self, tensors: dict[str, Tensor], generator: Generator) -> LossOutput:
        """Loss of a batch: Lightning calls modules."""
        return self.loss(tensors, generator)

    @abstractmethod
    def loss(self, tensors: dict[str, Tensor], generator: Generator) -> LossOutput:
        """Loss of B sets, with averaged weights in evaluation mode.

        Parameters
        ----------
        tensors
            A ``pertcast.data.PopulationBatch``, and the anchor ``shift`` [B, G].
        generator
            Source of all randomness of the step, on the device of the batch.
        """

    @abstractmethod
    def one_step(self, tensors: dict[str, Tensor], generator: Generator) -> tuple[Tensor, Tensor]:
        """Cells drawn as cheaply as the model can for the sets of a batch, and the real ones, both [B, M, K]."""

    def held_out_loss(self, tensors: dict[str, Tensor], generator: Generator) -> LossOutput:
        """Energy distance of the cells of :meth:`one_step` and the real ones, for models that train on another loss.

        In units of the data scale and of the root of the number of features, so that it is comparable across spaces.
        """
        cells, target = self.one_step(tensors, generator)
        energy = energy_distance(cells / self.scale, target / self.scale, tensors["mask"], tensors["mask"])
        energy = energy.mean() / target.shape[2] ** 0.5
        return LossOutput(loss=energy, n_obs_minibatch=len(target), extra_metrics={"energy": energy})

    def pairs(self, tensors: dict[str, Tensor], generator: Generator) -> tuple[Tensor, Tensor]:
        """Features of the cells of a batch, and of the moved control cell each starts from, both [B, M, K]."""
        target = self.representation.encode(tensors["X"])
        source = choose_sources(tensors["control"], tensors["control_mask"], target.shape[1], generator)
        return target, self.representation.encode(self.move(source, tensors["shift"]))

    def move(self, source: Tensor, shift: Tensor) -> Tensor:
        """Control cells moved by the anchor, [B, M, G]; as they are without an anchor."""
        return source + shift[:, None] if self.anchored else source

    def encode(
        self, network: Any, tensors: dict[str, Any], *, generator: Generator | None = None
    ) -> tuple[Tensor, ControlEncoding]:
        """Encode conditions [B, D] and controls; a generator drops conditions and identities as in training."""
        condition = self.encode_condition(network, tensors, generator=generator)
        features = self.input.clean(self.representation.encode(tensors["control"]), self.scale)
        return condition, network["cells"].encode_controls(features, tensors["control_mask"])

    def encode_condition(self, network: Any, tensors: dict[str, Any], *, generator: Generator | None = None) -> Tensor:
        """Encode conditions, [B, D]; a generator drops conditions and identities as in training."""
        n, device = len(tensors["dosage"]), tensors["dosage"].device
        keep, dropped = None, None
        if generator is not None:
            draw = torch.rand(2, n, generator=generator, device=device)
            dropped = draw[0] < self.condition_dropout
            keep = draw[1] >= network["condition"].identity_dropout
        covariates = (tensors["covariates"] - self.covariate_moments[0]) / self.covariate_moments[1]
        condition = network["condition"](
            tensors["part_ids"],
            tensors["part_mask"],
            self.log_dosage(tensors["dosage"]),
            covariates,
            tensors["context"],
            tensors["batch"],
            keep_identity=keep,
            parts=_mean_vectors(network["condition"], tensors.get("stand_ins", ())),
        )
        if dropped is not None:
            condition = torch.where(dropped[:, None], network["condition"].null, condition)
        return condition


def _mean_vectors(encoder: Any, stand_ins: Sequence[Tensor]) -> Tensor | None:
    """Mean of the vectors that speak for each of K parts, [1, K, D]; None without any."""
    if not stand_ins:
        return None
    return torch.stack([encoder.part_vectors(ids[None])[0].mean(0) for ids in stand_ins])[None]
