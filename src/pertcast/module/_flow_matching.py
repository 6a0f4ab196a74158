"""Flow matching with optimal transport as an scvi module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from scipy.optimize import linear_sum_assignment
from scvi.module.base import LossOutput

from pertcast.diffusion import masked_mse
from pertcast.module._base import PopulationModule
from pertcast.module._config import TransformerConfig, require
from pertcast.nn import ControlEncoding
from pertcast.transport import pairwise_cost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from pertcast.module._batch import SampleRequest
    from pertcast.representation import RepresentationName

__all__ = ["FlowMatchingConfig", "FlowMatchingModule"]


@dataclass(frozen=True)
class FlowMatchingConfig(TransformerConfig):
    """Hyper-parameters; see :class:`pertcast.FlowMatching` for what each means.

    Examples
    --------
    >>> config = FlowMatchingConfig(solver="euler")
    >>> config.solver, config.n_steps
    ('euler', 5)
    >>> FlowMatchingConfig(n_steps=0)
    Traceback (most recent call last):
        ...
    ValueError: n_steps is 0; it must be at least 1.
    """

    representation: RepresentationName = "pca"
    solver: Literal["euler", "heun"] = "heun"
    n_steps: int = 5

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
        require("n_steps", self.n_steps, self.n_steps >= 1, "at least 1")
        require("solver", self.solver, self.solver in ("euler", "heun"), "one of ('euler', 'heun')")


class FlowMatchingModule(PopulationModule):
    r"""Moves sets of control cells along a learned velocity (CellFlow, bioRxiv 2025.04.11.648220).

    Trained by conditional flow matching with minibatch optimal transport (Tong et al., TMLR 2024): for a control cell
    :math:`x_0` paired with a perturbed cell :math:`x_1`, and t uniform in [0, 1],
    :math:`E \| v_\theta(x_t, t, \mathrm{condition}, \mathrm{controls}) - (x_1 - x_0) \|^2` with
    :math:`x_t = (1 - t) x_0 + t x_1`. The cells of a set move together.

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
    >>> config = FlowMatchingConfig(representation="genes", anchor="shift")
    >>> module = FlowMatchingModule(config, 2, nonnegative=True, n_trained=1)
    >>> cells, mask, code = torch.ones(1, 3, 2), torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
    >>> shift, dosage, covariates = torch.tensor([[1.0, 2.0]]), torch.ones(1), torch.zeros(1, 0)
    >>> request = SampleRequest(cells, cells, mask, shift, code[None], mask[:, :1], dosage, covariates, code, code)
    >>> module.sample(request, n_steps=2, generators=[torch.Generator()]).tolist()
    [[[2.0, 3.0], [2.0, 3.0], [2.0, 3.0]]]
    """

    mixes_conditions = True

    config: FlowMatchingConfig

    def loss(self, tensors: dict[str, Tensor], generator: Generator) -> LossOutput:
        """Squared error of the velocity in training; on held-out sets the energy distance of transported cells.

        Parameters
        ----------
        tensors
            A ``pertcast.data.PopulationBatch``, and the anchor ``shift`` [B, G].
        generator
            Source of all randomness of the step, on the device of the batch.
        """
        if not self.training:
            return self.held_out_loss(tensors, generator)
        mask = tensors["mask"]
        target, start = self.pairs(tensors, generator)
        rows = couple(self.input.clean(start, self.scale), self.input.clean(target, self.scale), mask)
        start = start.gather(1, rows[..., None].expand_as(start))
        condition, encoding = self.encode(self.network, tensors, generator=generator)
        t = torch.rand(len(target), generator=generator, device=target.device)
        x_t = start + t[:, None, None] * (target - start)
        velocity = self.velocity(self.network, x_t, t, mask, condition, encoding)
        mse = masked_mse(velocity / self.scale, (target - start) / self.scale, mask).mean()
        return LossOutput(loss=mse, n_obs_minibatch=len(target), extra_metrics={"mse": mse.detach()})

    def one_step(self, tensors: dict[str, Tensor], generator: Generator) -> tuple[Tensor, Tensor]:
        """Transported cells for the sets of a batch, in the usual number of steps, and the real ones, [B, M, K]."""
        network: Any = self.average.network
        target, moved = self.pairs(tensors, generator)
        condition, controls = self.encode(network, tensors)
        cells = self.flow(network, moved, tensors["mask"], condition, controls, n_steps=self.config.n_steps)
        return self.representation.bound(cells), target

    def velocity(
        self, network: Any, x_t: Tensor, t: Tensor, mask: Tensor | None, condition: Tensor, controls: ControlEncoding
    ) -> Tensor:
        """Velocity of cells at times t [B], in the units of the representation per unit of time, [B, M, K]."""
        features = self.input.clean(x_t, self.scale)
        found = network["cells"](features, torch.zeros_like(features), mask, t, condition, controls)
        return self.gate(found * self.scale)

    def flow(
        self,
        network: Any,
        start: Tensor,
        mask: Tensor | None,
        condition: Tensor,
        controls: ControlEncoding,
        *,
        n_steps: int,
    ) -> Tensor:
        """Move cells [B, M, K] from t = 0 to t = 1 in equal steps; without a mask all are real."""
        x, width = start, 1 / n_steps
        for step in range(n_steps):
            t = x.new_full((len(x),), step * width)
            slope = self.velocity(network, x, t, mask, condition, controls)
            if self.config.solver == "heun":
                ahead = self.velocity(network, x + width * slope, t + width, mask, condition, controls)
                slope = (slope + ahead) / 2
            x = x + width * slope
        return x

    @torch.inference_mode()
    def sample(self, request: SampleRequest, *, n_steps: int, generators: Sequence[Generator]) -> Tensor:
        """Move the source cells of B sets.

        Parameters
        ----------
        request
            Sources, controls and conditions.
        n_steps
            Steps of the solver; Heun's method calls the network twice in each.
        generators
            Not used: nothing is random.

        Returns
        -------
        Cells in the units of the data, [B, M, G].
        """
        network: Any = self.average.network
        moved_cells = self.move(request.source, request.per_set(request.shift))
        condition, controls = self.encode(network, request._asdict())
        start = self.representation.encode(moved_cells)
        encoding = ControlEncoding(*map(request.per_set, controls))
        cells = self.flow(network, start, None, request.per_set(condition), encoding, n_steps=n_steps)
        return self.representation.decode(cells, moved_cells)


def couple(source: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Pair the cells of two sets one to one with the smallest sum of squared distances (optimal transport).

    Parameters
    ----------
    source
        Control cells, [B, M, K]; where ``mask`` is false they are left out.
    target
        Perturbed cells, [B, M, K].
    mask
        Where both hold a cell, bool [B, M]; real cells come first.

    Returns
    -------
    Row of ``source`` for each cell of ``target``, int64 [B, M]; a permutation of the real cells of a set.
    """
    cost = pairwise_cost(target.detach(), source.detach(), "sqeuclidean").cpu().numpy()
    rows = torch.arange(mask.shape[1]).repeat(len(mask), 1)
    for number, n in enumerate(mask.sum(1).tolist()):
        rows[number, :n] = torch.from_numpy(linear_sum_assignment(cost[number, :n, :n])[1])
    return rows.to(source.device)
