"""The one-pass set transformer as an scvi module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from scvi.module.base import LossOutput

from pertcast.diffusion import population_loss
from pertcast.module._base import PopulationModule
from pertcast.module._config import TransformerConfig
from pertcast.nn import ControlEncoding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from pertcast.module._batch import SampleRequest
    from pertcast.representation import RepresentationName

__all__ = ["SetTransformerConfig", "SetTransformerModule"]


@dataclass(frozen=True)
class SetTransformerConfig(TransformerConfig):
    """Hyper-parameters; see :class:`pertcast.SetTransformer` for what each means.

    Examples
    --------
    >>> SetTransformerConfig(n_hidden=64).n_hidden
    64
    >>> SetTransformerConfig(n_heads=0)
    Traceback (most recent call last):
        ...
    ValueError: n_heads is 0; it must be at least 1.
    """

    representation: RepresentationName = "genes"


class SetTransformerModule(PopulationModule):
    r"""Maps a set of control cells to a set of perturbed cells in one pass (State, bioRxiv 2025.06.26.661135).

    With s the control cells, moved by the anchor if there is one:
    :math:`\hat x = \mathrm{bound}(s + r_\theta(s, \mathrm{condition}, \mathrm{controls}))`. Nothing is random. The
    network is the one of PerturbDiff with its noisy cells left empty and its time at 0.

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
    >>> module = SetTransformerModule(SetTransformerConfig(anchor="shift"), 2, nonnegative=True, n_trained=1)
    >>> cells, mask, code = torch.ones(1, 3, 2), torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
    >>> shift, dosage, covariates = torch.tensor([[1.0, 2.0]]), torch.ones(1), torch.zeros(1, 0)
    >>> request = SampleRequest(cells, cells, mask, shift, code[None], mask[:, :1], dosage, covariates, code, code)
    >>> module.sample(request, generators=[torch.Generator()]).tolist()
    [[[2.0, 3.0], [2.0, 3.0], [2.0, 3.0]]]
    """

    mixes_conditions = True

    config: SetTransformerConfig

    def loss(self, tensors: dict[str, Tensor], generator: Generator) -> LossOutput:
        """Energy distance of predicted and real cells of B sets, in units of the data scale.

        Parameters
        ----------
        tensors
            A ``pertcast.data.PopulationBatch``, and the anchor ``shift`` [B, G].
        generator
            Draws the control cells that the sets start from, and drops identities as in training.
        """
        mask = tensors["mask"]
        target, moved = self.pairs(tensors, generator)
        network = self.network if self.training else self.average.network
        condition, controls = self.encode(network, tensors, generator=generator if self.training else None)
        cells = self.transform(network, moved, mask, condition, controls)
        losses = population_loss(cells / self.scale, target / self.scale, mask)
        return LossOutput(
            loss=losses.total.mean(),
            n_obs_minibatch=len(target),
            extra_metrics={"energy": losses.energy.mean().detach()},
        )

    def one_step(self, tensors: dict[str, Tensor], generator: Generator) -> tuple[Tensor, Tensor]:
        """Predicted cells for the sets of a batch, and the real ones, both [B, M, K]."""
        target, moved = self.pairs(tensors, generator)
        condition, controls = self.encode(self.average.network, tensors)
        return self.transform(self.average.network, moved, tensors["mask"], condition, controls), target

    def transform(
        self, network: Any, moved: Tensor, mask: Tensor | None, condition: Tensor, controls: ControlEncoding
    ) -> Tensor:
        """Predict cells from features of moved control cells, both [B, M, K]; without a mask all are real."""
        features = self.input.clean(moved, self.scale)
        t = features.new_zeros(len(features))
        residual = network["cells"](torch.zeros_like(features), features, mask, t, condition, controls)
        return self.representation.bound(self.gate.add(moved, residual, self.scale))

    @torch.inference_mode()
    def sample(self, request: SampleRequest, *, generators: Sequence[Generator]) -> Tensor:
        """Predict cells for B sets, one for each source cell.

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
        moved_cells = self.move(request.source, request.per_set(request.shift))
        condition, controls = self.encode(network, request._asdict())
        moved = self.representation.encode(moved_cells)
        cells = self.transform(
            network, moved, None, request.per_set(condition), ControlEncoding(*map(request.per_set, controls))
        )
        return self.representation.decode(cells, moved_cells)
