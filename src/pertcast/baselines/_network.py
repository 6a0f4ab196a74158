"""What the baselines with a network have in common: an encoder and a decoder of cells, and their training."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scvi.module.base import BaseModuleClass
from scvi.utils import track
from torch import nn

from pertcast._numbers import check_number, check_whole
from pertcast._seeds import seeded
from pertcast.baselines._base import Baseline
from pertcast.data._matrix import gather_rows
from pertcast.data._screen import screen_metadata_from_registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from mudata import MuData

    from pertcast.baselines._pairs import PairSampler
    from pertcast.data._screen import Screen, ScreenMetadata

__all__ = ["DEFAULT_SCHEDULE", "CellNetwork", "NetworkBaseline", "Schedule", "mlp"]

logger = logging.getLogger(__name__)

_N_SCALE = 2048


def mlp(n_in: int, n_hidden: int, n_layers: int, n_out: int) -> nn.Sequential:
    """Multilayer perceptron with ReLU between its layers.

    Parameters
    ----------
    n_in, n_out
        Numbers of input and output features.
    n_hidden
        Width of the hidden layers.
    n_layers
        Number of hidden layers; 0 for a linear map.
    """
    widths = [n_in] + [n_hidden] * n_layers
    layers: list[nn.Module] = []
    for width, following in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_out))


class CellNetwork(BaseModuleClass):
    """Encoder of cells into a latent space, and decoder.

    Parameters
    ----------
    n_genes
        G.
    n_latent
        Latent features L.
    n_hidden, n_layers
        Width and number of the hidden layers of encoder and decoder.
    n_encoded
        Outputs of the encoder, at least L; L by default.
    """

    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self, n_genes: int, n_latent: int, n_hidden: int, n_layers: int, *, n_encoded: int | None = None
    ) -> None:
        super().__init__()
        self.n_latent = n_latent
        self.encoder = mlp(n_genes, n_hidden, n_layers, n_encoded or n_latent)
        self.decoder = mlp(n_latent, n_hidden, n_layers, n_genes)
        self.register_buffer("centre", torch.zeros(n_genes))
        self.register_buffer("scale", torch.ones(()))

    def set_scale(self, cells: torch.Tensor) -> None:
        """Centre and scale the input: mean of each gene, and one typical standard deviation, of cells ``[n, G]``."""
        self.centre.copy_(cells.mean(0))
        self.scale.copy_(cells.var(0, correction=0).mean().sqrt().clamp(min=1e-6))

    def standardise(self, cells: torch.Tensor) -> torch.Tensor:
        """Centre and scale cells ``[n, G]``."""
        return (cells - self.centre) / self.scale

    def encode(self, cells: torch.Tensor) -> torch.Tensor:
        """Encode cells ``[n, G]`` into ``[n, L]``."""
        return self.encoder(self.standardise(cells))[:, : self.n_latent]

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Decode ``[n, L]`` into expression ``[n, G]``."""
        return self.decoder(latent) * self.scale + self.centre

    def change(self, cells: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """Return what the decoded cells ``[n, G]`` gain when their latent features are moved by delta ``[L]``."""
        latent = self.encode(cells)
        return self.decode(latent + delta) - self.decode(latent)


class Schedule(NamedTuple):
    """How to train a network."""

    max_steps: int = 500
    learning_rate: float = 1e-3
    batch_size: int = 128
    progressbar: bool = False


DEFAULT_SCHEDULE = Schedule()


class NetworkBaseline(Baseline):
    """Base of the baselines with a network, trained on random pairs of perturbed cells and matched controls.

    Parameters
    ----------
    adata
        Screen that was registered with ``setup_anndata`` or ``setup_mudata`` of this class.
    registry
        Registry of a saved model, in place of the screen.
    n_latent
        Latent features L.
    n_hidden, n_layers
        Width and number of the hidden layers of encoder and decoder.
    seed
        Seed of weights and training.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        n_latent: int = 32,
        n_hidden: int = 128,
        n_layers: int = 2,
        seed: int = 0,
    ) -> None:
        self.n_latent = check_whole("n_latent", n_latent)
        self.n_hidden = check_whole("n_hidden", n_hidden)
        self.n_layers = check_whole("n_layers", n_layers)
        self.seed = check_whole("seed", seed, least=0)
        super().__init__(adata, registry)
        with seeded(self.seed):
            self.module = self._network(screen_metadata_from_registry(self.registry))

    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        *,
        max_steps: int = 500,
        learning_rate: float = 1e-3,
        batch_size: int = 128,
        progressbar: bool = True,
    ) -> None:
        """Train the network on the training conditions, with Adam and a learning rate that falls to 0.

        Where a split column was registered, the conditions labelled ``train`` and ``validation`` are used. Populations
        are drawn equally often, whatever their number of cells. The loss of every step is in ``model.history``. A model
        that was trained is trained further.

        Parameters
        ----------
        max_epochs, accelerator, devices
            Not used, there so that models and baselines can be trained by the same call: the network is small, and the
            length of training is ``max_steps``. A warning says so if epochs are given.
        max_steps
            Number of steps.
        learning_rate
            Learning rate of the first step.
        batch_size
            Cells to predict (:class:`LatentAdditive`) or to reconstruct (:class:`LatentShift`) in a step.
        progressbar
            Whether to show a progress bar.

        Raises
        ------
        TypeError
            If a number is of the wrong type.
        ValueError
            If the model holds no data, no condition is left for training, or a number is out of its range.
        """
        schedule = Schedule(
            check_whole("max_steps", max_steps),
            check_number("learning_rate", learning_rate, above=0),
            check_whole("batch_size", batch_size),
            bool(progressbar),
        )
        if max_epochs is not None:
            logger.warning("%s has no epochs: it takes %d steps (`max_steps`).", type(self).__name__, max_steps)
        screen, conditions = self._training_data()
        self._fit(screen, conditions, schedule)
        self._finish(screen, conditions)

    @abstractmethod
    def _network(self, metadata: ScreenMetadata) -> CellNetwork:
        """Build the network; torch's global generator is seeded meanwhile."""

    @abstractmethod
    def _fit(self, screen: Screen, conditions: np.ndarray, schedule: Schedule = DEFAULT_SCHEDULE) -> None:
        """Train the network."""

    def _cells(self, screen: Screen, rows: np.ndarray) -> torch.Tensor:
        """Read cells onto the device of the network, float32 ``[n, G]``."""
        return torch.from_numpy(gather_rows(screen.X, rows)).to(self.module.device)

    def _set_scale(self, screen: Screen, sampler: PairSampler, rng: np.random.Generator) -> None:
        """Fit the scale of the input to random cells."""
        pairs = sampler.draw(_N_SCALE, rng)
        self.module.set_scale(self._cells(screen, np.concatenate([pairs.perturbed, pairs.control])))

    def _descend(self, loss: Callable[[], torch.Tensor], schedule: Schedule) -> None:
        """Take the steps of a schedule down a random loss, and add their values to ``history_``."""
        optimizer = torch.optim.Adam(self.module.parameters(), lr=schedule.learning_rate, fused=True)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.max_steps)
        history = self.history  # of a model that is trained further
        losses = [] if history is None else history["train_loss"]["train_loss"].tolist()
        steps = range(schedule.max_steps)
        for _ in track(steps, description="Training", disable=not schedule.progressbar, style="tqdm"):
            optimizer.zero_grad()
            value = loss()
            value.backward()
            optimizer.step()
            decay.step()
            losses.append(float(value.detach()))
        index = pd.RangeIndex(len(losses), name="step")
        self.history_ = {"train_loss": pd.DataFrame({"train_loss": losses}, index=index)}
