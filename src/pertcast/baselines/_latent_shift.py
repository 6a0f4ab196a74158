"""The baseline that shifts cells in the latent space of an autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import mse_loss

from pertcast.baselines._conditions import ConditionMeans
from pertcast.baselines._network import DEFAULT_SCHEDULE, CellNetwork, NetworkBaseline
from pertcast.baselines._pairs import PairSampler
from pertcast.baselines._shifts import ShiftBaseline

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from mudata import MuData

    from pertcast.baselines._network import Schedule
    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._request import Request
    from pertcast.data._screen import Screen, ScreenMetadata

__all__ = ["LatentShift", "VariationalNetwork"]

_KL_WEIGHT = 5e-5
_CHUNK = 4096


class VariationalNetwork(CellNetwork):
    """Variational autoencoder of cells, Gaussian with a fixed variance in the data space.

    Parameters
    ----------
    n_genes
        G.
    n_latent
        Latent features L.
    n_hidden
        Width of the hidden layers of encoder and decoder.
    n_layers
        Number of these layers.
    """

    def __init__(self, n_genes: int, n_latent: int, n_hidden: int, n_layers: int) -> None:
        super().__init__(n_genes, n_latent, n_hidden, n_layers, n_encoded=2 * n_latent)

    def negative_elbo(self, cells: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Half the squared error in scaled units plus the weighted Kullback-Leibler divergence, for each gene.

        Parameters
        ----------
        cells
            Cells, ``[n, G]``.
        noise
            Standard normal numbers, ``[n, L]``.
        """
        cells = self.standardise(cells)
        mean, log_variance = self.encoder(cells).chunk(2, dim=-1)
        log_variance = log_variance.clamp(-10, 10)
        predicted = self.decoder(mean + (log_variance / 2).exp() * noise)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
        return mse_loss(predicted, cells) / 2 + _KL_WEIGHT * divergence / cells.shape[1]


class LatentShift(NetworkBaseline, ShiftBaseline):
    r"""Moves each control cell by a shift in the latent space of an autoencoder.

    A variational autoencoder (encoder z, decoder d) is trained on perturbed and control cells. The latent shift
    :math:`\delta` of a perturbation is the mean of z over its cells minus the mean over the matched controls, averaged
    over batches and then over training contexts, which weigh the same. The prediction from a control cell x is
    :math:`x + d(z(x) + \delta) - d(z(x))`, which keeps what the decoder loses of the cell (its residual), or with
    ``residuals=False`` the decoded cell :math:`d(z(x) + \delta)`, as in scGen.

    A combination that was not measured gets the sum of the latent shifts of its parts, and what was measured at other
    dosages only that at the nearest one, on a log scale. Values are not clipped, so they may be below 0.

    The idea is that of scGen (Lotfollahi et al. 2019, doi:10.1038/s41592-019-0494-8), with its weight of the
    Kullback-Leibler divergence and a smaller network.

    Parameters
    ----------
    adata
        Screen that was registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Registry of a saved model, in place of the screen.
    residuals
        Whether to keep the residual of a control cell.
    n_latent
        Latent features L.
    n_hidden
        Width of the hidden layers of encoder and decoder.
    n_layers
        Number of these layers.
    seed
        Seed of weights and training.

    Raises
    ------
    TypeError
        If what should be a number is none.
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(10, n_genes=20, n_perturbations=2, combinations=0, seed=0)
    >>> pc.baselines.LatentShift.setup_anndata(adata, cell_type_key="cell_type")
    >>> model = pc.baselines.LatentShift(adata)
    >>> model.train(max_steps=5, progressbar=False)
    >>> model.predict(perturbations=["pert_0+pert_1"], progressbar=False).n_vars
    20
    """

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        residuals: bool = True,
        n_latent: int = 32,
        n_hidden: int = 128,
        n_layers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(adata, registry, n_latent=n_latent, n_hidden=n_hidden, n_layers=n_layers, seed=seed)
        self.residuals = bool(residuals)
        self.init_params_ = self._get_init_params(locals())

    def _network(self, metadata: ScreenMetadata) -> VariationalNetwork:
        return VariationalNetwork(len(metadata.var_names), self.n_latent, self.n_hidden, self.n_layers)

    def _fit(self, screen: Screen, conditions: np.ndarray, schedule: Schedule = DEFAULT_SCHEDULE) -> None:
        module, device = self.module, self.module.device
        rng = np.random.default_rng(self.seed)
        generator = torch.Generator().manual_seed(self.seed)
        sampler = PairSampler.from_screen(screen, conditions)
        self._set_scale(screen, sampler, rng)

        def loss() -> torch.Tensor:
            pairs = sampler.draw(max(1, schedule.batch_size // 2), rng)
            cells = self._cells(screen, np.concatenate([pairs.perturbed, pairs.control]))
            noise = torch.randn(len(cells), self.n_latent, generator=generator).to(device)
            return module.negative_elbo(cells, noise)

        self._descend(loss, schedule)
        self._set_shifts(ConditionMeans.from_screen(screen, conditions, self._encode(screen, sampler.all_rows())))

    @torch.inference_mode()
    def _encode(self, screen: Screen, rows: np.ndarray) -> np.ndarray:
        """Latent means of some cells of a screen, float32 ``[cells, L]``; 0 for the others."""
        latent = np.zeros((screen.X.shape[0], self.n_latent), dtype=np.float32)
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            latent[chunk] = self.module.encode(self._cells(screen, chunk)).cpu().numpy()
        return latent

    def _forecast(
        self, query: ControlQuery, population: ControlPopulation, request: Request
    ) -> Callable[[np.ndarray], np.ndarray]:
        module, device = self.module, self.module.device
        delta = torch.from_numpy(self._shift(query, population, request).astype(np.float32)).to(device)

        @torch.inference_mode()
        def forecast(values: np.ndarray) -> np.ndarray:
            cells = torch.from_numpy(values).to(device)
            if self.residuals:
                return (cells + module.change(cells, delta)).cpu().numpy()
            return module.decode(module.encode(cells) + delta).cpu().numpy()

        return forecast
