"""Flow matching with optimal transport as users call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pertcast.model._base import PopulationModel
from pertcast.model._embedding import EmbeddingMixin
from pertcast.model._steps import StepsMixin
from pertcast.module import FlowMatchingConfig, FlowMatchingModule, replace_values

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from pertcast.representation import RepresentationName

__all__ = ["FlowMatching"]


class FlowMatching(EmbeddingMixin, StepsMixin, PopulationModel):
    r"""Moves control cells to perturbed cells along a learned velocity, paired by optimal transport.

    The idea of CellFlow (Klein et al., bioRxiv 2025.04.11.648220): control and perturbed cells of a condition are
    paired by optimal transport, and a network learns the velocity of the straight line between the cells of a pair.
    Prediction integrates the velocity from the control cells. Network and conditioning are those of
    :class:`PerturbDiff`, not the published ones: the cells of a set move together.

    Parameters
    ----------
    adata
        Screen registered with :meth:`setup_anndata`.
    registry
        Registry of a saved model; used by :meth:`load`.
    representation
        Space of the flow: ``"pca"`` (default), ``"autoencoder"``, or ``"genes"``.
    n_latent
        Axes of ``"pca"``, the directions of shifts included, or length of the code of ``"autoencoder"``.
    solver
        ``"heun"`` (default; two calls of the network a step) or ``"euler"`` (one).
    n_steps
        Default number of steps of :meth:`predict`.
    anchor
        ``"none"`` (default) to start from control cells, ``"shift"`` to start from control cells that the anchor of
        :class:`PerturbDiff` has moved.
    zeros
        ``"hurdle"`` (default) gives predictions of non-negative data the zeros that sparse expression has, see
        :class:`pertcast.representation.Hurdle`; ``"relu"`` only cuts values below 0.
    n_input
        Principal components through which the network sees a cell, or ``"learned"`` for a learned first layer on all
        features.
    n_hidden
        Width of the network.
    n_layers
        Number of its blocks.
    n_heads
        Attention heads of a block.
    n_tokens
        Tokens that stand for the controls.
    data_scale
        Scale that expression is divided by; the typical standard deviation by default.
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
        Whether expression cannot be negative; read from the data by default.
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
    >>> pc.FlowMatching.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    >>> model = pc.FlowMatching(adata)
    >>> model.train(max_epochs=1, enable_progress_bar=False)
    >>> model.predict(perturbations=["pert_0"], n_steps=3, progressbar=False).n_vars
    60
    """

    _module_cls = FlowMatchingModule

    config: FlowMatchingConfig

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        representation: RepresentationName = "pca",
        n_latent: int = 50,
        solver: Literal["euler", "heun"] = "heun",
        n_steps: int = 5,
        anchor: Literal["none", "shift"] = "none",
        zeros: Literal["hurdle", "relu"] = "hurdle",
        n_input: int | Literal["learned"] = 64,
        n_hidden: int = 128,
        n_layers: int = 3,
        n_heads: int = 4,
        n_tokens: int = 8,
        data_scale: float | None = None,
        set_size: int = 64,
        n_controls: int = 128,
        n_sets: int = 4,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        ema_decay: float = 0.98,
        min_cells: int = 5,
        nonnegative: bool | None = None,
        seed: int | None = None,
    ) -> None:
        config = replace_values(FlowMatchingConfig(), locals())
        description = (
            f"FlowMatching with n_perturbations: {{n_perturbations}}, representation: {representation}, anchor: "
            f"{anchor}, n_hidden: {n_hidden}, n_layers: {n_layers}, solver: {solver}, n_steps: {n_steps}"
        )
        self._build(adata, registry, config, description, min_cells=min_cells, nonnegative=nonnegative, seed=seed)
        self.init_params_ = self._get_init_params(locals() | self._resolved_params())
