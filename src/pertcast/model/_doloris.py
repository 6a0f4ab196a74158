"""Doloris as users call it, and its first version, Unlasting."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from pertcast.data import screen_metadata_from_registry
from pertcast.data._grammar import parse_perturbation
from pertcast.data._stand_ins import find_stand_ins
from pertcast.model._base import PopulationModel
from pertcast.model._budget import Budget, default_budget
from pertcast.model._doloris_statistics import make_network, set_genes, set_levels
from pertcast.model._embedding import LatentMixin
from pertcast.model._steps import StepsMixin
from pertcast.module import DolorisConfig, DolorisModule, replace_values
from pertcast.network import DATABASES, read_edges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

    from pertcast.data import Screen, ScreenMetadata, ShiftTable
    from pertcast.data._request import Request
    from pertcast.data._stand_ins import Unseen
    from pertcast.representation import PrincipalComponents

__all__ = ["Doloris", "Unlasting"]

logger = logging.getLogger(__name__)

_NETWORKS = ("coexpression", "shuffled", *DATABASES)
_MIN_GENES = 2


class Doloris(LatentMixin, StepsMixin, PopulationModel):
    r"""Dual diffusion bridge: control cells are turned to noise, and the noise to perturbed cells.

    The method of Doloris (arXiv 2506.21107): a denoiser of control cells and one of perturbed cells share their
    Gaussian latent space. A control cell is inverted without randomness under its own condition, and decoded under the
    perturbation, so it keeps what sets it apart from other cells. Perturbed genes are read from a network of genes,
    and a model of silent genes says which genes a predicted cell expresses.

    Parameters
    ----------
    adata
        Screen registered with :meth:`setup_anndata`.
    registry
        Registry of a saved model; used by :meth:`load`.
    network
        Network of genes: a data frame with the columns ``source`` and ``target`` (names of genes), ``"coexpression"``
        (default) of the training controls, ``"shuffled"`` for that network with the names of genes dealt out anew,
        ``"collectri"`` or ``"dorothea"`` through decoupler, or None. It matters where perturbations are named like
        genes of the data.
    gene_embedding
        ``"pca"`` (default) for loadings of genes on the principal components of the training pseudobulks,
        ``"learned"`` for learned vectors.
    gene_readout
        What the network says of a perturbed gene: ``"node"`` (default) for the state of its node, ``"knockout"`` for
        what becomes of all nodes when its embedding is set to 0.
    n_gene_features
        Features of a gene embedding.
    n_heads
        Heads of graph attention.
    anchor
        ``"shift"`` (default) to start the perturbed end of the bridge from the forecast of the anchor of
        :class:`PerturbDiff`, or ``"none"``, as published.
    zeros
        How predictions of non-negative data get their zeros. ``"switch"`` (default): genes of the control cell are
        switched on and off until each is expressed with its predicted probability. ``"nearest"``: the same, with the
        rates of the nearest training condition. ``"bernoulli"``: every gene by itself, with its predicted probability.
        ``"hurdle"``: see :class:`pertcast.representation.Hurdle`. ``"relu"`` only cuts values below 0.
    n_input
        Principal components through which the network sees a cell, or ``"learned"`` for a learned first layer on all
        features.
    n_hidden
        Width of the network.
    n_layers
        Number of its layers.
    schedule
        Noise schedule: ``"cosine"`` (default), ``"linear"`` or ``"discrete_linear"``.
    n_steps
        Steps to noise, and as many back.
    n_refinements
        Refinements of each step to noise; more bring the way back closer to its inverse.
    data_scale
        Scale of the noise; the root of the mean variance of a gene by default.
    set_size
        Cells of a set.
    n_controls
        Control cells that describe a set.
    n_sets
        Sets of a training batch.
    learning_rate
        Peak learning rate.
    weight_decay
        Weight decay.
    ema_decay
        Decay of the averaged weights.
    min_cells
        Perturbed conditions with fewer cells are skipped with a warning.
    nonnegative
        Whether expression cannot be negative; read from the data by default. There are no masks where it can.
    seed
        Seed of weights and training; ``scvi.settings.seed``, or 0, by default.

    Raises
    ------
    TypeError
        If a value is of the wrong type.
    ValueError
        If a value is out of its range, no condition has enough cells, or a context has no controls.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(20, n_genes=60, n_perturbations=2, combinations=0, seed=0)
    >>> pc.Doloris.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    >>> model = pc.Doloris(adata, network=None)
    >>> model.train(max_epochs=1, steps_per_epoch=5, enable_progress_bar=False)
    >>> model.predict(perturbations=["pert_0"], progressbar=False).n_vars
    60
    """

    _module_cls = DolorisModule

    config: DolorisConfig
    module: DolorisModule

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        network: pd.DataFrame | Literal["coexpression", "shuffled", "collectri", "dorothea"] | None = "coexpression",
        gene_embedding: Literal["pca", "learned"] = "pca",
        gene_readout: Literal["node", "knockout"] = "node",
        n_gene_features: int = 32,
        n_heads: int = 2,
        anchor: Literal["shift", "none"] = "shift",
        zeros: Literal["switch", "nearest", "bernoulli", "hurdle", "relu"] = "switch",
        n_input: int | Literal["learned"] = 64,
        n_hidden: int = 256,
        n_layers: int = 3,
        schedule: Literal["cosine", "linear", "discrete_linear"] = "cosine",
        n_steps: int = 10,
        n_refinements: int = 1,
        data_scale: float | None = None,
        set_size: int = 64,
        n_controls: int = 128,
        n_sets: int = 2,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        ema_decay: float = 0.98,
        min_cells: int = 5,
        nonnegative: bool | None = None,
        seed: int | None = None,
    ) -> None:
        if isinstance(network, str) and network not in _NETWORKS:
            raise ValueError(f"network is {network!r}; it must be a data frame of edges, None, or one of {_NETWORKS}.")
        network = read_edges(network) if isinstance(network, pd.DataFrame) else network
        config = replace_values(DolorisConfig(), locals())
        kind = "given" if isinstance(network, pd.DataFrame) else network
        description = (
            f"{type(self).__name__} with n_perturbations: {{n_perturbations}}, network: {kind}, anchor: {anchor}, "
            f"zeros: {zeros}, n_hidden: {n_hidden}, n_layers: {n_layers}, n_steps: {n_steps}"
        )
        self._network = network
        self._build(adata, registry, config, description, min_cells=min_cells, nonnegative=nonnegative, seed=seed)
        self.init_params_ = self._get_init_params(locals() | self._resolved_params())

    def get_network(self) -> pd.DataFrame:
        """Edges of the network of genes along which messages pass.

        Returns
        -------
        One row for each edge, with the names of its genes in the columns ``source`` and ``target``.

        Raises
        ------
        RuntimeError
            If the model is not trained: a network of co-expression is then not known.
        """
        self._check_if_trained(warn=False, message="The network is known when the model is trained: call `train`.")
        metadata, network = screen_metadata_from_registry(self.registry), self.module.average.network
        encoder: Any = network.get_submodule("condition")
        sender, receiver = encoder.genes.edges.cpu().numpy()
        each = sender < receiver
        names = metadata.var_names.astype(str)
        return pd.DataFrame({"source": names[sender[each]], "target": names[receiver[each]]})

    def _set_statistics(
        self, screen: Screen, conditions: np.ndarray, table: ShiftTable, components: PrincipalComponents
    ) -> None:
        super()._set_statistics(screen, conditions, table, components)
        set_levels(self.module, screen, conditions, seed=self.seed)
        edges = None
        if self._genes(screen.metadata):
            edges = make_network(self._network, screen, conditions, seed=self.seed)
        elif self._network is not None:
            logger.log(
                logging.INFO if isinstance(self._network, str) and self._network == "coexpression" else logging.WARNING,
                "The network of genes is not used: fewer than %d perturbations have the name of a gene of the data.",
                _MIN_GENES,
            )
        set_genes(self.module, screen, table, edges)

    def _genes(self, metadata: ScreenMetadata) -> dict[str, int]:
        """Places of the genes of the data, if enough perturbations of the vocabulary are named like them."""
        genes = {str(name): place for place, name in enumerate(metadata.var_names)}
        named = sum(name in genes for name in metadata.vocabulary.names)
        return genes if named >= _MIN_GENES else {}

    def _readable(self, metadata: ScreenMetadata) -> dict[str, int]:
        """Genes whose perturbation can be predicted from their node alone."""
        return {} if metadata.vocabulary.vectors is not None else self._genes(metadata)

    def _is_known(self, metadata: ScreenMetadata) -> np.ndarray:
        readable = self._readable(metadata)
        return super()._is_known(metadata) | np.array([name in readable for name in metadata.vocabulary.names])

    def _part_ids(self, metadata: ScreenMetadata) -> dict[str, int]:
        names, readable = metadata.vocabulary.names, self._readable(metadata)
        ids = {name: len(names) + place for name, place in readable.items()}
        return ids | {name: code for code, name in enumerate(names)}

    def _check_requests(
        self, requests: Sequence[Request], metadata: ScreenMetadata, *, unseen: Unseen
    ) -> dict[str, tuple[str, ...]]:
        measured, readable = self._measured(metadata), self._readable(metadata)
        names = []
        for request in requests:
            parts = parse_perturbation(request.perturbation, metadata.control)
            rest = [part for part in parts if part in measured or part not in readable]
            names += ["+".join(rest)] if rest else []
        return find_stand_ins(names, metadata.vocabulary, unseen, measured=measured)

    def _budget(self, n_conditions: int, max_epochs: int | None, steps_per_epoch: int | None) -> Budget:
        given = {"max_epochs": max_epochs, "steps_per_epoch": steps_per_epoch}
        return default_budget(n_conditions, **given, n_steps=400, per_condition=4, shortest_epoch=50)


class Unlasting(Doloris):
    """First version of :class:`Doloris`: learned gene embeddings, knocked-out nodes, independently drawn silent genes.

    See :class:`Doloris` for all arguments; only the defaults of ``gene_embedding``, ``gene_readout`` and ``zeros``
    differ.

    Parameters
    ----------
    adata
        As for :class:`Doloris`.
    registry
        As for :class:`Doloris`.
    gene_embedding
        ``"learned"``.
    gene_readout
        ``"knockout"``.
    zeros
        ``"bernoulli"``.
    **options
        Further arguments of :class:`Doloris`.

    Raises
    ------
    TypeError, ValueError
        As :class:`Doloris`.

    Examples
    --------
    >>> import pertcast as pc
    >>> adata = pc.data.simulate_screen(20, n_genes=60, n_perturbations=2, combinations=0, seed=0)
    >>> pc.Unlasting.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    >>> model = pc.Unlasting(adata, network=None, n_hidden=16)
    >>> model.config.gene_embedding, model.config.gene_readout, model.config.zeros
    ('learned', 'knockout', 'bernoulli')
    >>> model.train(max_epochs=1, steps_per_epoch=5, enable_progress_bar=False)
    >>> model.predict(perturbations=["pert_0"], progressbar=False).n_vars
    60
    """

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        gene_embedding: Literal["pca", "learned"] = "learned",
        gene_readout: Literal["node", "knockout"] = "knockout",
        zeros: Literal["switch", "nearest", "bernoulli", "hurdle", "relu"] = "bernoulli",
        **options: Any,
    ) -> None:
        super().__init__(
            adata, registry, gene_embedding=gene_embedding, gene_readout=gene_readout, zeros=zeros, **options
        )
        options |= self._resolved_params()
        self.init_params_ = self._get_init_params(locals())
