"""The population encoder as an scvi module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from scvi.module.base import BaseModuleClass, LossOutput
from torch import nn

from pertcast.diffusion import energy_distance
from pertcast.module._config import check_types, require
from pertcast.module._ema import ExponentialMovingAverage
from pertcast.module._inputs import FixedInput
from pertcast.module._population_networks import SetEncoder, SetGenerator
from pertcast.representation import make_representation

if TYPE_CHECKING:
    from torch import Generator, Tensor

__all__ = ["PopulationEncoderConfig", "PopulationEncoderModule"]


@dataclass(frozen=True)
class PopulationEncoderConfig:
    """Hyper-parameters; see :class:`pertcast.PopulationEncoder` for what each means.

    Examples
    --------
    >>> PopulationEncoderConfig(n_embedding=8).n_embedding
    8
    >>> PopulationEncoderConfig(representation="autoencoder")
    Traceback (most recent call last):
        ...
    ValueError: representation is 'autoencoder'; it must be one of ('genes', 'pca').
    """

    representation: Literal["genes", "pca"] = "genes"
    n_latent: int = 50
    n_embedding: int = 32
    n_noise: int = 64
    n_hidden: int = 128
    n_layers: int = 2
    isometry_weight: float = 0.1
    set_size: int = 64
    n_sets: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    ema_decay: float = 0.98

    def __post_init__(self) -> None:
        """Check types and ranges.

        Raises
        ------
        TypeError
            If a value is of the wrong type.
        ValueError
            If a value is out of its range.
        """
        check_types(self, vars(self))
        for name in ("n_latent", "n_embedding", "n_noise", "n_hidden", "n_layers"):
            require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("set_size", "n_sets"):
            require(name, getattr(self, name), getattr(self, name) >= 2, "at least 2: distances need pairs")
        for name in ("isometry_weight", "weight_decay"):
            require(name, getattr(self, name), getattr(self, name) >= 0, "at least 0")
        require("learning_rate", self.learning_rate, self.learning_rate > 0, "above 0")
        require("ema_decay", self.ema_decay, 0 <= self.ema_decay < 1, "at least 0 and below 1")
        known = ("genes", "pca")  # in other spaces distances do not have the units of the data
        require("representation", self.representation, self.representation in known, f"one of {known}")


class PopulationEncoderModule(BaseModuleClass):
    r"""Encoder of sets of cells, and generator of cells from noise and a code (arXiv 2505.18150).

    The code z of a population comes from one sample of its cells, and the generator must match another one. The loss is
    :math:`D_E\big(G(\epsilon, z), y\big) + w \, \mathrm{stress}`, with the energy distance :math:`D_E`. All sets of a
    batch share their noise, so that cells made of the same noise are partners, and the stress
    :math:`\tfrac{1}{2} \, \mathrm{mean}_{a < b} (\|z_a - z_b\| - d_{ab} / u)^2` compares distances of codes with the
    root mean square distance :math:`d_{ab}` of partners in units of ``unit``, :math:`u`. Only the encoder is trained by
    it.

    Parameters
    ----------
    config
        Hyper-parameters.
    n_genes
        Number of genes G.
    nonnegative
        Whether expression cannot be negative.

    Examples
    --------
    Before training, the code of a population is its mean and its standard deviation:

    >>> import torch
    >>> module = PopulationEncoderModule(PopulationEncoderConfig(n_embedding=4), 2, nonnegative=True)
    >>> module.input.fit(mean=torch.zeros(2), axes=torch.eye(2), variance=torch.ones(2))
    >>> module.initialise(spread=torch.zeros(2), unit=1.0)
    >>> cells = torch.tensor([[1.0, 1.0], [3.0, 5.0]])
    >>> module.embed(module.cell_features(cells).mean(0)[None]).round(decimals=4)
    tensor([[2., 3., 1., 2.]])
    """

    scale: Tensor
    unit: Tensor

    def __init__(self, config: PopulationEncoderConfig, n_genes: int, *, nonnegative: bool) -> None:
        super().__init__()
        self.config, self.nonnegative = config, nonnegative
        self.representation = make_representation(
            config.representation, n_genes, config.n_latent, nonnegative=nonnegative
        )
        n_features = self.representation.n_features
        self.input = FixedInput(n_features, min(config.n_noise, n_features))
        n_noise, size = self.input.n_features, {"n_hidden": config.n_hidden, "n_layers": config.n_layers}
        self.network = nn.ModuleDict(
            {
                "encoder": SetEncoder(n_noise, config.n_embedding, **size),
                "generator": SetGenerator(n_noise, config.n_embedding, n_features, **size),
                "residual": nn.ParameterDict({"spread": nn.Parameter(torch.zeros(n_features))}),
            }
        )
        self.average = ExponentialMovingAverage(self.network, config.ema_decay)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("unit", torch.ones(()))

    @torch.no_grad()
    def initialise(self, spread: Tensor, unit: float) -> None:
        """Let untrained networks keep means and standard deviations of populations along the leading axes.

        Parameters
        ----------
        spread
            Standard deviation of each feature that the axes of the input do not describe, [K].
        unit
            Typical distance of a population from their centre, in the units of the features.
        """
        self.unit.fill_(unit)
        deviation = self.input.variance.sqrt()
        for network in (self.network, self.average.network):
            parts: Any = network
            parts["encoder"].set_moments(deviation.max() / unit)
            parts["generator"].set_moments(unit / deviation)
            parts["residual"]["spread"].copy_(spread / self.scale)

    def forward(self, tensors: dict[str, Tensor], generator: Generator) -> LossOutput:
        """Loss of a batch: Lightning calls modules."""
        return self.loss(tensors, generator)

    def loss(self, tensors: dict[str, Tensor], generator: Generator) -> LossOutput:
        """Energy distance of generated and real cells of B populations, and stress of their codes.

        Parameters
        ----------
        tensors
            Two samples of each population: ``X`` [B, M, G] with ``mask``, and ``control`` [B, N, G] with
            ``control_mask``, from which the codes come.
        generator
            Source of the noise.
        """
        network: Any = self.network if self.training else self.average.network
        target, mask = self.representation.encode(tensors["X"]), tensors["mask"]
        sample = self.input.clean(self.representation.encode(tensors["control"]), self.scale)
        codes = network["encoder"](sample, tensors["control_mask"])
        noise, residual = self.draw_noise(1, target.shape[1], generator)
        cells = self.generate(network, codes, noise.expand(len(codes), -1, -1), residual)
        energy = energy_distance(cells / self.scale, target / self.scale, None, mask).mean()
        partners = F.pdist(cells.detach().flatten(1).float()) / (target.shape[1] ** 0.5 * self.unit)
        n_pairs = max(len(partners), 1)  # a batch of one population has no pairs, and no stress
        stress = (F.pdist(codes.float()) - partners).square().sum() / (2 * n_pairs)
        return LossOutput(
            loss=energy + self.config.isometry_weight * stress,
            n_obs_minibatch=len(target),
            extra_metrics={"energy": energy.detach(), "stress": stress.detach()},
        )

    def draw_noise(self, n_sets: int, n_cells: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Noise of the generator [B, M, F], and of single features [B, M, K]."""
        return tuple(  # type: ignore[return-value]
            torch.randn(n_sets, n_cells, size, generator=generator, device=self.device)
            for size in (self.input.n_features, self.representation.n_features)
        )

    def generate(self, network: Any, codes: Tensor, noise: Tensor, residual: Tensor) -> Tensor:
        """Features of cells of B populations, [B, M, K].

        Parameters
        ----------
        network
            Trained or averaged networks.
        codes
            [B, E].
        noise
            [B, M, F].
        residual
            Noise of single features, [B, M, K] or [1, M, K].
        """
        made = network["generator"](noise, codes)
        cells = self.input.mean + (made.scores * self.input.variance.sqrt()) @ self.input.axes.T
        cells = cells + self.scale * (made.features + made.spread * network["residual"]["spread"] * residual)
        return self.representation.bound(cells)

    @torch.inference_mode()
    def sample(self, embedding: Tensor, n_cells: int, generator: Generator) -> Tensor:
        """Draw cells of populations, all from the same noise, [B, n_cells, G] in the units of the data.

        Parameters
        ----------
        embedding
            In the units of the data, [B, E].
        n_cells
            Cells of each population.
        generator
            Source of the noise.
        """
        noise, residual = self.draw_noise(1, n_cells, generator)
        parts = [
            self.representation.reconstruct(self.generate(self.average.network, code / self.unit, noise, residual))
            for code in embedding.split(1)
        ]
        return torch.cat(parts)

    @torch.inference_mode()
    def cell_features(self, cells: Tensor) -> Tensor:
        """Features of single cells that the embedding of a population is the mean of, [n, G] to [n, H]."""
        network: Any = self.average.network
        return network["encoder"].cell_features(self.input.clean(self.representation.encode(cells), self.scale))

    @torch.inference_mode()
    def embed(self, mean: Tensor) -> Tensor:
        """Embedding of populations from the means of the features of their cells, [P, H] to [P, E]."""
        network: Any = self.average.network
        return network["encoder"].embed(mean) * self.unit
