"""The latent space of an autoencoder, with the residual of the control cell."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from pertcast._seeds import seeded
from pertcast.representation._base import Representation

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AutoencoderSpace"]

logger = logging.getLogger(__name__)

_WIDTH = 512
_BATCH = 256
_EPOCHS = 50
_STEPS = (500, 2000)
_WARMUP = 50
_LEARNING_RATE = 1e-3


class AutoencoderSpace(Representation):
    r"""Code of an autoencoder with two hidden layers on either side and GELU, fitted by the mean squared error.

    The autoencoder of Conditional Monge Gap (arXiv 2504.08328) has layers of 512 units and a code of 50; a layer has
    no more units here than there are genes, but at least 128. Encoding is :math:`z = E(x)`. Decoding carries the
    residual of the cell s it starts from: :math:`x = s + D(z) - D(E(s))`, so a cell that keeps its code is unchanged.
    Neither is rounded by autocast.

    Parameters
    ----------
    n_genes
        Number of genes G.
    n_features
        Length K of the code, at most G.
    nonnegative
        Whether expression cannot be negative; then decoded values below 0 become 0.

    Examples
    --------
    A cell that keeps its code is unchanged, whatever the weights:

    >>> space = AutoencoderSpace(4, 2, nonnegative=True)
    >>> cells = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    >>> bool(torch.allclose(space.decode(space.encode(cells), cells), cells))
    True
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, n_genes: int, n_features: int, *, nonnegative: bool) -> None:
        super().__init__(n_genes, min(n_features, n_genes), nonnegative=nonnegative)
        width = min(_WIDTH, max(128, n_genes))
        self.encoder = _layers(n_genes, width, self.n_features)
        self.decoder = _layers(self.n_features, width, n_genes)
        self.requires_grad_(requires_grad=False)
        self.register_buffer("mean", torch.zeros(n_genes))
        self.register_buffer("spread", torch.ones(()))

    def fit(self, X: Any, *, seed: int = 0) -> float:
        """Train the autoencoder on cells; afterwards its weights are constants.

        50 passes over the cells in batches of 256, but between 500 and 2,000 steps, with AdamW, a warm-up and a cosine
        decay of the learning rate.

        Parameters
        ----------
        X
            Cells, ``[n, G]``, dense or sparse.
        seed
            Seed of the order of the cells and of the weights.

        Returns
        -------
        Share of the variance of the last cells drawn that the code explains, at most 1.
        """
        n_cells, rng = X.shape[0], np.random.default_rng(seed)
        first = _dense(X[np.sort(rng.permutation(n_cells)[:5000])])
        self.mean.copy_(first.mean(0))
        self.spread.fill_(max(float(first.var(0, correction=0).mean().sqrt()), 1e-6))
        with seeded(seed):
            for layer in [*self.encoder, *self.decoder]:
                if isinstance(layer, nn.Linear):
                    layer.reset_parameters()
        self.requires_grad_(requires_grad=True)
        size = min(_BATCH, n_cells)
        n_steps = int(np.clip(_EPOCHS * n_cells // size, *_STEPS))
        optimizer = torch.optim.AdamW(self.parameters(), lr=_LEARNING_RATE, weight_decay=1e-5)
        errors: list[float] = []
        with torch.enable_grad():
            for step in range(n_steps):
                cosine = 0.5 * (1 + math.cos(math.pi * step / n_steps))
                optimizer.param_groups[0]["lr"] = _LEARNING_RATE * min(1, (step + 1) / _WARMUP) * max(cosine, 0.01)
                cells = _dense(X[np.sort(rng.choice(n_cells, size, replace=False))]).to(self.mean)
                error = ((self.reconstruct_freely(self.encode(cells)) - cells) / self.spread).square().mean()
                optimizer.zero_grad()
                error.backward()
                optimizer.step()
                errors.append(error.item())
        self.requires_grad_(requires_grad=False)
        explained = 1 - float(np.mean(errors[-10:]))
        logger.info("The autoencoder explains %.0f %% of the variance after %d steps.", 100 * explained, n_steps)
        return explained

    def encode(self, cells: Tensor) -> Tensor:
        """Codes, [..., G] to [..., K]."""
        with torch.autocast(self.mean.device.type, enabled=False):
            return self.encoder((cells - self.mean) / self.spread)

    def bound(self, features: Tensor) -> Tensor:
        """Return the features: codes have no bounds, [..., K]."""
        return features

    def decode(self, features: Tensor, source: Tensor) -> Tensor:
        """Cells with given codes and the residual of their sources, [..., K] and [..., G] to [..., G]."""
        with torch.autocast(self.mean.device.type, enabled=False):
            change = self.decoder(features.to(self.mean.dtype)) - self.decoder(self.encode(source))
        cells = source + self.spread * change
        return cells.relu() if self.nonnegative else cells

    def reconstruct(self, features: Tensor) -> Tensor:
        """Cells with given codes and no residual: smoother than measured ones, [..., K] to [..., G]."""
        cells = self.reconstruct_freely(features)
        return cells.relu() if self.nonnegative else cells

    def reconstruct_freely(self, features: Tensor) -> Tensor:
        """Cells with given codes and no residual, also below 0, [..., K] to [..., G]."""
        with torch.autocast(self.mean.device.type, enabled=False):
            return self.mean + self.spread * self.decoder(features.to(self.mean.dtype))


def _layers(n_inputs: int, width: int, n_outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, n_outputs)
    )


def _dense(X: Any) -> Tensor:
    return torch.from_numpy(np.asarray(X if isinstance(X, np.ndarray) else X.toarray(), dtype=np.float32))
