"""The conditional Monge map as users call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pertcast.model._base import PopulationModel
from pertcast.model._budget import Budget, default_budget
from pertcast.model._embedding import LatentMixin
from pertcast.module import ConditionalMongeConfig, ConditionalMongeModule, replace_values

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from pertcast.representation import RepresentationName

__all__ = ["ConditionalMonge"]


class ConditionalMonge(LatentMixin, PopulationModel):
    r"""Moves each control cell by a map that depends on perturbation and dosage, fitted with the Monge gap.

    The method of Conditional Monge Gap (arXiv 2504.08328): a residual map in a latent space is fitted to the perturbed
    population by the Sinkhorn divergence, and the Monge gap keeps the cells from moving farther than they must. One
    map serves all conditions; a perturbation that was never measured is described by its vector.

    Parameters
    ----------
    adata
        Screen registered with :meth:`setup_anndata`.
    registry
        Registry of a saved model; used by :meth:`load`.
    representation
        Space of the map: ``"pca"`` (default), ``"autoencoder"`` as published, or ``"genes"``.
    n_latent
        Axes of ``"pca"``, the directions of shifts included, or length of the code of ``"autoencoder"``.
    n_hidden
        Width of the map.
    n_layers
        Number of its layers.
    n_embedding
        Features of an encoded perturbation.
    n_dosage
        Features of the encoded dosage.
    layer_norm
        Whether the layers of the map are normalised.
    cost
        Cost of moving a cell: ``"euclidean"`` (default) for the distance, ``"sqeuclidean"`` for its square.
    fit_weight
        Weight of the Sinkhorn divergence.
    fit_epsilon
        Its entropy, in units of the cost.
    gap_weight
        Weight of the Monge gap; 0 for none.
    gap_epsilon
        Its entropy, in units of the cost.
    anchor
        ``"none"`` (default) to start from control cells, ``"shift"`` to start from control cells that the anchor of
        :class:`PerturbDiff` has moved.
    zeros
        ``"hurdle"`` (default) gives predictions of non-negative data the zeros that sparse expression has, see
        :class:`pertcast.representation.Hurdle`; ``"relu"`` only cuts values below 0.
    data_scale
        Scale that expression is divided by, and so the unit of distances; the typical standard deviation of a feature
        by default.
    set_size
        Perturbed cells of a set.
    n_controls
        Control cells of a set.
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
    >>> pc.ConditionalMonge.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    >>> model = pc.ConditionalMonge(adata, n_latent=10)
    >>> model.train(max_epochs=1, enable_progress_bar=False)
    >>> model.predict(perturbations=["pert_0"], progressbar=False).n_vars
    60
    """

    _module_cls = ConditionalMongeModule

    config: ConditionalMongeConfig

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        representation: RepresentationName = "pca",
        n_latent: int = 50,
        n_hidden: int = 64,
        n_layers: int = 4,
        n_embedding: int = 50,
        n_dosage: int = 1,
        layer_norm: bool = False,
        cost: Literal["euclidean", "sqeuclidean"] = "euclidean",
        fit_weight: float = 1.0,
        fit_epsilon: float = 1.0,
        gap_weight: float = 1.0,
        gap_epsilon: float = 0.01,
        anchor: Literal["none", "shift"] = "none",
        zeros: Literal["hurdle", "relu"] = "hurdle",
        data_scale: float | None = None,
        set_size: int = 128,
        n_controls: int = 128,
        n_sets: int = 2,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-5,
        ema_decay: float = 0.98,
        min_cells: int = 5,
        nonnegative: bool | None = None,
        seed: int | None = None,
    ) -> None:
        config = replace_values(ConditionalMongeConfig(), locals())
        description = (
            f"ConditionalMonge with n_perturbations: {{n_perturbations}}, representation: {representation}, anchor: "
            f"{anchor}, n_hidden: {n_hidden}, n_layers: {n_layers}, cost: {cost}, gap_weight: {gap_weight:g}"
        )
        self._build(adata, registry, config, description, min_cells=min_cells, nonnegative=nonnegative, seed=seed)
        self.init_params_ = self._get_init_params(locals() | self._resolved_params())

    def _budget(self, n_conditions: int, max_epochs: int | None, steps_per_epoch: int | None) -> Budget:
        given = {"max_epochs": max_epochs, "steps_per_epoch": steps_per_epoch}
        return default_budget(n_conditions, **given, n_steps=1000, per_condition=4, shortest_epoch=50)
