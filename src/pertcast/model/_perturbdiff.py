"""PerturbDiff as users call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pertcast._numbers import check_number, check_whole
from pertcast.data._messages import shorten
from pertcast.model._base import PopulationModel
from pertcast.model._embedding import EmbeddingMixin
from pertcast.model._task import identity_code
from pertcast.model._trajectory import TrajectoryMixin
from pertcast.module import PerturbDiffModule, resolve_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from mudata import MuData

    from pertcast.data import ConditionIndex, Screen
    from pertcast.data._query import ControlPopulation, ControlQuery
    from pertcast.data._split import ConditionSplit
    from pertcast.module import PerturbDiffConfig
    from pertcast.representation import RepresentationName

__all__ = ["PerturbDiff"]


class PerturbDiff(EmbeddingMixin, TrajectoryMixin, PopulationModel):
    r"""Diffusion over cell populations: forecasts the cells of a population under a perturbation.

    PerturbDiff (arXiv 2602.19685) denoises all cells of a set together and is trained to match the population, not
    each cell. Here each predicted cell starts from a control cell that an anchor, a forecast of the mean shift from
    the other contexts, has moved; the network adds what the anchor lacks, as far as held-out conditions confirm it.
    Contexts are described by their control cells alone, so unseen ones are the normal case.

    Parameters
    ----------
    adata
        Screen registered with :meth:`setup_anndata`.
    registry
        Registry of a saved model; used by :meth:`load`.
    preset
        ``"default"``, or ``"reference"`` for the published network, loss, guidance and number of steps, without an
        anchor. The other arguments replace single values of the preset; the values of ``"default"`` are given.
    representation
        Space of the diffusion: ``"genes"`` (default), or ``"pca"`` or ``"autoencoder"``, for very many genes.
    n_latent
        Axes of ``"pca"`` (50), the directions of shifts included, or length of the code of ``"autoencoder"``.
    anchor
        ``"shift"`` (default) or ``"none"``.
    zeros
        ``"hurdle"`` (default) gives predictions of non-negative data the zeros that sparse expression has, see
        :class:`pertcast.representation.Hurdle`; ``"relu"`` only cuts values below 0.
    n_input
        Principal components through which the network sees a cell (64), or ``"learned"`` for a learned first layer on
        all features.
    n_hidden
        Width of the network (128).
    n_layers
        Number of its blocks (3).
    n_heads
        Attention heads of a block (4).
    n_tokens
        Tokens that stand for the controls (8).
    schedule
        Noise schedule: ``"cosine"`` (default), ``"linear"`` or ``"discrete_linear"``.
    noise_share
        Share of training sets that are pure noise (0.5); the times of the others are uniform.
    data_scale
        Scale that expression is divided by; the typical standard deviation by default.
    self_conditioning
        Share of training sets that see a first prediction (0).
    condition_dropout
        Share of training sets without condition (0); guidance needs some.
    mse_weight
        Weight of the squared error beside the energy distance (0).
    unbiased
        Whether the energy distance is a U-statistic (True).
    embed_context
        Whether to embed identities of contexts (False); an unseen context is then an error.
    embed_batch
        Whether to embed identities of batches (False); an unseen batch is then an error.
    sampler
        How :meth:`predict` samples by default: ``"ddim"`` (default), ``"ancestral"`` or ``"dpmpp_2m"``.
    n_steps
        Steps of :meth:`predict` by default (1).
    guidance_scale
        Guidance of :meth:`predict` by default (0).
    set_size
        Cells of a set (64).
    n_controls
        Control cells that describe a set (128).
    n_sets
        Sets of a training batch (4).
    learning_rate
        Peak learning rate (1e-3).
    weight_decay
        Weight decay (0.01).
    ema_decay
        Decay of the averaged weights (0.98).
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
    >>> pc.PerturbDiff.setup_anndata(adata, cell_type_key="cell_type", batch_key="donor")
    >>> model = pc.PerturbDiff(adata)
    >>> model.train(max_epochs=1, enable_progress_bar=False)
    >>> model.predict(perturbations=["pert_0"], progressbar=False).n_vars
    60
    """

    _module_cls = PerturbDiffModule

    config: PerturbDiffConfig

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict[str, Any] | None = None,
        *,
        preset: Literal["default", "reference"] = "default",
        representation: RepresentationName | None = None,
        n_latent: int | None = None,
        anchor: Literal["shift", "none"] | None = None,
        zeros: Literal["hurdle", "relu"] | None = None,
        n_input: int | Literal["learned"] | None = None,
        n_hidden: int | None = None,
        n_layers: int | None = None,
        n_heads: int | None = None,
        n_tokens: int | None = None,
        schedule: Literal["cosine", "linear", "discrete_linear"] | None = None,
        noise_share: float | None = None,
        data_scale: float | None = None,
        self_conditioning: float | None = None,
        condition_dropout: float | None = None,
        mse_weight: float | None = None,
        unbiased: bool | None = None,
        embed_context: bool | None = None,
        embed_batch: bool | None = None,
        sampler: Literal["ddim", "ancestral", "dpmpp_2m"] | None = None,
        n_steps: int | None = None,
        guidance_scale: float | None = None,
        set_size: int | None = None,
        n_controls: int | None = None,
        n_sets: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        ema_decay: float | None = None,
        min_cells: int = 5,
        nonnegative: bool | None = None,
        seed: int | None = None,
    ) -> None:
        config = resolve_config(preset, locals())
        description = (
            f"PerturbDiff ({preset}) with n_perturbations: {{n_perturbations}}, representation: "
            f"{config.representation}, anchor: {config.anchor}, n_hidden: {config.n_hidden}, n_layers: "
            f"{config.n_layers}, n_steps: {config.n_steps}"
        )
        self._build(adata, registry, config, description, min_cells=min_cells, nonnegative=nonnegative, seed=seed)
        self.init_params_ = self._get_init_params(locals() | self._resolved_params())

    def _options(self, n_steps: int | None, guidance_scale: float | None) -> dict[str, Any]:
        n_steps = self.config.n_steps if n_steps is None else n_steps
        scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        n_steps, scale = check_whole("n_steps", n_steps), check_number("guidance_scale", scale, least=0)
        if scale != 0 and self.config.condition_dropout == 0:
            raise ValueError(
                f"guidance_scale={scale} needs a model that was trained without its condition at times. Train with "
                "`PerturbDiff(adata, condition_dropout=0.1)`, or leave `guidance_scale` at 0."
            )
        return {"steps": n_steps, "guidance_scale": scale}

    def _sampling(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"n_steps": options["steps"], "guidance_scale": options["guidance_scale"]}

    def _split(self, screen: Screen, validation_size: float) -> ConditionSplit:
        """Hold conditions out; contexts and batches that are embedded stay in training unless labels say otherwise."""
        split, index, config = super()._split(screen, validation_size), screen.index, self.config
        self._check_identities(index)
        if split.kind == "labels":
            return split
        lost = np.zeros(len(split.validation), dtype=bool)
        for codes, embedded in ((index.context, config.embed_context), (index.batch, config.embed_batch)):
            if embedded:
                lost |= ~np.isin(codes[split.validation], codes[split.train])
        return split.train_on(split.validation[lost], index)

    def _check_identities(self, index: ConditionIndex) -> None:
        """Raise if data that a trained model was loaded with have other contexts or batches than its embeddings."""
        embedded = {"context": self.config.embed_context, "batch": self.config.embed_batch}
        for column, names in {"context": index.context_names, "batch": index.batch_names}.items():
            known = self.identity_names_.get(column, names)
            if embedded[column] and known != names:
                raise ValueError(
                    f"This model embeds the identity of every {column}. It was trained on data with "
                    f"{shorten(known)}, but these hold {shorten(names)}. Train on data with the same ones, or make a "
                    "new model of these."
                )

    def _identity_codes(self, query: ControlQuery, population: ControlPopulation) -> tuple[int, int]:
        names = self.identity_names_
        wanted = {"context": population.context_name, "batch": population.batch}
        context, batch = (
            identity_code(names[column], self.trained_names_[column], wanted[column], column) if embedded else 0
            for column, embedded in (("context", self.config.embed_context), ("batch", self.config.embed_batch))
        )
        return context, batch
