"""The one-pass set transformer as users call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pertcast.model._base import PopulationModel
from pertcast.model._embedding import EmbeddingMixin
from pertcast.module import SetTransformerConfig, SetTransformerModule, replace_values

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from pertcast.representation import RepresentationName

__all__ = ["SetTransformer"]


class SetTransformer(EmbeddingMixin, PopulationModel):
    r"""Set transformer that maps control cells to perturbed cells in one pass.

    The idea of State (Adduri et al., bioRxiv 2025.06.26.661135): cells of a set attend to each other, the output is
    added to the control cells, and the energy distance between predicted and real sets is the loss. There is no noise
    and nothing to sample. Network and conditioning are those of :class:`PerturbDiff`, not the published ones.

    Parameters
    ----------
    adata
        Screen registered with :meth:`setup_anndata`.
    registry
        Registry of a saved model; used by :meth:`load`.
    representation
        Space of the cells: ``"genes"`` (default), ``"pca"`` or ``"autoencoder"``.
    n_latent
        Axes of ``"pca"``, the directions of shifts included, or length of the code of ``"autoencoder"``.
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
    >>> pc.SetTransformer.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    >>> model = pc.SetTransformer(adata)
    >>> model.train(max_epochs=1, enable_progress_bar=False)
    >>> model.predict(perturbations=["pert_0"], progressbar=False).n_vars
    60
    """

    _module_cls = SetTransformerModule

    config: SetTransformerConfig

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        representation: RepresentationName = "genes",
        n_latent: int = 50,
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
        config = replace_values(SetTransformerConfig(), locals())
        description = (
            f"SetTransformer with n_perturbations: {{n_perturbations}}, representation: {representation}, anchor: "
            f"{anchor}, n_hidden: {n_hidden}, n_layers: {n_layers}"
        )
        self._build(adata, registry, config, description, min_cells=min_cells, nonnegative=nonnegative, seed=seed)
        self.init_params_ = self._get_init_params(locals() | self._resolved_params())
