"""The conditional Monge map as an scvi module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from scvi.module.base import LossOutput

from pertcast.module._base import PopulationModule
from pertcast.module._config import PopulationConfig, require
from pertcast.module._monge_network import ContextEncoder, ResidualMap
from pertcast.transport import monge_gap, sinkhorn_divergence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from pertcast.module._batch import SampleRequest
    from pertcast.representation import RepresentationName

__all__ = ["ConditionalMongeConfig", "ConditionalMongeModule"]

#: Absolute error of the marginals of transport plans in training, summed over cells.
_TOLERANCE = 0.02


@dataclass(frozen=True)
class ConditionalMongeConfig(PopulationConfig):
    """Hyper-parameters; see :class:`pertcast.ConditionalMonge` for what each means.

    Examples
    --------
    >>> config = ConditionalMongeConfig(gap_weight=0.0)  # no Monge gap
    >>> config.gap_weight, config.fit_weight
    (0.0, 1.0)
    >>> ConditionalMongeConfig(cost="cosine")
    Traceback (most recent call last):
        ...
    ValueError: cost is 'cosine'; it must be one of ('euclidean', 'sqeuclidean').
    """

    representation: RepresentationName = "pca"
    n_input: int | Literal["learned"] = "learned"
    n_hidden: int = 64
    n_layers: int = 4
    n_embedding: int = 50
    n_dosage: int = 1
    layer_norm: bool = False
    cost: Literal["euclidean", "sqeuclidean"] = "euclidean"
    fit_weight: float = 1.0
    fit_epsilon: float = 1.0
    gap_weight: float = 1.0
    gap_epsilon: float = 0.01
    set_size: int = 128
    n_sets: int = 2
    weight_decay: float = 1e-5

    def __post_init__(self) -> None:
        """Check types and ranges.

        Raises
        ------
        TypeError
            If a value is of the wrong type.
        ValueError
            If a value is out of its range.
        """
        super().__post_init__()
        for name in ("n_hidden", "n_layers", "n_embedding", "n_dosage"):
            require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("fit_weight", "fit_epsilon", "gap_epsilon"):
            require(name, getattr(self, name), getattr(self, name) > 0, "above 0")
        require("gap_weight", self.gap_weight, self.gap_weight >= 0, "at least 0")
        costs = ("euclidean", "sqeuclidean")
        require("cost", self.cost, self.cost in costs, f"one of {costs}")


class ConditionalMongeModule(PopulationModule):
    r"""Moves each control cell by a map T that depends on the condition (arXiv 2504.08328).

    The loss is :math:`w_S \, S_\epsilon(T(x), y) + w_M \, M_{\epsilon'}(x, T(x))`: the Sinkhorn divergence between the
    moved control cells and the perturbed cells y, and the Monge gap of the map, both in units of the data scale.

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
    >>> from pertcast.module import SampleRequest
    >>> config = ConditionalMongeConfig(representation="genes", anchor="shift")
    >>> module = ConditionalMongeModule(config, 2, nonnegative=True, n_trained=1)
    >>> cells, mask, code = torch.ones(1, 3, 2), torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
    >>> shift, dosage, covariates = torch.tensor([[1.0, 2.0]]), torch.ones(1), torch.zeros(1, 0)
    >>> request = SampleRequest(cells, cells, mask, shift, code[None], mask[:, :1], dosage, covariates, code, code)
    >>> module.sample(request, generators=[torch.Generator()]).tolist()
    [[[2.0, 3.0], [2.0, 3.0], [2.0, 3.0]]]
    """

    mixes_conditions = True

    config: ConditionalMongeConfig

    def build_cells(self) -> ResidualMap:
        """Build the map."""
        config = self.config
        return ResidualMap(
            self.representation.n_features,
            config.n_embedding + config.n_dosage + self.n_covariates,
            n_hidden=config.n_hidden,
            n_layers=config.n_layers,
            layer_norm=config.layer_norm,
        )

    def build_condition(
        self, n_trained: int, *, vectors: Tensor | None, n_covariates: int, n_contexts: int, n_batches: int
    ) -> ContextEncoder:
        """Build the encoder of conditions; cells describe contexts and batches."""
        config = self.config
        return ContextEncoder(
            n_trained,
            n_embedding=config.n_embedding,
            n_dosage=config.n_dosage,
            vectors=vectors,
            n_covariates=n_covariates,
        )

    def loss(self, tensors: dict[str, Tensor], generator: Generator) -> LossOutput:
        """Sinkhorn divergence to the perturbed cells, and Monge gap, of the matched control cells of B sets.

        Parameters
        ----------
        tensors
            A ``pertcast.data.PopulationBatch``, and the anchor ``shift`` [B, G].
        generator
            Drops conditions as in training; the map itself has no randomness.
        """
        config, control_mask = self.config, tensors["control_mask"]
        network = self.network if self.training else self.average.network
        condition = self.encode_condition(network, tensors, generator=generator if self.training else None)
        start = self.representation.encode(self.move(tensors["control"], tensors["shift"]))
        target = self.representation.encode(tensors["X"])
        cells = self.transform(network, start, condition)
        divergence = sinkhorn_divergence(
            cells / self.scale,
            target / self.scale,
            epsilon=config.fit_epsilon,
            cost=config.cost,
            x_weights=control_mask,
            y_weights=tensors["mask"],
            tolerance=_TOLERANCE,
        ).mean()
        total, metrics = config.fit_weight * divergence, {"sinkhorn": divergence.detach()}
        if config.gap_weight > 0:
            gap = monge_gap(
                start / self.scale,
                cells / self.scale,
                epsilon=config.gap_epsilon,
                cost=config.cost,
                weights=control_mask,
                tolerance=_TOLERANCE,
            ).mean()
            total, metrics["gap"] = total + config.gap_weight * gap, gap.detach()
        return LossOutput(loss=total, n_obs_minibatch=len(target), extra_metrics=metrics)

    def one_step(self, tensors: dict[str, Tensor], generator: Generator) -> tuple[Tensor, Tensor]:
        """Moved control cells for the sets of a batch, and the real cells, both [B, M, K]."""
        target, moved = self.pairs(tensors, generator)
        condition = self.encode_condition(self.average.network, tensors)
        return self.transform(self.average.network, moved, condition), target

    def transform(self, network: Any, cells: Tensor, condition: Tensor) -> Tensor:
        """Apply the map to features of cells, [B, M, K]."""
        displacement = network["cells"](self.input.clean(cells, self.scale), condition)
        return self.representation.bound(self.gate.add(cells, displacement, self.scale))

    @torch.inference_mode()
    def sample(self, request: SampleRequest, *, generators: Sequence[Generator]) -> Tensor:
        """Move the source cells of B sets, each cell by itself.

        Parameters
        ----------
        request
            Sources, controls and conditions.
        generators
            Not used: nothing is random.

        Returns
        -------
        Cells in the units of the data, [B, M, G].
        """
        network: Any = self.average.network
        condition = request.per_set(self.encode_condition(network, request._asdict()))
        moved_cells = self.move(request.source, request.per_set(request.shift))
        cells = self.transform(network, self.representation.encode(moved_cells), condition)
        return self.representation.decode(cells, moved_cells)
