"""The baseline that adds perturbations in a learned latent space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import mse_loss

from pertcast._log_dosage import LogDosage
from pertcast.baselines._network import DEFAULT_SCHEDULE, CellNetwork, NetworkBaseline, mlp
from pertcast.baselines._pairs import PairSampler
from pertcast.data._grammar import parse_perturbation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData
    from mudata import MuData

    from pertcast.baselines._network import Schedule
    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._request import Request
    from pertcast.data._screen import Screen, ScreenMetadata
    from pertcast.data._stand_ins import Unseen

__all__ = ["AdditiveNetwork", "LatentAdditive"]


class AdditiveNetwork(CellNetwork):
    r"""Encoder and decoder of cells, and an encoder of perturbations whose outputs are added up.

    The encoding of a perturbation p at dosage u is :math:`a_p + s(u)\, b_p`, with s the standardised log dosage. Both
    are free parameters of each perturbation, or functions of its vector (one hidden layer).

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
    n_perturbations
        Number of perturbations in the training data.
    vectors
        Vectors of these and any other perturbations, float32 ``[V, E]``, or None.
    """

    vectors: torch.Tensor

    def __init__(
        self,
        n_genes: int,
        n_latent: int,
        n_hidden: int,
        n_layers: int,
        *,
        n_perturbations: int,
        vectors: torch.Tensor | None = None,
    ) -> None:
        super().__init__(n_genes, n_latent, n_hidden, n_layers)
        self.perturbation: nn.Module
        if vectors is None:
            self.perturbation = nn.Embedding(n_perturbations, 2 * n_latent)
            nn.init.zeros_(self.perturbation.weight)
        else:
            seen = vectors[:n_perturbations]
            spread = seen.var(0, correction=0).mean().sqrt()
            self.register_buffer("vectors", (vectors - seen.mean(0)) / (spread if spread > 0 else 1.0))
            self.perturbation = mlp(vectors.shape[1], n_hidden, 1, 2 * n_latent)
        self.has_vectors = vectors is not None
        self.log_dosage = LogDosage()

    def encode_perturbation(self, ids: torch.Tensor, mask: torch.Tensor, dosage: torch.Tensor) -> torch.Tensor:
        """Sum the encodings of the parts of perturbations.

        Parameters
        ----------
        ids
            Ids of K parts, int64 ``[n, K]``.
        mask
            Which of them are there, bool ``[n, K]``.
        dosage
            Dosages, ``[n]``.

        Returns
        -------
        float32 ``[n, L]``.
        """
        level = self.log_dosage(dosage)
        base, slope = self.perturbation(self.vectors[ids] if self.has_vectors else ids).chunk(2, dim=-1)
        return ((base + level[:, None, None] * slope) * mask[..., None]).sum(1)


class LatentAdditive(NetworkBaseline):
    r"""Moves each control cell by what a latent additive network says a perturbation changes.

    An encoder :math:`z(x)` maps a control cell to L latent features, the encodings :math:`e_p` of the parts of the
    perturbation are added, and a decoder d maps the sum back to genes. It is trained with the squared error between
    :math:`d(z(x) + \sum_p e_p)` and a random perturbed cell of the population whose control x is, and between
    :math:`d(z(x))` and a second random control.

    The trained decoder returns the mean of the cells that a control cell may become: cells that it decodes are too
    alike. The prediction therefore is :math:`x + d(z(x) + \sum_p e_p) - d(z(x))`, which keeps what sets a control cell
    apart (its residual). It is no point prediction. Values are not clipped, so they may be below 0.

    The encoding of a perturbation is a free parameter, or a function of its vector where ``perturbation_embedding_key``
    was registered: only then can perturbations that were not measured be predicted. It is linear in the log of the
    dosage plus half the smallest positive one, so any dosage can be asked for; none has no effect, 0 included.

    The latent additive model is that of PerturBench (Wu et al. 2025, https://openreview.net/forum?id=PPPDuyiZaG), here
    with a linear output, controls among the targets, and the residual.

    Parameters
    ----------
    adata
        Screen that was registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Registry of a saved model, in place of the screen.
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
    >>> pc.baselines.LatentAdditive.setup_anndata(adata, cell_type_key="cell_type")
    >>> model = pc.baselines.LatentAdditive(adata)
    >>> model.train(max_steps=5, progressbar=False)
    >>> model.predict(perturbations=["pert_0+pert_1"], progressbar=False).n_vars
    20
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
        super().__init__(adata, registry, n_latent=n_latent, n_hidden=n_hidden, n_layers=n_layers, seed=seed)
        self.init_params_ = self._get_init_params(locals())

    def _network(self, metadata: ScreenMetadata) -> AdditiveNetwork:
        vectors = metadata.vocabulary.vectors
        return AdditiveNetwork(
            len(metadata.var_names),
            self.n_latent,
            self.n_hidden,
            self.n_layers,
            n_perturbations=metadata.vocabulary.n_trained,
            vectors=None if vectors is None else torch.from_numpy(np.asarray(vectors, dtype=np.float32)),
        )

    def _fit(self, screen: Screen, conditions: np.ndarray, schedule: Schedule = DEFAULT_SCHEDULE) -> None:
        module, index, device = self.module, screen.index, self.module.device
        rng = np.random.default_rng(self.seed)
        sampler = PairSampler.from_screen(screen, conditions)
        self._set_scale(screen, sampler, rng)
        names = [index.perturbation_names[code] for code in index.perturbation[conditions]]
        ids, mask = (torch.from_numpy(each).to(device) for each in screen.vocabulary.encode(names))
        dosage = torch.from_numpy(index.dosage[conditions]).to(device)
        module.log_dosage.fit(index.dosage[conditions])

        def loss() -> torch.Tensor:
            pairs = sampler.draw(schedule.batch_size, rng)
            perturbed, control, other = (module.standardise(self._cells(screen, rows)) for rows in pairs[1:])
            latent = module.encoder(control)
            population = torch.from_numpy(pairs.population).to(device)
            effect = module.encode_perturbation(ids[population], mask[population], dosage[population])
            return mse_loss(module.decoder(latent + effect), perturbed) + mse_loss(module.decoder(latent), other)

        self._descend(loss, schedule)

    def _check_requests(
        self, requests: Sequence[Request], metadata: ScreenMetadata, *, unseen: Unseen
    ) -> dict[str, tuple[str, ...]]:
        super()._check_requests(requests, metadata, unseen=unseen)
        if metadata.vocabulary.vectors is None:
            measured = self._measured(metadata)
            for request in requests:
                parts = parse_perturbation(request.perturbation, metadata.control)
                missing = [part for part in parts if part not in measured]
                if missing:
                    raise self._unmeasured("encoding", missing, request)
        return {}

    def _forecast(
        self, query: ControlQuery, population: ControlPopulation, request: Request
    ) -> Callable[[np.ndarray], np.ndarray]:
        module, device = self.module, self.module.device
        encoded = query.metadata.vocabulary.encode([request.perturbation])
        ids, mask = (torch.from_numpy(each).to(device) for each in encoded)
        dosage = torch.tensor([request.dosage], dtype=torch.float32, device=device)

        @torch.inference_mode()
        def forecast(values: np.ndarray) -> np.ndarray:
            cells = torch.from_numpy(values).to(device)
            return (cells + module.change(cells, module.encode_perturbation(ids, mask, dosage))).cpu().numpy()

        return forecast
